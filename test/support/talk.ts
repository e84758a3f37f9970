// TCP between namespaces that are known by their files: whether a connection comes about, and one that is kept open.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { address, waitFor } from './pod-bed.ts';

/** Both ends of a connection. */
export type Talk = { readonly client: number; readonly server: number };

const PORT = 8080;

/** Opens a connection from one namespace to an address of another; fails where it does not come about. */
export function conversation(from: string, to: string, target: string): Talk {
  const opened = open(from, to, target);
  assert.ok(opened, `${target} accepts`);
  return opened;
}

/** True where a connection comes about. */
export function accepted(from: string, to: string, target: string): boolean {
  const talk = open(from, to, target);
  return hangUp(talk);
}

/** A connection to be tried: from one namespace to an address of another. */
export type Try = { readonly from: string; readonly to: string; readonly target: string };

/**
 * Which of these connections come about, all tried at once. Those that are to are waited for; what comes about in the moment
 * after that counts, too. What else this process does goes on meanwhile.
 */
export async function allAccepted(tries: readonly (Try & { readonly wanted: boolean })[]): Promise<readonly boolean[]> {
  const opened = tries.map((each, index) => begin(each, PORT + index));
  const end = performance.now() + LONG_MS;
  const areThere = (): boolean => opened.map((each, index) => isOpen(each) || !tries[index]?.wanted).every(Boolean);
  while (!areThere() && performance.now() < end) await pause(2);
  await pause(MOMENT_MS);
  return opened.map((opening) => {
    isOpen(opening);
    return hangUp(finish(opening));
  });
}

function hangUp(talk: Talk | null): boolean {
  for (const end of [talk?.client, talk?.server]) if (end !== undefined) sockets.closeSocket(end);
  return talk !== null;
}

/** True where a byte goes each way. */
export function talks({ client, server }: Talk): boolean {
  const goes = (a: number, b: number): boolean => {
    sockets.sendSocket(a, Buffer.from('x'), null);
    return waitFor(() => sockets.receiveSocket(b, Buffer.alloc(64)).kind === 'done', 1500);
  };
  return goes(client, server) && goes(server, client);
}

/** A first packet may meet a link that has no carrier yet, and is sent again after a second. */
const PATIENCE_MS = 1500;
/** What is to come about has so long: a busy machine may lose the second packet, too. */
const LONG_MS = 4000;
/** What passes arrives within a few milliseconds. */
const MOMENT_MS = 250;

function open(from: string, to: string, target: string): Talk | null {
  const opening = begin({ from, to, target }, PORT);
  waitFor(() => isOpen(opening), PATIENCE_MS);
  return finish(opening);
}

type Opening = { readonly listener: number; readonly client: number; server: number | null };

function begin({ from, to, target }: Try, port: number): Opening {
  const goal = address(target);
  const listener = within(to, () => sockets.openSocket(goal.family, 'stream'));
  const client = within(from, () => sockets.openSocket(goal.family, 'stream'));
  sockets.reuseAddress(listener);
  sockets.bindSocket(listener, goal, port);
  sockets.listenSocket(listener, 1);
  sockets.connectSocket(client, goal, port);
  return { listener, client, server: null };
}

function isOpen(opening: Opening): boolean {
  opening.server ??= sockets.acceptSocket(opening.listener);
  return opening.server !== null;
}

/** Null where it did not come about. */
function finish({ listener, client, server }: Opening): Talk | null {
  sockets.closeSocket(listener);
  if (server !== null) return { client, server };
  sockets.closeSocket(client);
  return null;
}

function within<T>(netns: string, work: () => T): T {
  const handle = sockets.openNetns(netns);
  try {
    return sockets.inNetns(handle, work);
  } finally {
    sockets.closeSocket(handle);
  }
}
