// The cluster source of a sandbox: gives every agent the whole world, then each change as it happens.
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { writeLine } from '#agent/json-lines.ts';
import { listenPrivately } from '#agent/listen.ts';
import type { SourceMessage } from '#agent/protocol.ts';
import { type ClusterEvent, EMPTY_WORLD, type World } from '#policy/world.ts';

/** Holds the published world. Its revision grows by one with every change. */
export class ClusterServer<Event extends ClusterEvent> {
  readonly #path: string;
  readonly #diff: (before: World, after: World) => readonly Event[];
  readonly #server: Server;
  /** Each agent, and when it has been told of all so far. */
  readonly #sockets: Map<Socket, Promise<void>> = new Map();
  #world: World = EMPTY_WORLD;
  #revision = 0;

  /** `diff`: what agents are told of, from one world to the next; each world is one that it knows, but for the first, which is EMPTY_WORLD. */
  constructor(path: string, diff: (before: World, after: World) => readonly Event[]) {
    this.#path = path;
    this.#diff = diff;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  async listen(): Promise<void> {
    await listenPrivately(this.#server, this.#path);
  }

  get world(): World {
    return this.#world;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Publishes a world; returns what changed. Where nothing did, the revision stays. */
  publish(world: World): readonly Event[] {
    const events = this.#diff(this.#world, world);
    this.#world = world;
    if (events.length === 0 && this.#revision > 0) return [];
    this.#revision++;
    for (const socket of this.#sockets.keys()) this.#send(socket, events);
    return events;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets.keys()) socket.destroy();
    rmSync(this.#path, { force: true });
  }

  #serve(socket: Socket): void {
    this.#sockets.set(socket, Promise.resolve());
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.resume();
    // Before the first world there is nothing to list; the first publish lists it.
    if (this.#revision > 0) this.#send(socket, this.#diff(EMPTY_WORLD, this.#world));
  }

  #send(socket: Socket, events: readonly Event[]): void {
    const revision = this.#revision;
    const before = this.#sockets.get(socket);
    this.#sockets.set(socket, before?.then(() => tell(socket, events, revision)) ?? Promise.resolve());
  }
}

/** No faster than it is read: a large cluster is not put up here as text. */
async function tell(socket: Socket, events: readonly ClusterEvent[], revision: number): Promise<void> {
  for (const event of events) {
    writeLine(socket, { kind: 'change', event } satisfies SourceMessage);
    if (socket.writableNeedDrain) await drained(socket);
  }
  writeLine(socket, { kind: 'synced', revision } satisfies SourceMessage);
}

/** Resolves when there is room to write, or the connection is over. */
async function drained(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once('drain', resolve).once('close', resolve);
  await promise;
  socket.off('drain', resolve).off('close', resolve);
}
