// The sockets of all probes and streams of a sandbox: one loop, one echo server a port, however many look at once.
import { EchoServers } from './probe-listen.ts';
import { RawChannels } from './probe-raw.ts';
import { SocketLoop } from './socket-loop.ts';

/** The sockets, while somebody uses them. */
export type Borrowed = {
  readonly loop: SocketLoop;
  readonly raw: RawChannels;
  readonly servers: EchoServers;
  /** Resolves when what was ready has been handled, `turnMs` later at most. Rejects where the loop has failed. */
  readonly turned: () => Promise<void>;
  /** Closed with the last user's return: until then its listeners stay, for whoever else uses them. */
  readonly giveBack: () => void;
};

type Open = {
  readonly loop: SocketLoop;
  readonly raw: RawChannels;
  readonly servers: EchoServers;
  /** How long each user lets a turn wait. */
  readonly users: Map<symbol, number>;
  turn: PromiseWithResolvers<void>;
};

/** Lends the sockets out; without users there are none. */
export class SharedSockets {
  #open: Open | null = null;

  borrow(turnMs: number): Borrowed {
    const open = this.#open ?? this.#start();
    const user = Symbol('user');
    open.users.set(user, turnMs);
    const { loop, raw, servers } = open;
    return { loop, raw, servers, turned: () => open.turn.promise, giveBack: () => void open.users.delete(user) };
  }

  #start(): Open {
    const loop = new SocketLoop();
    const raw = new RawChannels(loop);
    const open = { loop, raw, servers: new EchoServers(loop, raw), users: new Map(), turn: newTurn() };
    this.#open = open;
    // A failure reaches everybody who waits for a turn.
    setImmediate(() => void this.#run(open).catch((error) => open.turn.reject(error)));
    return open;
  }

  async #run(open: Open): Promise<void> {
    try {
      while (open.users.size > 0) {
        await open.loop.turn(Math.min(...open.users.values()));
        // The events of the nodes arrive on Node's own sockets: let them in.
        await new Promise<void>((resolve) => setImmediate(resolve));
        const { turn } = open;
        open.turn = newTurn();
        turn.resolve();
      }
    } finally {
      if (this.#open === open) this.#open = null;
      open.loop.close();
    }
  }
}

function newTurn(): PromiseWithResolvers<void> {
  const turn = Promise.withResolvers<void>();
  // Nobody may be waiting; who comes later learns of the failure all the same.
  turn.promise.catch(() => undefined);
  return turn;
}
