// What a change of rules leaves as it is, is what it would be if all rules were put together again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { IdentityEntry } from '#identity/identities.ts';
import type { Action } from '#policy/model.ts';
import { fails, holds } from '#test/support/property.ts';
import { flatten } from './flatten.ts';
import { orderOf, type Part } from './parts.ts';
import type { PortTable } from './plan.ts';
import { leaves, type Touch, touchesOf } from './touches.ts';

type Drawn = Pick<Part, 'action' | 'ranges'> & { readonly fate: 'stays' | 'goes' | 'comes' };

const port = fc.nat({ max: 20 });
const range = fc.tuple(port, port).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
const drawn: fc.Arbitrary<Drawn> = fc.record({
  action: fc.constantFrom<Action>('allow', 'deny'),
  ranges: fc.oneof({ weight: 3, arbitrary: fc.tuple(range) }, fc.array(range, { maxLength: 3 })),
  fate: fc.constantFrom('stays', 'goes', 'comes'),
});

function part(at: number, { action, ranges }: Pick<Part, 'action' | 'ranges'>): Part {
  return { serial: at, key: at, action, rule: at, atoms: [1], selects: true, port: null, ranges };
}

function tableOf(parts: readonly Part[]): PortTable {
  return flatten([parts.map((one) => ({ ...one, order: orderOf(one) }))], 'first');
}

/** `seen`: what is seen of a change. Returns how often it left the table as it was, of those that it was asked for. */
function staysWhereLeft(seen: (touch: Touch) => Touch, count: { left: number; all: number }): fc.IProperty<[Drawn[]]> {
  return fc.property(fc.array(drawn, { minLength: 1, maxLength: 8, size: 'max' }), (list) => {
    const parts = list.map((each, at) => ({ fate: each.fate, part: part(at, each) }));
    const of = (...fates: readonly Drawn['fate'][]): Part[] => {
      return parts.filter(({ fate }) => fates.includes(fate)).map((each) => each.part);
    };
    const before = tableOf(of('stays', 'goes'));
    count.all++;
    if (!leaves(before, seen({ gone: of('goes'), come: of('comes') }))) return;
    count.left++;
    assert.deepEqual(tableOf(of('stays', 'comes')), before);
  });
}

test('a table is left alone only where all rules put together again would make the same one', (context) => {
  const count = { left: 0, all: 0 };
  holds(
    context,
    staysWhereLeft((touch) => touch, count),
    3000,
  );
  assert.ok(count.left * 20 > count.all, `${count.left} of ${count.all} were left alone`);
  fails(
    staysWhereLeft(({ come }) => ({ gone: [], come }), count),
    1000,
  );
  fails(
    staysWhereLeft(({ gone }) => ({ gone, come: [] }), count),
    1000,
  );
});

function identity(number: number, unknown = false): IdentityEntry {
  return { number, atoms: [1], unknown, members: 1, origin: null };
}

test('a change is known by whom it matches, but for those of whom more has to be known', () => {
  const [plain, other, unknown] = [identity(1), identity(2), identity(3, true)];
  const identifier = { withAtom: (atom: number) => (atom === 1 ? [plain, other, unknown] : []) };
  const range = [{ first: 1, last: 2 }];
  const [gone, come] = [part(1, { action: 'allow', ranges: range }), part(2, { action: 'allow', ranges: range })];
  const base = { ...part(3, { action: 'allow', ranges: range }), atoms: null };
  const touches = touchesOf({ gone: [gone], come: [come, base] }, identifier, new Set([other]));
  assert.deepEqual([...(touches ?? [])], [[plain, { gone: [gone], come: [come] }]]);
  const named = { ...come, port: { atom: 7, protocol: 6 } } as Part;
  assert.equal(touchesOf({ gone: [], come: [named] }, identifier, new Set()), null);
});
