// The traffic of the kill tests, in a process of its own so that nothing holds it up: `traffic.ts JSON` (TrafficSetup).
// Connections that must never break carry data all the time; pairs that must never meet try all the time.
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { type Address, parseAddress } from '#net/address.ts';

/** One way: pods by the paths of their namespaces. */
export type Pair = { readonly from: string; readonly to: string; readonly target: string };

export type TrafficSetup = {
  readonly allowed: readonly Pair[];
  readonly denied: readonly Pair[];
  readonly openPort: number;
  readonly shutPort: number;
};

/** wake: connections that were idle all the time speak first. */
export type TrafficRequest = 'report' | 'wake';

/** What happened since the start. */
export type TrafficReport = {
  /** TCP connections that broke, or whose data stood still for longer than LOST_AFTER_MS. */
  readonly lost: readonly string[];
  readonly connections: number;
  /** Bytes that came back on them. */
  readonly echoed: number;
  /** The longest time that a connection's data stood still, in milliseconds, and TCP's own retransmissions. */
  readonly longestStallMs: number;
  /** Datagrams of allowed pairs. Those sent in the last moment are still on their way. */
  readonly sent: number;
  readonly received: number;
  /** New connections of allowed pairs, and those that were not open soon. */
  readonly opened: number;
  readonly refused: number;
  /** Tries of denied pairs, and those that got through. */
  readonly tries: number;
  readonly passed: number;
};

const TICK_MS = 2;
/** A new connection is tried at every so many ticks. */
const CONNECT_EVERY = 10;
/** TCP gives up much later; it has sent again four times by then. */
const LOST_AFTER_MS = 6000;
/** A new connection that takes longer has lost its first packet twice. */
const OPEN_LIMIT_MS = 2500;
const MESSAGE = Buffer.from('moat-moat-moat-moat');

type Stream = {
  readonly name: string;
  readonly client: number;
  readonly server: number;
  sent: number;
  back: number;
  movedMs: number;
};

/** Sockets that hear denied tries, by what they are bound to: several pairs may have one target. */
const targets = new Map<string, number>();
const buffer = Buffer.alloc(1 << 16);
const lost = new Set<string>();
let longestStallMs = 0;
let sent = 0;
let received = 0;
let opened = 0;
let refused = 0;
let tries = 0;
let passed = 0;

/** Everything that has arrived on a socket, in bytes and in reads; `ended`: the other side is gone. */
function drain(fd: number): { readonly bytes: number; readonly reads: number; readonly ended: string | null } {
  let bytes = 0;
  for (let reads = 0; ; reads++) {
    const got = sockets.receiveSocket(fd, buffer);
    if (got.kind === 'would-block') return { bytes, reads, ended: null };
    if (got.kind === 'failed') return { bytes, reads, ended: got.code };
    if (got.bytes === 0) return { bytes, reads, ended: 'closed' };
    bytes += got.bytes;
  }
}

function inside<T>(path: string, work: () => T): T {
  const netns = sockets.openNetns(path);
  try {
    return sockets.inNetns(netns, work);
  } finally {
    sockets.closeSocket(netns);
  }
}

function addressOf(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`not an address: ${text}`);
  return parsed;
}

function listen(pair: Pair, port: number): number {
  const target = addressOf(pair.target);
  const fd = inside(pair.to, () => sockets.openSocket(target.family, 'stream'));
  sockets.reuseAddress(fd);
  sockets.bindSocket(fd, target, port);
  sockets.listenSocket(fd, 64);
  return fd;
}

/** The socket that hears what is sent to a target. */
function shared(pair: Pair, port: number, make: (pair: Pair, port: number) => number): number {
  const key = `${make.name} ${pair.target} ${port}`;
  const fd = targets.get(key) ?? make(pair, port);
  targets.set(key, fd);
  return fd;
}

function receiver(pair: Pair, port: number): number {
  const target = addressOf(pair.target);
  const fd = inside(pair.to, () => sockets.openSocket(target.family, 'datagram'));
  sockets.setReceiveBuffer(fd, 1 << 20);
  sockets.bindSocket(fd, target, port);
  return fd;
}

async function open(pair: Pair, port: number): Promise<Stream> {
  const target = addressOf(pair.target);
  const listener = shared(pair, port, listen);
  const client = inside(pair.from, () => sockets.openSocket(target.family, 'stream'));
  sockets.connectSocket(client, target, port);
  for (let waited = 0; waited < 3000; waited += 5) {
    const server = sockets.acceptSocket(listener);
    if (server === null) {
      await pause(5);
      continue;
    }
    const name = `${pair.from.split('-').at(-1)} to ${pair.target}`;
    return { name, client, server, sent: 0, back: 0, movedMs: performance.now() };
  }
  throw new Error(`the connection to ${pair.target} does not open`);
}

async function openAll({ allowed, openPort }: TrafficSetup): Promise<readonly Stream[]> {
  return await Promise.all(allowed.map((pair) => open(pair, openPort)));
}

function speak(stream: Stream): void {
  const now = performance.now();
  const wrote = sockets.sendSocket(stream.client, MESSAGE, null);
  if (wrote.kind === 'done') stream.sent += wrote.bytes;
  const heard = drain(stream.server);
  if (heard.bytes > 0) sockets.sendSocket(stream.server, Buffer.alloc(heard.bytes), null);
  const answer = drain(stream.client);
  stream.back += answer.bytes;
  const broken = wrote.kind === 'failed' ? wrote.code : (heard.ended ?? answer.ended);
  if (broken !== null) lost.add(`${stream.name}: ${broken}`);
  if (answer.bytes > 0) stream.movedMs = now;
  longestStallMs = Math.max(longestStallMs, now - stream.movedMs);
  if (now - stream.movedMs > LOST_AFTER_MS) lost.add(`${stream.name}: stood still`);
}

/** Connections that said nothing for as long as the test went on speak now: their data must come back. */
async function wake(streams: readonly Stream[]): Promise<void> {
  for (const stream of streams) sockets.sendSocket(stream.client, MESSAGE, null);
  for (let waited = 0; waited < LOST_AFTER_MS && streams.some((stream) => stream.back === 0); waited += 5) {
    for (const stream of streams) {
      if (drain(stream.server).bytes > 0) sockets.sendSocket(stream.server, MESSAGE, null);
      stream.back += drain(stream.client).bytes;
    }
    await pause(5);
  }
  for (const stream of streams) if (stream.back === 0) lost.add(`${stream.name}: silent until it spoke`);
}

/** New connections of an allowed pair, one after the other: each must open. */
function openings(pair: Pair, port: number): () => void {
  const target = addressOf(pair.target);
  const listener = shared(pair, port, listen);
  let tick = 0;
  let opening: { readonly fd: number; readonly sinceMs: number } | null = null;
  const next = (): { readonly fd: number; readonly sinceMs: number } => {
    const fd = inside(pair.from, () => sockets.openSocket(target.family, 'stream'));
    sockets.resetOnClose(fd);
    sockets.connectSocket(fd, target, port);
    return { fd, sinceMs: performance.now() };
  };
  return () => {
    if (tick++ % CONNECT_EVERY !== 0) return;
    const accepted = sockets.acceptSocket(listener);
    const late = opening !== null && performance.now() - opening.sinceMs > OPEN_LIMIT_MS;
    if (accepted !== null) sockets.closeSocket(accepted);
    if (accepted !== null) opened++;
    else if (late) refused++;
    else if (opening !== null) return;
    if (opening !== null) sockets.closeSocket(opening.fd);
    opening = next();
  };
}

/** Datagrams of one pair; `count` is told of those that went out, and of those that came in. */
function datagrams(pair: Pair, port: number, count: (out: number, into: number) => void): () => void {
  const target = addressOf(pair.target);
  const server = shared(pair, port, receiver);
  const client = inside(pair.from, () => sockets.openSocket(target.family, 'datagram'));
  return () => {
    const went = sockets.sendSocket(client, MESSAGE, { address: target, port }).kind === 'done';
    count(went ? 1 : 0, drain(server).reads);
  };
}

/** New connections of one pair, each given up soon; `count` as above. */
function connections(pair: Pair, port: number, count: (out: number, into: number) => void): () => void {
  const target = addressOf(pair.target);
  const listener = shared(pair, port, listen);
  let tick = 0;
  let trying: number | null = null;
  return () => {
    const accepted = sockets.acceptSocket(listener);
    if (accepted !== null) sockets.closeSocket(accepted);
    count(0, accepted === null ? 0 : 1);
    if (tick++ % CONNECT_EVERY !== 0) return;
    if (trying !== null) sockets.closeSocket(trying);
    trying = inside(pair.from, () => sockets.openSocket(target.family, 'stream'));
    sockets.resetOnClose(trying);
    sockets.connectSocket(trying, target, port);
    count(1, 0);
  };
}

async function main(setup: TrafficSetup): Promise<void> {
  const streams = await openAll(setup);
  const idle = await openAll(setup);
  const countAllowed = (out: number, into: number): void => {
    sent += out;
    received += into;
  };
  const countDenied = (out: number, into: number): void => {
    tries += out;
    passed += into;
  };
  const work = [
    ...setup.allowed.map((pair) => datagrams(pair, setup.openPort, countAllowed)),
    ...setup.allowed.map((pair) => openings(pair, setup.openPort)),
    ...setup.denied.map((pair) => datagrams(pair, setup.shutPort, countDenied)),
    ...setup.denied.map((pair) => connections(pair, setup.shutPort, countDenied)),
  ];
  let tickedMs = performance.now();
  setInterval(() => {
    // What held up this process itself is no stall of a connection.
    const late = performance.now() - tickedMs;
    tickedMs += late;
    for (const stream of streams) {
      if (late > 10 * TICK_MS) stream.movedMs += late;
      speak(stream);
    }
    for (const each of work) each();
  }, TICK_MS);
  process.on('message', async (what: TrafficRequest) => {
    if (what === 'wake') await wake(idle);
    const echoed = streams.reduce((sum, stream) => sum + stream.back, 0);
    const report: TrafficReport = {
      ...{ lost: [...lost], connections: streams.length + idle.length, echoed, longestStallMs },
      ...{ sent, received, opened, refused, tries, passed },
    };
    process.send?.(report);
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.('ready');
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as TrafficSetup);
