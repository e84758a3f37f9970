// Whether what is measured enforces its policies: real packets between many ends, held against the naive interpreter.
import { setTimeout as pause } from 'node:timers/promises';
import {
  bindSocket,
  closeSocket,
  connectSocket,
  inNetns,
  listenSocket,
  openNetns,
  openSocket,
  receiveSocket,
  reuseAddress,
  sendSocket,
} from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type Protocol, TCP, UDP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { Policy, Rule } from '#policy/model.ts';
import { STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import { netnsPath } from '#sandbox/names.ts';
import type { BenchNetwork } from './network.ts';
import type { BenchWorld } from './worlds.ts';

type Place = { readonly netns: string; readonly address: Address; readonly stranger: boolean };
type Cell = { readonly from: Place; readonly to: Place; readonly protocol: Protocol; readonly port: number };

/** On both sides of what the deciding policy allows. */
const PORTS: readonly (readonly [Protocol, number])[] = [
  [TCP, 80],
  [TCP, 1023],
  [TCP, 1024],
  [TCP, 40_000],
  [UDP, 1024],
  [UDP, 5999],
  [UDP, 6000],
  [UDP, 40_000],
];
/** Policies whose rules are tried with pods that they name. */
const SAMPLE = 12;
const WAIT_MS = 1000;

/** Throws where a packet arrives that policy denies, or one does not that it allows; and where a matrix says only one thing. */
export async function checkMatrix(name: string, net: BenchNetwork, { world }: BenchWorld): Promise<void> {
  const strangers = namedBy(world);
  const addresses = strangers.map(({ address }) => address);
  await net.network.addExternal(addresses);
  try {
    const cells = [...betweenPods(net), ...withStrangers(net, strangers)];
    const expected = cells.map((cell) => verdictOf(world, cell));
    const arrived = await sendAll(cells);
    const wrong = cells.filter((_, index) => arrived[index] !== expected[index]).map(sayCell);
    if (wrong.length > 0) {
      throw new Error(
        `${name} judges ${wrong.length} of ${cells.length} cells wrongly: ${wrong.slice(0, 5).join('; ')}`,
      );
    }
    const allowed = arrived.filter((did) => did).length;
    if (allowed === 0 || (allowed === cells.length && world.policies.size > 0)) {
      throw new Error(`${name}: ${allowed} of ${cells.length} cells are allowed, which shows nothing`);
    }
    process.stderr.write(`bench: ${name}: ${cells.length} cells as policy says, ${allowed} of them allowed\n`);
  } finally {
    await net.network.removeExternal(addresses);
  }
}

function verdictOf(world: World, { from, to, protocol, port }: Cell): boolean {
  const flow = { from: from.address, to: to.address, protocol, port } as Parameters<typeof evaluate>[1];
  const { egress, ingress } = evaluate(world, flow, STANDARD_SEMANTICS);
  // A stranger's own policy is its own node's to enforce, which is not there.
  const legs = [...(from.stranger ? [] : [egress]), ...(to.stranger ? [] : [ingress])];
  return legs.every((leg) => leg.verdict === 'allow');
}

function sayCell({ from, to, protocol, port }: Cell): string {
  return `${formatAddress(from.address)} to ${formatAddress(to.address)} ${protocol === TCP ? 'TCP' : 'UDP'} ${port}`;
}

function places(net: BenchNetwork): readonly Place[] {
  return net.pods.flatMap(({ netns, addresses: [address] }) =>
    address === undefined ? [] : [{ netns, address, stranger: false }],
  );
}

function betweenPods(net: BenchNetwork): readonly Cell[] {
  const ends = places(net);
  const ways = ends.flatMap((from) => ends.filter((to) => to !== from).map((to) => ({ from, to })));
  return ways.flatMap((way) => PORTS.map(([protocol, port]) => ({ ...way, protocol, port })));
}

/** A pod of another node that some rule names, and the first port that it is named with. */
type Stranger = { readonly address: Address; readonly port: number };

/** Of policies spread over the whole list: a pod that each names first in each direction. */
function namedBy(world: World): readonly Stranger[] {
  const all = [...world.policies.values()];
  const step = Math.max(1, Math.floor(all.length / SAMPLE));
  const sample = all.filter((policy, index) => index % step === 0 && isSelecting(policy));
  const found = sample.flatMap((policy) =>
    [...policy.ingress.slice(0, 1), ...policy.egress.slice(0, 1)].flatMap((rule) => named(world, rule)),
  );
  return [...new Map(found.map((stranger) => [formatAddress(stranger.address), stranger])).values()];
}

function isSelecting({ subject }: Policy): boolean {
  return subject.pods.requirements.length === 0;
}

function named(world: World, { peers, ports }: Rule): readonly Stranger[] {
  const [peer] = peers.kind === 'these' ? peers.peers : [];
  const [range] = ports.kind === 'these' ? ports.ports : [];
  if (peer?.kind !== 'pods' || range?.kind !== 'range' || peer.namespaces.kind !== 'named') return [];
  const { name } = peer.namespaces;
  const wanted = peer.pods.requirements.map((one) => (one.op === 'In' ? [one.key, one.values[0]] : [one.key, '']));
  const pod = [...world.pods.values()].find(({ namespace, labels, node }) => {
    return (
      namespace === name &&
      node !== 'measured' &&
      node !== 'second' &&
      wanted.every(([key = '', value]) => labels[key] === value)
    );
  });
  const [address] = pod?.addresses ?? [];
  return address === undefined ? [] : [{ address, port: range.first }];
}

/** To and from pods of other nodes, on the port that a rule names and on one that none does. */
function withStrangers(net: BenchNetwork, strangers: readonly Stranger[]): readonly Cell[] {
  const [client, near] = places(net);
  if (client === undefined || near === undefined) return [];
  return strangers.flatMap(({ address, port }) => {
    const stranger = { netns: net.world, address, stranger: true };
    return [port, 7].flatMap((each) => [
      { from: stranger, to: near, protocol: TCP, port: each },
      { from: client, to: stranger, protocol: TCP, port: each },
    ]);
  });
}

type Sent = { readonly fd: number; readonly index: number; readonly protocol: Protocol };

/** Sends a datagram or opens a connection for each cell, all at once. True for what arrived. */
async function sendAll(cells: readonly Cell[]): Promise<readonly boolean[]> {
  const listeners = new Map<string, number>();
  const sent: Sent[] = [];
  try {
    for (const { to, protocol, port } of cells) {
      const key = `${to.netns} ${formatAddress(to.address)} ${protocol} ${port}`;
      if (!listeners.has(key)) listeners.set(key, listenOn(to, protocol, port));
    }
    for (const [index, cell] of cells.entries()) sent.push(send(cell, index));
    await pause(WAIT_MS);
    const datagrams = [...listeners.values()].flatMap(received);
    const connected = sent.filter(({ fd, protocol }) => protocol === TCP && isConnected(fd));
    const arrived = new Set([...datagrams, ...connected.map(({ index }) => index)]);
    return cells.map((_, index) => arrived.has(index));
  } finally {
    for (const fd of [...sent.map((one) => one.fd), ...listeners.values()]) closeSocket(fd);
  }
}

function socketAt({ netns }: Place, protocol: Protocol): number {
  const handle = openNetns(netnsPath(netns));
  try {
    return inNetns(handle, () => openSocket(4, protocol === TCP ? 'stream' : 'datagram'));
  } finally {
    closeSocket(handle);
  }
}

function listenOn(place: Place, protocol: Protocol, port: number): number {
  const fd = socketAt(place, protocol);
  if (protocol === TCP) reuseAddress(fd);
  bindSocket(fd, place.address, port);
  if (protocol === TCP) listenSocket(fd, 128);
  return fd;
}

function send({ from, to, protocol, port }: Cell, index: number): Sent {
  const fd = socketAt(from, protocol);
  bindSocket(fd, from.address, 0);
  connectSocket(fd, to.address, port);
  if (protocol === UDP) sendSocket(fd, Uint8Array.of(index >> 8, index & 255), null);
  return { fd, index, protocol };
}

/** The cells whose datagrams a socket has; a listener for connections has none. */
function received(fd: number): readonly number[] {
  const buffer = new Uint8Array(2);
  const found: number[] = [];
  for (let got = receiveSocket(fd, buffer); got.kind === 'done'; got = receiveSocket(fd, buffer)) {
    found.push(((buffer[0] ?? 0) << 8) | (buffer[1] ?? 0));
  }
  return found;
}

/** Data can be sent on a connection that the other side has answered, and on no other. */
function isConnected(fd: number): boolean {
  return sendSocket(fd, Uint8Array.of(0), null).kind === 'done';
}
