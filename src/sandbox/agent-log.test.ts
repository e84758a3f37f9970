// People are shown the message of an agent's failure, not the stack that stands around it in the log.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { lastWords } from './agent-log.ts';

const LOGS: readonly (readonly [what: string, log: string, words: string])[] = [
  ['a failure', 'Error: no\n    at main (file:///a.ts:1:2)\nmoat agent failed: no\n', 'no'],
  ['a message of two lines', 'moat agent failed: one\ntwo\n', 'one\ntwo'],
  ['two failures, the later one', 'moat agent failed: old\nmoat agent failed: new\n', 'new'],
  ['a mark inside a line', 'it said moat agent failed: x\n', 'it said moat agent failed: x'],
  ['an end without a failure', 'first\nSegmentation fault\n\n', 'Segmentation fault'],
  ['silence', '', 'it said nothing'],
];

for (const [what, log, words] of LOGS) {
  test(`the last words of ${what}`, () => assert.equal(lastWords(log), words));
}

test('an agent that can not start says why, in one message without a stack', () => {
  const main = join(import.meta.dirname, '../agent/main.ts');
  const options = { instance: 'none', node: 'one', netns: '/run/netns/moat-none-one' };
  const { stderr, status } = spawnSync(process.execPath, [main, JSON.stringify(options)], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.equal(lastWords(stderr), "ENOENT: no such file or directory, open '/run/netns/moat-none-one'");
});
