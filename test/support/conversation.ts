// A client that speaks with a server through whatever stands between them, several times to and fro.
import * as sockets from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { waitFor } from './pod-bed.ts';

export type Talk = {
  readonly protocol: typeof TCP | typeof UDP;
  /** Files of the namespaces. */
  readonly client: string;
  readonly server: string;
  /** Whom the client means, who may not be the server's own address. */
  readonly to: sockets.Peer;
  readonly at: sockets.Peer;
};

/** How long one message may take: of TCP, the first may be sent twice more. */
const PATIENCE_MS = 4000;
/** For what must not arrive: what passes takes a few milliseconds. */
export const MOMENT_MS: number = 400;
const MESSAGE = 8;

/** Both ends of a conversation, to be closed. A connected UDP socket hears nobody but the one it means. */
export class Conversation {
  readonly #talk: Talk;
  readonly #listener: number;
  readonly #client: number;
  #peer: number | null = null;
  #seen: Address | null = null;
  #count = 0;

  constructor(talk: Talk) {
    this.#talk = talk;
    const kind = talk.protocol === TCP ? 'stream' : 'datagram';
    const { family } = talk.to.address;
    this.#listener = inside(talk.server, () => sockets.openSocket(family, kind));
    this.#client = inside(talk.client, () => sockets.openSocket(family, kind));
    sockets.reuseAddress(this.#listener);
    sockets.bindSocket(this.#listener, talk.at.address, talk.at.port);
    if (kind === 'stream') sockets.listenSocket(this.#listener, 1);
    sockets.connectSocket(this.#client, talk.to.address, talk.to.port);
  }

  /** Whom the server took the client for, once it heard something by UDP. */
  get seen(): Address | null {
    return this.#seen;
  }

  /** Sends a message each way so many times; true where all of them arrived, each within the time. */
  exchange(times: number, patienceMs: number = PATIENCE_MS): boolean {
    for (let each = 0; each < times; each++) if (!this.#ask(patienceMs) || !this.#answer(patienceMs)) return false;
    return true;
  }

  close(): void {
    for (const fd of [this.#client, this.#peer, this.#listener]) if (fd !== null) sockets.closeSocket(fd);
  }

  #ask(patienceMs: number): boolean {
    const message = this.#message();
    if (this.#talk.protocol === UDP) {
      if (sockets.sendSocket(this.#client, message, null).kind !== 'done') return false;
      return waitFor(() => this.#hears(message), patienceMs);
    }
    if (this.#peer === null && !waitFor(() => this.#accepted(), patienceMs)) return false;
    const peer = this.#peer;
    if (peer === null || sockets.sendSocket(this.#client, message, null).kind !== 'done') return false;
    return waitFor(() => receives(peer, message), patienceMs);
  }

  #answer(patienceMs: number): boolean {
    const message = this.#message();
    const to = this.#talk.protocol === UDP ? this.#sender : null;
    const from = this.#talk.protocol === UDP ? this.#listener : this.#peer;
    if (from === null || sockets.sendSocket(from, message, to).kind !== 'done') return false;
    return waitFor(() => receives(this.#client, message), patienceMs);
  }

  #sender: sockets.Peer | null = null;

  #hears(message: Buffer): boolean {
    const buffer = Buffer.alloc(64);
    const { got, from } = sockets.receiveFrom(this.#listener, buffer);
    if (got.kind !== 'done' || !buffer.subarray(0, got.bytes).equals(message)) return false;
    this.#sender = from;
    this.#seen = from?.address ?? null;
    return true;
  }

  #accepted(): boolean {
    this.#peer = sockets.acceptSocket(this.#listener);
    return this.#peer !== null;
  }

  #message(): Buffer {
    const message = Buffer.alloc(MESSAGE);
    message.writeUInt32LE(++this.#count);
    return message;
  }
}

/** Whether a conversation of a few messages succeeds, none of which is late; it is closed then. */
export function talks(talk: Talk): boolean {
  const conversation = new Conversation(talk);
  try {
    return conversation.exchange(5, MOMENT_MS);
  } finally {
    conversation.close();
  }
}

function receives(fd: number, message: Buffer): boolean {
  const buffer = Buffer.alloc(64);
  const got = sockets.receiveSocket(fd, buffer);
  return got.kind === 'done' && buffer.subarray(0, got.bytes).equals(message);
}

export function inside<T>(netns: string, work: () => T): T {
  const fd = sockets.openNetns(netns);
  try {
    return sockets.inNetns(fd, work);
  } finally {
    sockets.closeSocket(fd);
  }
}
