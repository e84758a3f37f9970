// A process that holds a datapath and waits to be killed, and connections that are to outlive it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { AttachMode } from '#datapath/ebpf/hooks.ts';
import * as sockets from '#kernel/sockets.ts';
import { formatAddress } from '#net/address.ts';
import type { Held } from './hold-datapath.ts';
import { type BedPod, type PodBed, waitFor } from './pod-bed.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Both ends of a connection. */
export type Ends = { readonly client: number; readonly server: number };

/**
 * Starts a process that has a bed's pods attached, the last one closed; `root`: of the sources that it runs. `unsettled`:
 * an upgrade that it began is never finished.
 */
export async function hold(
  bed: PodBed,
  root: string = ROOT,
  attach?: AttachMode,
  { services = [], unsettled = false }: Partial<Pick<Held, 'services' | 'unsettled'>> = {},
): Promise<ChildProcess> {
  const held: Held = {
    netns: `/run/netns/${bed.prefix}-router`,
    instance: bed.prefix,
    pods: bed.pods.map((pod) => ({
      interfaceIndex: pod.link.interfaceIndex,
      mac: [...pod.link.mac],
      addresses: pod.link.addresses.map(formatAddress),
    })),
    denyRule: 70,
    services,
    unsettled,
    ...(attach === undefined ? {} : { attach }),
  };
  const script = join(root, 'test/support/hold-datapath.ts');
  const child = spawn(process.execPath, [script, JSON.stringify(held)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`it ended by ${signal ?? `exit code ${code}`} before it held anything`);
  });
  await Promise.race([once(child.stdout, 'data'), ended]);
  ended.catch(() => undefined);
  return child;
}

/** Where a pod listens, and whom its client asks for that: itself, or a Service. */
export type Asked = { readonly port: number; readonly asked: sockets.Peer };

/** A TCP connection from one pod to another's port. */
export function connect(bed: PodBed, from: BedPod, to: BedPod, at: number | Asked): Ends {
  const target = typeof at === 'number' ? { port: at, asked: { address: to.v4, port: at } } : at;
  return connectBy(bed, () => bed.socket(from, () => sockets.openSocket(4, 'stream')), to, target);
}

/** As `connect`, by a socket of whoever asks. */
export function connectBy(bed: PodBed, open: () => number, to: BedPod, at: Asked): Ends {
  const asking = { ...listen(bed, to, at), client: open() };
  const server = bed.socket(to, () => accepts(asking));
  bed.close(asking.listener);
  assert.ok(server !== null, 'the connection opens');
  return { client: asking.client, server };
}

/** A socket that listens, and one that is to ask. */
export type Asking = { readonly listener: number; readonly client: number; readonly asked: sockets.Peer };

/** A connection from one pod to another's port, up to its first packet. */
export function beforeConnect(bed: PodBed, from: BedPod, to: BedPod, port: number): Asking {
  const listening = listen(bed, to, { port, asked: { address: to.v4, port } });
  return { ...listening, client: bed.socket(from, () => sockets.openSocket(4, 'stream')) };
}

/** Asks, and returns the socket at the other end, or null. */
export function accepts({ listener, client, asked }: Asking): number | null {
  sockets.connectSocket(client, asked.address, asked.port);
  let server: number | null = null;
  waitFor(() => {
    server = sockets.acceptSocket(listener);
    return server !== null;
  }, 2000);
  return server;
}

function listen(bed: PodBed, to: BedPod, { port, asked }: Asked): Omit<Asking, 'client'> {
  const listener = bed.socket(to, () => sockets.openSocket(4, 'stream'));
  return { listener: listensAt(listener, { address: to.v4, port }), asked };
}

/** Has a socket listen there, and returns it. */
export function listensAt(listener: number, { address, port }: sockets.Peer): number {
  sockets.reuseAddress(listener);
  sockets.bindSocket(listener, address, port);
  sockets.listenSocket(listener, 1);
  return listener;
}

/** True where a byte goes each way. */
export function speaks({ client, server }: Ends): boolean {
  const buffer = Buffer.alloc(64);
  const goes = (from: number, to: number): boolean => {
    sockets.sendSocket(from, Buffer.from('x'), null);
    return waitFor(() => sockets.receiveSocket(to, buffer).kind === 'done', 400);
  };
  return goes(client, server) && goes(server, client);
}
