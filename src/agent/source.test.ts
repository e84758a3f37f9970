// The agent's view of a cluster source: batches, and what a new list says is gone.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { impliedNamespace, type WorldEvent } from '#policy/world.ts';
import { writeLine } from './json-lines.ts';
import type { SourceMessage } from './protocol.ts';
import { type Batch, ClusterSource } from './source.ts';

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
  const source = new ClusterSource(path, (batch) => {
    batches.push(batch);
    if (batches.length === 1) sockets[0]?.destroy();
    else done.resolve();
  });
  await done.promise;
  source.close();
  server.close();
  for (const socket of sockets) socket.destroy();
  rmSync(folder, { recursive: true });
  assert.deepEqual(batches[0], { events: [namespace('a'), namespace('b')], revision: 1 });
  assert.deepEqual(batches[1]?.events, [namespace('b'), namespace('c'), { ...namespace('a'), value: null }]);
});
