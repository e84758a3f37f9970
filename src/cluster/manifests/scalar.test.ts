// Scalars as kubectl reads them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolvePlain } from './scalar.ts';

const SCALARS: readonly (readonly [string, unknown])[] = [
  ['', null],
  ['~', null],
  ['Null', null],
  ['nULL', 'nULL'],
  ['yes', true],
  ['On', true],
  ['TRUE', true],
  ['no', false],
  ['OFF', false],
  ['oN', 'oN'],
  ['y', 'y'],
  ['N', 'N'],
  ['0', 0],
  ['80', 80],
  ['-1', -1],
  ['+5', 5],
  ['012', 10],
  ['0o12', 10],
  ['-012', -10],
  ['08', 8],
  ['0x1F', 31],
  ['0b101', 5],
  ['1_000', 1000],
  ['1.5', 1.5],
  ['1.', 1],
  ['.5', 0.5],
  ['1e3', 1000],
  ['.inf', Number.POSITIVE_INFINITY],
  ['-.inf', Number.NEGATIVE_INFINITY],
  ['.nan', Number.NaN],
  ['.', '.'],
  ['-', '-'],
  ['1.2.3', '1.2.3'],
  ['10.0.0.0/8', '10.0.0.0/8'],
  ['1:20', '1:20'],
  ['2026-01-02', '2026-01-02'],
  ['0x', '0x'],
  ['1e', '1e'],
  ['constructor', 'constructor'],
];

for (const [text, value] of SCALARS) {
  test(`a plain scalar is read as kubectl reads it: ${text === '' ? '(empty)' : text}`, () => {
    assert.deepEqual(resolvePlain(text), value);
  });
}
