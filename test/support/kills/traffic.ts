// The traffic of the kill tests, in a process of its own so that nothing holds it up: `traffic.ts JSON` (TrafficSetup).
// Connections that must never break carry data all the time; pairs that must never meet try all the time.
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { type Address, parseAddress } from '#net/address.ts';

/** An address and a port, as text and number. */
export type End = { readonly address: string; readonly port: number };

/** One way: pods by the paths of their namespaces. Who asks at `asked` is heard at `at`: by a Service, these are not the same. */
export type Pair = {
  readonly from: string;
  readonly to: string;
  readonly asked: End;
  readonly at: End;
  /** What is new may be lost for a time: only its silence tells of that. */
  readonly lossy?: boolean;
};

export type TrafficSetup = {
  readonly allowed: readonly Pair[];
  readonly denied: readonly Pair[];
  /** Connections begin this way at first; what begins later is nobody's promise. */
  readonly begun: readonly Pair[];
};

/**
 * wake: connections that were idle all the time speak first · bypassed: from now on denied pairs may meet · enforced: not any
 * more; what has come until now is not counted · closed: not a report, but when connections were closed, by their asker's
 * port, in milliseconds of the monotonic clock.
 */
export type TrafficRequest = 'report' | 'wake' | 'bypassed' | 'enforced' | 'closed';

/** What happened since the start. */
export type TrafficReport = {
  /** TCP connections that broke, or whose data stood still for longer than LOST_AFTER_MS. */
  readonly lost: readonly string[];
  readonly connections: number;
  /** Bytes that came back on them. */
  readonly echoed: number;
  /** The longest time that a connection's data stood still, in milliseconds, and TCP's own retransmissions. */
  readonly longestStallMs: number;
  /** Whose that was. */
  readonly stalled: string;
  /** For how long a pair heard no answer, in milliseconds, where datagrams may be lost. */
  readonly longestSilenceMs: number;
  /** Datagrams of the other allowed pairs. Those sent in the last moment are still on their way. */
  readonly sent: number;
  readonly received: number;
  /** Answers to these that their clients heard from whom they had asked. */
  readonly answered: number;
  /** New connections of allowed pairs. */
  readonly opened: number;
  /** Those that were not open soon: which way, since when, and what was said to the client at once. */
  readonly refused: readonly string[];
  /** Tries of denied pairs, and those that got through. */
  readonly tries: number;
  readonly passed: number;
  /** Those that got through while they might. */
  readonly bypassed: number;
};

const TICK_MS = 2;
/** A new connection is tried at every so many ticks. */
const CONNECT_EVERY = 10;
/** TCP gives up much later; it has sent again four times by then. */
const LOST_AFTER_MS = 6000;
/** A new connection that takes longer has lost its first packet twice. */
const OPEN_LIMIT_MS = 2500;
/** So many closed connections are remembered: a minute's. */
const CLOSED = 40_000;
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
let stalled = '';
let longestSilenceMs = 0;
/** How long this process itself was held up, in all. */
let heldUpMs = 0;
let sent = 0;
let received = 0;
let answered = 0;
let opened = 0;
/** When connections that were opened were closed, the last ones, by their asker's port. */
const closed = new Map<number, number>();
const refused: string[] = [];
let tries = 0;
let passed = 0;
let bypassed = 0;
let isEnforced = true;

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

function listen({ to, at }: Pair): number {
  const address = addressOf(at.address);
  const fd = inside(to, () => sockets.openSocket(address.family, 'stream'));
  sockets.reuseAddress(fd);
  sockets.bindSocket(fd, address, at.port);
  sockets.listenSocket(fd, 64);
  return fd;
}

/** A client of a pair, on its way to whom it asks, and what it was told at once. */
function setOff({ from, asked }: Pair, kind: 'stream' | 'datagram'): { readonly fd: number; readonly told: string } {
  const address = addressOf(asked.address);
  const fd = inside(from, () => sockets.openSocket(address.family, kind));
  const got = sockets.connectSocket(fd, address, asked.port);
  return { fd, told: got.kind === 'failed' ? got.code : 'nothing' };
}

function connect(pair: Pair, kind: 'stream' | 'datagram'): number {
  return setOff(pair, kind).fd;
}

/** The socket that hears what is sent to a target. */
function shared(pair: Pair, make: (pair: Pair) => number): number {
  const key = `${make.name} ${pair.at.address} ${pair.at.port}`;
  const fd = targets.get(key) ?? make(pair);
  targets.set(key, fd);
  return fd;
}

function receiver({ to, at }: Pair): number {
  const address = addressOf(at.address);
  const fd = inside(to, () => sockets.openSocket(address.family, 'datagram'));
  sockets.setReceiveBuffer(fd, 1 << 20);
  sockets.bindSocket(fd, address, at.port);
  return fd;
}

async function open(pair: Pair): Promise<Stream> {
  const listener = shared(pair, listen);
  const client = connect(pair, 'stream');
  for (let waited = 0; waited < 3000; waited += 5) {
    const server = sockets.acceptSocket(listener);
    if (server === null) {
      await pause(5);
      continue;
    }
    const name = `${pair.from.split('-').at(-1)} to ${pair.asked.address}`;
    return { name, client, server, sent: 0, back: 0, movedMs: performance.now() };
  }
  throw new Error(`the connection to ${pair.asked.address} does not open`);
}

/** One after the other: several pairs may have one listener. */
async function openAll({ allowed, begun }: TrafficSetup): Promise<readonly Stream[]> {
  const streams: Stream[] = [];
  for (const pair of [...allowed, ...begun]) streams.push(await open(pair));
  return streams;
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
  if (now - stream.movedMs > longestStallMs) {
    longestStallMs = now - stream.movedMs;
    stalled = stream.name;
  }
  if (now - stream.movedMs > LOST_AFTER_MS) lost.add(`${stream.name}: stood still`);
}

/** Those that speak all the time do so still: what stands at the end need not have stood for long to be lost. */
async function stillSpeak(streams: readonly Stream[]): Promise<void> {
  const before = new Map(streams.map((stream) => [stream, stream.back]));
  const stand = (): readonly Stream[] => streams.filter((stream) => stream.back === before.get(stream));
  for (let waited = 0; waited < LOST_AFTER_MS && stand().length > 0; waited += 5) await pause(5);
  for (const stream of stand()) lost.add(`${stream.name}: stood still at the end`);
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
function openings(pair: Pair): () => void {
  const listener = shared(pair, listen);
  let tick = 0;
  type Opening = { readonly fd: number; readonly told: string; readonly sinceMs: number };
  let opening: Opening | null = null;
  const next = (): Opening => {
    const begun = setOff(pair, 'stream');
    sockets.resetOnClose(begun.fd);
    return { ...begun, sinceMs: performance.now() };
  };
  return () => {
    if (tick++ % CONNECT_EVERY !== 0) return;
    const accepted = sockets.acceptSocket(listener);
    const since = opening?.sinceMs ?? 0;
    if (accepted !== null) close(accepted);
    if (accepted !== null) opened++;
    else if (opening !== null && performance.now() - since <= OPEN_LIMIT_MS) return;
    else if (opening !== null && !pair.lossy) {
      const at = new Date(performance.timeOrigin + since).toISOString();
      refused.push(`${pair.from.split('-').at(-1)} to ${pair.asked.address} at ${at}, told ${opening.told}`);
    }
    if (opening !== null) sockets.closeSocket(opening.fd);
    opening = next();
  };
}

function close(accepted: number): void {
  const asker = sockets.peerOf(accepted)?.port ?? 0;
  closed.delete(asker);
  closed.set(asker, Number(process.hrtime.bigint() / 1_000_000n));
  if (closed.size > CLOSED) closed.delete(closed.keys().next().value ?? 0);
  sockets.closeSocket(accepted);
}

/** Datagrams of an allowed pair, each answered. The client hears nobody but whom it asked. */
function questions(pair: Pair): () => void {
  const server = shared(pair, receiver);
  const client = connect(pair, 'datagram');
  const clock = (): number => performance.now() - heldUpMs;
  let answeredMs = clock();
  return () => {
    const isSent = sockets.sendSocket(client, MESSAGE, null).kind === 'done';
    let heard = 0;
    for (let { got, from } = sockets.receiveFrom(server, buffer); got.kind === 'done'; ) {
      heard++;
      sockets.sendSocket(server, MESSAGE, from);
      ({ got, from } = sockets.receiveFrom(server, buffer));
    }
    const { reads } = drain(client);
    if (reads > 0) answeredMs = clock();
    if (pair.lossy) {
      longestSilenceMs = Math.max(longestSilenceMs, clock() - answeredMs);
      return;
    }
    sent += isSent ? 1 : 0;
    received += heard;
    answered += reads;
  };
}

/** Tries of a denied pair: so many went out, so many came in. */
function countTries(out: number, into: number): void {
  tries += out;
  if (isEnforced) passed += into;
  else bypassed += into;
}

/** Datagrams of a denied pair. */
function datagrams(pair: Pair): () => void {
  const server = shared(pair, receiver);
  const client = connect(pair, 'datagram');
  return () => {
    const went = sockets.sendSocket(client, MESSAGE, null).kind === 'done';
    countTries(went ? 1 : 0, drain(server).reads);
  };
}

/** New connections of a denied pair, each given up soon. */
function connections(pair: Pair): () => void {
  const listener = shared(pair, listen);
  let tick = 0;
  let trying: number | null = null;
  return () => {
    const accepted = sockets.acceptSocket(listener);
    if (accepted !== null) sockets.closeSocket(accepted);
    countTries(0, accepted === null ? 0 : 1);
    if (tick++ % CONNECT_EVERY !== 0) return;
    if (trying !== null) sockets.closeSocket(trying);
    trying = connect(pair, 'stream');
    sockets.resetOnClose(trying);
    countTries(1, 0);
  };
}

/** What has come of denied pairs until now came while it might. */
function enforce(denied: readonly Pair[]): void {
  for (const pair of denied) {
    bypassed += drain(shared(pair, receiver)).reads;
    const listener = shared(pair, listen);
    for (let got = sockets.acceptSocket(listener); got !== null; got = sockets.acceptSocket(listener)) {
      sockets.closeSocket(got);
    }
  }
  isEnforced = true;
}

async function main(setup: TrafficSetup): Promise<void> {
  const streams = await openAll(setup);
  const idle = await openAll(setup);
  const { allowed, denied } = setup;
  const work = [
    ...[...allowed.map(questions), ...allowed.map(openings)],
    ...[...denied.map(datagrams), ...denied.map(connections)],
  ];
  let tickedMs = performance.now();
  setInterval(() => {
    // What held up this process itself is no stall of a connection.
    const late = performance.now() - tickedMs;
    tickedMs += late;
    if (late > 10 * TICK_MS) heldUpMs += late;
    for (const stream of streams) {
      if (late > 10 * TICK_MS) stream.movedMs += late;
      speak(stream);
    }
    for (const each of work) each();
  }, TICK_MS);
  process.on('message', async (what: TrafficRequest) => {
    if (what === 'closed') {
      process.send?.([...closed]);
      return;
    }
    if (what === 'wake') await Promise.all([wake(idle), stillSpeak(streams)]);
    if (what === 'bypassed') isEnforced = false;
    if (what === 'enforced') enforce(setup.denied);
    const echoed = streams.reduce((sum, stream) => sum + stream.back, 0);
    const report: TrafficReport = {
      ...{
        lost: [...lost],
        connections: streams.length + idle.length,
        echoed,
        longestStallMs,
        stalled,
        longestSilenceMs,
      },
      ...{ sent, received, answered, opened, refused: [...refused], tries, passed, bypassed },
    };
    process.send?.(report);
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.('ready');
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as TrafficSetup);
