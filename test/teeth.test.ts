// The tests have teeth: with enforcement broken in the kernel, the same file that is green now turns red.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { needsRoot } from '#test/support/needs.ts';
import { SABOTAGE_VARIABLE, SABOTAGES } from '#test/support/sabotage.ts';

/** The whole way, from a manifest to a packet: what breaks anywhere on it must show here. */
const FILE = join(import.meta.dirname, 'vertical.test.ts');

/** What the first failing assertion then says. */
const SYMPTOMS = {
  hooks: 'an answer',
  allow: "'allow'",
  rules: 'table-error',
} as const;

function run(sabotage: string): { readonly green: boolean; readonly output: string } {
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', FILE], {
    env: { ...environment, [SABOTAGE_VARIABLE]: sabotage },
    encoding: 'utf8',
  });
  return { green: status === 0, output: stdout + stderr };
}

test('needs root: nothing broken is green', needsRoot, () => {
  const { green, output } = run('');
  assert.ok(green, output);
});

for (const sabotage of SABOTAGES) {
  test(`needs root: sabotage of '${sabotage}' turns the tests red`, needsRoot, () => {
    const { green, output } = run(sabotage);
    assert.ok(!green, `still green:\n${output}`);
    assert.match(output, /^not ok \d+ - needs root: a deny policy in a file drops a packet/m);
    // Red because of what a packet met, not because the sabotage fell over.
    assert.match(output, new RegExp(SYMPTOMS[sabotage]));
  });
}
