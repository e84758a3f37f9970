// What is on disk outlives kills at any moment: nothing that was answered is lost, no address is held twice.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { samples } from '#test/support/property.ts';
import { type Attachment, Attachments, attachmentId } from './attachments.ts';

const CHURN = join(import.meta.dirname, '../../test/support/churn-attachments.ts');

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'moat-attachments-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'attachments');
}

const ONE: Attachment = {
  ...{ containerId: 'c1', ifname: 'eth0', netns: '/run/netns/x', pod: { namespace: 'shop', name: 'web', uid: 'u' } },
  ...{ addresses: [], mac: '02:00:00:00:00:01', hostInterface: 'moat1', sequence: 1, isDone: false },
};

test('the next process finds what was put, and not what was removed', (t) => {
  const folder = folderOf(t);
  const first = new Attachments(folder);
  first.put(ONE);
  first.put({ ...ONE, isDone: true });
  first.put({ ...ONE, containerId: 'c2', sequence: 3 });
  first.put({ ...ONE, ifname: 'eth1', sequence: 2 });
  first.remove(attachmentId('c2', 'eth0'));
  first.remove(attachmentId('c2', 'eth0'));
  const second = new Attachments(folder);
  assert.deepEqual(second.inOrder, [
    { ...ONE, isDone: true },
    { ...ONE, ifname: 'eth1', sequence: 2 },
  ]);
});

test('a folder that others may look into is refused, and so is a file that can’t be read', (t) => {
  const folder = folderOf(t);
  new Attachments(folder).put(ONE);
  chmodSync(folder, 0o755);
  assert.throws(() => new Attachments(folder), /owner alone can change/);
  chmodSync(folder, 0o700);
  writeFileSync(join(folder, 'c9@eth0.json'), '{"containerId":');
  assert.throws(() => new Attachments(folder), /c9@eth0.json can't be read/);
});

test('killed at any moment, it loses nothing that was answered, and gives no address twice', async (t) => {
  const folder = folderOf(t);
  const answered = new Map<string, string>();
  for (const waitMs of samples(t, fc.integer({ min: 0, max: 150 }), 8)) {
    const child = spawn(process.execPath, [CHURN, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    // Where the test fails, too: it would never end.
    t.after(() => child.kill('SIGKILL'));
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await once(child.stdout, 'data');
    await looking(folder, waitMs);
    child.kill('SIGKILL');
    await once(child, 'close');
    // A line that was cut off was not answered.
    const lines = said
      .slice(0, said.lastIndexOf('\n'))
      .split('\n')
      .filter((line) => line !== '');
    const unfinished = new Set<string>();
    for (const [act = '', id = '', address = ''] of lines.map((line) => line.split(' '))) {
      if (act === 'added') answered.set(id, address);
      if (act === 'removing') unfinished.add(id);
      if (act === 'removed') answered.delete(id);
    }
    const left = new Attachments(folder);
    const held = left.inOrder.flatMap(({ addresses }) => addresses);
    assert.equal(new Set(held).size, held.length, 'no address twice');
    for (const [id, address] of answered) {
      const found = left.all.get(id as ReturnType<typeof attachmentId>);
      if (found === undefined && unfinished.has(id)) answered.delete(id);
      else assert.deepEqual([found?.addresses[0], found?.isDone], [address, true], id);
    }
    // What it answered is there; what is there beside that was never answered, and the next process undoes it.
    for (const [id, { isDone }] of left.all) assert.ok(answered.has(id) || !isDone || isLast(lines, id), id);
    for (const [id] of left.all) if (!answered.has(id)) left.remove(id);
    assert.equal(left.all.size, answered.size);
  }
  assert.ok(answered.size > 0);
});

/** At every moment each file is whole: so it is when the process ends there. */
async function looking(folder: string, waitMs: number): Promise<void> {
  for (const end = performance.now() + waitMs; performance.now() < end; await pause(0)) {
    for (const file of readdirSync(folder).filter((name) => !name.startsWith('.'))) {
      const text = readIfThere(join(folder, file));
      if (text !== null) JSON.parse(text);
    }
  }
}

/** Null where it was removed meanwhile. */
function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** It was done, and killed before it could say so: its runtime heard of a failure, and asks for its end. */
function isLast(lines: readonly string[], id: string): boolean {
  return lines.at(-1) === `adding ${id}`;
}
