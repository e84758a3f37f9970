// Label selectors: Kubernetes' meaning of the four operators, absent keys and hostile keys included.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EVERYTHING, type Requirement, selectorMatches } from './selector.ts';

const LABELS = { app: 'web', empty: '', ['__proto__']: 'x' };

const CASES: readonly (readonly [Requirement, boolean])[] = [
  [{ op: 'In', key: 'app', values: ['web', 'api'] }, true],
  [{ op: 'In', key: 'app', values: ['api'] }, false],
  [{ op: 'In', key: 'none', values: ['web'] }, false],
  [{ op: 'In', key: 'empty', values: [''] }, true],
  [{ op: 'In', key: 'none', values: [''] }, false],
  [{ op: 'NotIn', key: 'app', values: ['api'] }, true],
  [{ op: 'NotIn', key: 'app', values: ['web'] }, false],
  [{ op: 'NotIn', key: 'none', values: ['web'] }, true],
  [{ op: 'Exists', key: 'empty' }, true],
  [{ op: 'Exists', key: 'none' }, false],
  [{ op: 'DoesNotExist', key: 'none' }, true],
  [{ op: 'DoesNotExist', key: 'app' }, false],
  [{ op: 'Exists', key: 'constructor' }, false],
  [{ op: 'DoesNotExist', key: 'toString' }, true],
  [{ op: 'In', key: '__proto__', values: ['x'] }, true],
];

for (const [requirement, matches] of CASES) {
  test(`selector ${JSON.stringify(requirement)} ${matches ? 'matches' : 'does not match'}`, () => {
    assert.equal(selectorMatches({ requirements: [requirement] }, LABELS), matches);
  });
}

test('no requirement matches everything, and several must all hold', () => {
  assert.ok(selectorMatches(EVERYTHING, {}));
  const both: Requirement[] = [
    { op: 'Exists', key: 'app' },
    { op: 'Exists', key: 'none' },
  ];
  assert.equal(selectorMatches({ requirements: both }, LABELS), false);
});
