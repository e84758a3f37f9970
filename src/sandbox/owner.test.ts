// Who holds a sandbox: the living alone.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { statePaths } from './names.ts';
import { readOwner } from './owner.ts';

/** Field 22 of proc(5)'s stat, for a program without spaces in its name. */
function startOf(pid: number): string {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[21] ?? '';
}

function stateOf(pid: number): string {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[2] ?? '';
}

test('a live process holds its sandbox, a killed one that nobody has collected yet does not', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-owner-'));
  process.env.MOAT_RUN = folder;
  // The shell becomes a sleep that never collects its child.
  const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => {
    parent.kill('SIGKILL');
    delete process.env.MOAT_RUN;
    rmSync(folder, { recursive: true });
  });
  const [line] = await once(parent.stdout.setEncoding('utf8'), 'data');
  const pid = Number(line);
  mkdirSync(statePaths('one').folder);
  writeFileSync(statePaths('one').owner, JSON.stringify({ pid, startedTicks: startOf(pid) }));
  assert.equal(readOwner('one')?.pid, pid);
  process.kill(pid, 'SIGKILL');
  while (stateOf(pid) !== 'Z') await pause(5);
  assert.equal(readOwner('one'), null);
});
