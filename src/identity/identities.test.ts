// Identities that come to equal one another when atoms go.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Identities } from './identities.ts';

/** Processor time: several times what it takes here, a tenth of what it takes where each is looked for among the others. */
const LIMIT_MS = 6000;
const MANY = 200_000;

test('a hundred thousand and more that have become equal go in the time that it takes to look at each', () => {
  const identities = new Identities();
  const [kept, wide] = [1, 2];
  identities.join(identities.of([kept], false));
  for (let atom = 3; atom < 3 + MANY; atom++) identities.join(identities.of([wide, atom], false));
  const started = process.cpuUsage();
  identities.dropAtoms(Array.from({ length: MANY }, (_, index) => 3 + index));
  identities.dropDead(MANY);
  assert.equal(identities.twins, MANY - 1);
  assert.equal(identities.withAtom(wide).length, MANY);
  for (const { number } of [...identities.values()].slice(1)) identities.leave(number);
  assert.equal(identities.retireEmpty().length, MANY);
  const took = process.cpuUsage(started).user / 1000;
  assert.deepEqual([identities.twins, identities.size, identities.withAtom(wide)], [0, 1, []]);
  assert.deepEqual(identities.of([kept], false), [...identities.values()][0]);
  assert.ok(took < LIMIT_MS, `${Math.round(took)} ms`);
});

test('of equal ones some may go: the others are as many twins as are left', () => {
  const identities = new Identities();
  const made = [1, 2, 3, 4].map((atom) => identities.of([atom], false));
  for (const one of made) identities.join(one);
  identities.dropAtoms([1, 2, 3, 4]);
  identities.dropDead(4);
  assert.equal(identities.twins, 3);
  for (const { number } of made.slice(0, 2)) identities.leave(number);
  assert.deepEqual(identities.retireEmpty(), made.slice(0, 2));
  assert.equal(identities.twins, 1);
  assert.equal(identities.of([], false), made[2]);
});

test('atoms that mean nothing go from some identities at a time, from each all of them', () => {
  const identities = new Identities();
  const made = [3, 4, 5].map((own) => identities.of([1, 2, own], false));
  for (const one of made) identities.join(one);
  identities.dropAtoms([1, 2]);
  const states = Array.from({ length: 4 }, () => {
    identities.dropDead(1);
    return [identities.hasDead, made.filter(({ atoms }) => atoms.includes(1) || atoms.includes(2)).length];
  });
  // Of the second atom nobody is left, but that is to be seen.
  assert.deepEqual(states.slice(0, 2), [
    [true, 2],
    [true, 1],
  ]);
  assert.deepEqual(states[3], [false, 0]);
  assert.deepEqual(identities.of([4], false), made[1]);
});

test('an identity that got other atoms meanwhile, and is nobody’s any more, does not come back', () => {
  const identities = new Identities();
  const one = identities.of([1, 2], false);
  identities.join(one);
  identities.dropAtoms([1]);
  identities.gain(one, [2, 3]);
  identities.leave(one.number);
  assert.deepEqual(identities.retireEmpty(), [one]);
  identities.dropDead(10);
  assert.notEqual(identities.of([2, 3], false), one);
});
