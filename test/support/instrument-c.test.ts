// Each branch of a source gets its store, and nothing else changes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Branch, instrument } from './instrument-c.ts';

const SOURCE = `/* if (this) is no code; */
static int f(int a)
{
	int list[] = {1, 2};

	if (a) /* not { this } */
		return 1;
	for (int i = 0; i < a; i++) {
		if (i == 2)
			break;
		else if (i)
			continue;
		else
			g(list);
	}
	switch (a) {
	case 1:
		return 2;
	default:
		break;
	}
#pragma unroll
	while (a)
		a--;
	return 0;
}
`;

test('a store stands in every branch, and in the else that is not written', () => {
  const branches: Branch[] = [];
  const made = instrument('f.h', SOURCE, branches);
  const lines = branches.map(({ line, kind }) => `${line}${kind === 'taken' ? '' : ' else'}`);
  const expected = ['4', '7', '6 else', '9', '10', '11', '12', '14', '18', '20', '24'];
  assert.deepEqual(lines, expected);
  assert.equal(made.split('\n').length, SOURCE.split('\n').length);
  const stores = [...made.matchAll(/ TAKE\((\d+)\);/g)].map(([, number]) => Number(number));
  assert.deepEqual(
    stores.toSorted((a, b) => a - b),
    branches.map((_, index) => index),
  );
  const without = made.replace(/ else \{ TAKE\(\d+\);\}| TAKE\(\d+\);/g, '');
  assert.equal(without.replace(/[\s{}]/g, ''), SOURCE.replace(/[\s{}]/g, ''));
});
