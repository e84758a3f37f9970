// The spool of DELs: what can be done is done, whatever else lies there.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CniSpool } from './cni-spool.ts';

test('what can neither be read nor removed is told of, and keeps no DEL and no agent from going on', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-spool-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'a@eth0.json'));
  const call = { command: 'DEL', containerId: 'b', netns: '', ifname: 'eth0', args: '', config: '{}' };
  writeFileSync(join(folder, 'b@eth0.json'), JSON.stringify({ id: 1, method: 'cni', ...call }));
  const told: string[] = [];
  const done: string[] = [];
  const spool = new CniSpool(folder, (problem) => told.push(problem));
  await spool.workOff(async ({ containerId }) => {
    done.push(containerId);
    return { exit: 0, output: null };
  });
  assert.deepEqual(done, ['b']);
  assert.ok(!existsSync(join(folder, 'b@eth0.json')));
  assert.match(told.join('\n'), /a@eth0\.json can't be removed: /);
});
