// The agent's socket: answers, refusals, and subscribers that read too slowly.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { readLines, writeLine } from './json-lines.ts';
import type { AgentMessage, FlowEvent } from './protocol.ts';
import { AgentServer, type Answer } from './server.ts';

const EVENT: FlowEvent = {
  ...{ node: 'one', kind: 'drop', hook: 'to-pod', reason: 'policy', leg: 'ingress', egress: null, ingress: null },
  ...{ sourcePod: null, destinationPod: null },
  ...{ source: '10.0.0.1', destination: '10.0.0.2', protocol: 6, sourcePort: 1, destinationPort: 80 },
  ...{ count: 3, timeNs: '1' },
};

async function serve(t: TestContext, answer: Answer): Promise<{ readonly server: AgentServer; readonly path: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'moat-agent-'));
  const path = join(folder, 'agent.sock');
  const server = new AgentServer(path, answer);
  await server.listen();
  t.after(() => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { server, path };
}

/** Resolves with the first message that `wanted` takes. */
function heard(socket: Socket, wanted: (message: AgentMessage) => boolean): Promise<AgentMessage> {
  const { promise, resolve } = Promise.withResolvers<AgentMessage>();
  readLines(socket, (value) => {
    const message = value as AgentMessage;
    if (wanted(message)) resolve(message);
  });
  return promise;
}

test('the socket is its owner’s alone, and a failed request is refused with its reason', async (t) => {
  const { path } = await serve(t, async () => {
    throw new Error('no such pod');
  });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const socket = connect(path);
  t.after(() => socket.destroy());
  writeLine(socket, { id: 7, method: 'status' });
  const message = await heard(socket, () => true);
  assert.deepEqual(message, { kind: 'refusal', id: 7, message: 'no such pod' });
});

test('a subscriber that reads too slowly learns exactly how many events it did not get', async (t) => {
  const { server, path } = await serve(t, async () => ({}));
  const socket = connect(path);
  t.after(() => socket.destroy());
  writeLine(socket, { id: 1, method: 'subscribe' });
  while (server.subscribers === 0) await new Promise((resolve) => setImmediate(resolve));
  // Nothing reads yet: what the kernel and the server can't hold is shed.
  const batch = Array<FlowEvent>(1000).fill(EVENT);
  const batches = 200;
  for (let index = 0; index < batches; index++) server.publishFlows(batch, 1);
  const published = batches * (1000 * EVENT.count + 1);
  let told = 0;
  let lost = 0;
  await heard(socket, (message) => {
    if (message.kind !== 'flows') return false;
    told += message.events.reduce((sum, event) => sum + event.count, 0);
    lost += message.lost;
    return told + lost >= published;
  });
  assert.equal(told + lost, published);
  assert.ok(lost > batches, `${lost} lost`);
});

/** Writes raw bytes and waits until the server has closed the connection. */
async function cutOff(path: string, ...texts: readonly string[]): Promise<void> {
  const socket = connect(path);
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on('error', () => undefined);
  socket.on('close', () => resolve());
  socket.resume();
  for (const text of texts) socket.write(text);
  await promise;
}

async function isServed(path: string, result: unknown = {}): Promise<void> {
  const socket = connect(path);
  writeLine(socket, { id: 1, method: 'status' });
  assert.deepEqual(await heard(socket, () => true), { kind: 'answer', id: 1, result });
  socket.destroy();
}

/** Whether a request is answered, rather than cut off. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path).on('error', () => undefined);
  const closed = new Promise<false>((resolve) => socket.once('close', () => resolve(false)));
  writeLine(socket, { id: 1, method: 'status' });
  const isAnswered = await Promise.race([heard(socket, () => true).then(() => true), closed]);
  socket.destroy();
  return isAnswered;
}

test('who writes what is no request is cut off; others are served', { timeout: 30_000 }, async (t) => {
  const { path } = await serve(t, async () => ({}));
  for (const line of ['null', '5', '[]', '{}', '{"id":"1","method":"status"}', '{"id":1}', 'not JSON', '\0\0\0']) {
    await cutOff(path, `${line}\n`);
    await isServed(path);
  }
  const long = '['.repeat(200_000);
  await cutOff(path, ...Array<string>(6).fill(long));
  await isServed(path);
});

test('a request of a wrong shape is refused, and no more than that', async (t) => {
  const asked: string[] = [];
  const { path } = await serve(t, async (request) => void asked.push(request.method));
  const socket = connect(path);
  t.after(() => socket.destroy());
  writeLine(socket, { id: 3, method: 'detach', interfaces: ['x'] });
  const message = await heard(socket, () => true);
  assert.equal(message.kind, 'refusal');
  assert.deepEqual(asked, []);
});

test('who asks and never reads the answers is cut off', { timeout: 60_000 }, async (t) => {
  const big = 'x'.repeat(1 << 20);
  let answers = 0;
  const { path } = await serve(t, async () => {
    answers++;
    return big;
  });
  const socket = connect(path);
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on('error', () => undefined);
  socket.on('close', () => resolve());
  socket.pause();
  t.after(() => socket.destroy());
  for (let id = 0; id < 200; id++) writeLine(socket, { id, method: 'status' });
  // A paused socket tells of its end only once what came before it is read. By then more waits than anybody may leave.
  const resumed = (async () => {
    while (answers < 34) await pause(5);
    await pause(100);
    socket.resume();
  })();
  let bytes = 0;
  socket.on('data', (data) => {
    bytes += data.length;
  });
  await Promise.all([promise, resumed]);
  assert.ok(bytes < 100 * big.length, `${bytes} bytes were sent to a reader that did not read`);
  await isServed(path, big);
});

test('only so many connections at once; room comes back', { timeout: 30_000 }, async (t) => {
  const { path } = await serve(t, async () => ({}));
  const sockets = Array.from({ length: 512 }, () => connect(path));
  t.after(() => sockets.forEach((socket) => void socket.destroy()));
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  await cutOff(path);
  sockets[0]?.destroy();
  // The server hears of it in its own time; until then it cuts off whoever comes.
  while (!(await answers(path))) await pause(5);
});
