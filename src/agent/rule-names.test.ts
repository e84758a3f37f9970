// Rule numbers and their names: live, gone, and never given out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RuleInfo, Step } from '#compile/plan.ts';
import type { RuleId, Source } from '#policy/model.ts';
import { RuleNames } from './rule-names.ts';

const SOURCE: Source = {
  ...{ dialect: 'kubernetes', kind: 'NetworkPolicy', namespace: 'shop', name: 'db' },
  ...{ path: 'spec.ingress[0]', file: 'db.yaml', line: 7 },
};

function rule(number: number, id: string, info: Partial<RuleInfo> = {}): Step {
  const base = { id: id as RuleId, direction: 'ingress', action: 'allow', source: SOURCE, policies: [] } as const;
  return { kind: 'rule', rule: number, value: { ...base, places: info.policies?.length ?? 1, ...info } };
}

function isGone(number: number): Step {
  return { kind: 'rule', rule: number, value: null };
}

test('a rule is named with its own place, a default deny with those of the policies that isolate', () => {
  const names = new RuleNames();
  names.follow([rule(1, 'allow'), rule(2, 'deny', { action: 'deny', source: null, policies: [SOURCE, SOURCE] })], 0);
  assert.deepEqual(names.name(1).places, [
    { object: 'NetworkPolicy shop/db', path: 'spec.ingress[0]', file: 'db.yaml', line: 7 },
  ]);
  assert.equal(names.name(2).places.length, 2);
  assert.equal(names.size, 2);
});

test('a rule that is gone keeps its name for events still on their way', () => {
  const names = new RuleNames();
  names.follow([rule(1, 'allow')], 0);
  names.follow([isGone(1)], 0);
  assert.equal(names.size, 0);
  assert.equal(names.name(1).id, 'allow');
});

test('of rules that are gone the oldest are forgotten: a default deny of a thousand policies is as much as their rules', () => {
  const names = new RuleNames();
  const numbers = Array.from({ length: 5000 }, (_, index) => index + 1);
  names.follow(
    numbers.flatMap((number) => [rule(number, `allow-${number}`), isGone(number)]),
    0,
  );
  assert.equal(names.name(1).id, 'unknown-rule/1');
  assert.equal(names.name(4990).id, 'allow-4990');
  const policies = Array.from({ length: 1000 }, () => SOURCE);
  for (let number = 5001; number <= 5005; number++) {
    names.follow([rule(number, `deny-${number}`, { action: 'deny', source: null, policies }), isGone(number)], 0);
  }
  names.follow([], 60_000);
  assert.equal(names.name(4990).id, 'unknown-rule/4990');
  assert.equal(names.name(5001).id, 'unknown-rule/5001');
  assert.equal(names.name(5002).more, 1000 - 8);
});

test('default denies that ten changes of a thousand policies took away are named while their drops may still be told', () => {
  const names = new RuleNames();
  const policies = Array.from({ length: 1000 }, () => SOURCE);
  for (let number = 1; number <= 100; number++) {
    names.follow([rule(number, `deny-${number}`, { action: 'deny', source: null, policies }), isGone(number)], 1000);
  }
  names.follow([], 3500);
  assert.equal(names.name(1).id, 'deny-1');
  names.follow([], 60_000);
  assert.equal(names.name(1).id, 'unknown-rule/1');
  assert.equal(names.name(100).id, 'deny-100');
});

test('a default deny that goes is not put together for that', () => {
  const names = new RuleNames();
  const info = {
    action: 'deny',
    source: null,
    places: 10_000,
    get policies(): never {
      throw new Error('put together');
    },
  } as const;
  const [deny] = [rule(3, 'deny', { policies: [] })];
  assert.ok(deny?.kind === 'rule' && deny.value !== null);
  const value = Object.defineProperties({ ...deny.value }, Object.getOwnPropertyDescriptors(info));
  names.follow([{ ...deny, value }], 0);
  names.follow([isGone(3)], 0);
  assert.equal(names.size, 0);
});

test('a number that nobody gave out is named as such', () => {
  assert.deepEqual(new RuleNames().name(9), { number: 9, id: 'unknown-rule/9', action: null, places: [], more: 0 });
});

test('a default deny of ten thousand policies is named by the first of them, and how many more there are', () => {
  const policies = Array.from({ length: 10_000 }, (_, index) => ({ ...SOURCE, name: `p${index}` }));
  const names = new RuleNames();
  let sorted = 0;
  const info = {
    action: 'deny',
    source: null,
    get policies() {
      sorted++;
      return policies;
    },
  } as const;
  const [deny] = [rule(3, 'deny')];
  assert.ok(deny?.kind === 'rule' && deny.value !== null);
  const value = Object.defineProperties({ ...deny.value }, Object.getOwnPropertyDescriptors(info));
  names.follow([{ ...deny, value }], 0);
  const named = names.name(3);
  assert.deepEqual([named.places.length, named.more], [8, 9992]);
  assert.ok(JSON.stringify(named).length < 2000);
  for (let event = 0; event < 1000; event++) names.name(3);
  assert.equal(sorted, 1, 'once, not for each event');
  names.follow([rule(3, 'deny', { action: 'deny', source: null, policies: policies.slice(0, 2) })], 0);
  assert.deepEqual([names.name(3).places.length, names.name(3).more], [2, 0]);
});
