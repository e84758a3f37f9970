// What one namespace asks for, whoever asks in its name.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AtomNumber, AtomSpec } from '#identity/atoms.ts';
import { parseCidr } from '#net/cidr.ts';
import { Allowances } from './allowance.ts';

function block(text: string): AtomSpec {
  const parsed = parseCidr(text);
  assert.ok(parsed);
  return { kind: 'addresses', includes: [parsed.cidr], excepts: [] };
}

/** Room for one block in each namespace. */
function makeAllowances(): Allowances {
  const numbers = new Map<string, AtomNumber>();
  const acquire = (spec: AtomSpec): AtomNumber => {
    const key = JSON.stringify(spec);
    const number = numbers.get(key) ?? numbers.size;
    numbers.set(key, number);
    return number;
  };
  const most = { blocks: 1, labels: 0 };
  return new Allowances({ acquire, release: () => undefined }, { namespace: most, node: { blocks: 99, labels: 0 } });
}

test('all who ask in the name of a namespace have one allowance, and it is forgotten with the last of them', () => {
  const allowances = makeAllowances();
  const [first, second, other] = [allowances.join('shop'), allowances.join('shop'), allowances.join('bank')];
  const atom = first.acquire(block('10.0.0.0/8'));
  assert.ok(atom !== null);
  assert.equal(second.acquire(block('11.0.0.0/8')), null);
  assert.ok(other.acquire(block('11.0.0.0/8')) !== null);
  allowances.leave(second);
  assert.equal(allowances.join('shop'), first, 'one is left');
  first.release(atom);
  for (const one of [first, first]) allowances.leave(one);
  const fresh = allowances.join('shop');
  assert.notEqual(fresh, first);
  assert.ok(fresh.acquire(block('12.0.0.0/8')) !== null);
});
