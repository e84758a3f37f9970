// docs/testing.md and the holes of support/holes.ts say the same, and each fault still has its place. That tests find the
// faults is shown by `make teeth`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { HOLES } from './support/holes.ts';

const ROOT = join(import.meta.dirname, '..');

function textOf(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8');
}

test('docs/testing.md lists each hole with its test and the files of its fault', () => {
  const [, section = ''] = textOf('docs/testing.md').split('\n## Holes and faults\n');
  const rows = [
    ...(section.split('\n## ')[0] ?? '').matchAll(/^\| ([^|]+?) +\| `([^`]+)`: ([^|]+?) +\| ([^|]+?) +\|$/gm),
  ];
  const said = rows.map(([, rule, file, name, faults]) => [rule, file, name, faults]);
  const known = HOLES.map(({ rule, file, test: name, faults }) => {
    return [rule, file, name, [...new Set(faults.map((fault) => `\`${fault.file}\``))].join(', ')];
  });
  assert.deepEqual(said, known);
});

for (const { rule, file, test: name, faults } of HOLES) {
  test(`the fault against '${rule}' has its place`, () => {
    for (const { file: changed, from } of faults) assert.ok(textOf(changed).includes(from), `${changed}: ${from}`);
    // Cases of the suite, and changes, stand elsewhere than the file that runs them.
    if (!/conformance|half-served/.test(file)) assert.ok(textOf(file).includes(name), name);
  });
}
