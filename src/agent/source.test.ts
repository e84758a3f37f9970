// The agent's view of a cluster source: batches, and what a new list says is gone.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Batch, Follower } from '#cluster/follower.ts';
import { type ClusterEvent, impliedNamespace, type WorldEvent } from '#policy/world.ts';
import { writeLine } from './json-lines.ts';
import type { SourceMessage } from './protocol.ts';
import { ClusterSource } from './source.ts';

function namespace(name: string): WorldEvent {
  return { kind: 'namespace', name, value: impliedNamespace(name) };
}

test('a second list deletes what the first had and it lacks', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-source-'));
  const path = join(folder, 'cluster.sock');
  const lists = [
    ['a', 'b'],
    ['b', 'c'],
  ];
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    const names = lists[sockets.length - 1] ?? [];
    for (const name of names) writeLine(socket, { kind: 'change', event: namespace(name) } satisfies SourceMessage);
    writeLine(socket, { kind: 'synced', revision: sockets.length } satisfies SourceMessage);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const batches: Batch[] = [];
  const done = Promise.withResolvers<void>();
  const follower: Follower = {
    note: () => assert.fail('the lists are short'),
    apply: (batch) => {
      batches.push(batch);
      if (batches.length === 1) sockets[0]?.destroy();
      else done.resolve();
    },
    known: () => ['a', 'b'].map((name) => ({ ...namespace(name), value: null })),
  };
  const source = new ClusterSource(path, follower);
  await done.promise;
  source.close();
  server.close();
  for (const socket of sockets) socket.destroy();
  rmSync(folder, { recursive: true });
  assert.deepEqual(batches[0], { events: [namespace('a'), namespace('b')], revision: 1 });
  assert.deepEqual(batches[1]?.events, [namespace('b'), namespace('c'), { ...namespace('a'), value: null }]);
});

test('a long list comes in parts; what was noted of a list that broke off is compared with the next', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-source-'));
  const path = join(folder, 'cluster.sock');
  const names = Array.from({ length: 1234 }, (_, index) => `n${index}`);
  let connections = 0;
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    // The first list has one name that the second lacks, and breaks off.
    for (const name of connections === 0 ? ['gone', ...names] : names) {
      writeLine(socket, { kind: 'change', event: namespace(name) } satisfies SourceMessage);
    }
    if (connections++ === 0) socket.end();
    else writeLine(socket, { kind: 'synced', revision: 7 } satisfies SourceMessage);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const existing = new Set<string>();
  const parts: number[] = [];
  const done = Promise.withResolvers<Batch>();
  const take = (events: readonly ClusterEvent[]): void => {
    for (const event of events) if (event.kind === 'namespace' && event.value !== null) existing.add(event.name);
  };
  const source = new ClusterSource(path, {
    note: (events) => {
      parts.push(events.length);
      take(events);
    },
    apply: done.resolve,
    known: () => [...existing].map((name) => ({ ...namespace(name), value: null })),
  });
  const batch = await done.promise;
  source.close();
  server.close();
  rmSync(folder, { recursive: true });
  assert.deepEqual(new Set(parts), new Set([32]));
  assert.deepEqual(batch.events.at(-1), { ...namespace('gone'), value: null });
  assert.equal(batch.events.length, (1234 % 32) + 1);
});

test('a policy in a long list counts as much as its rules: parts of a list have a bound, whatever is in them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moat-source-'));
  const path = join(folder, 'cluster.sock');
  const policies = Array.from({ length: 10 }, (_, index): WorldEvent => {
    const value = { egress: Array(5).fill({}), ingress: Array(5).fill({}) };
    return { kind: 'policy', key: `p${index}`, value } as unknown as WorldEvent;
  });
  const server = createServer((socket) => {
    for (const event of policies) writeLine(socket, { kind: 'change', event } satisfies SourceMessage);
    writeLine(socket, { kind: 'synced', revision: 1 } satisfies SourceMessage);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const parts: number[] = [];
  const done = Promise.withResolvers<Batch>();
  const follower = { note: (events: readonly ClusterEvent[]) => void parts.push(events.length), apply: done.resolve };
  const source = new ClusterSource(path, { ...follower, known: () => [] });
  const { events } = await done.promise;
  source.close();
  server.close();
  rmSync(folder, { recursive: true });
  assert.deepEqual([parts, events.length], [[3, 3, 3], 1]);
});
