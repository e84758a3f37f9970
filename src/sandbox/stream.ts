// One open connection that speaks all the time: shows when a change of policy meets its packets, to the millisecond.
import { randomBytes } from 'node:crypto';
import * as sockets from '#kernel/sockets.ts';
import { TCP } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import { SandboxError } from './error.ts';
import type { Borrowed, SharedSockets } from './shared-sockets.ts';

export type StreamSetup = {
  /** Namespaces of the two ends. */
  readonly fromNetns: string;
  readonly toNetns: string;
  /** TCP or UDP. */
  readonly flow: Flow;
  readonly sourcePort: number;
  /** Pause between packets, in milliseconds. */
  readonly intervalMs: number;
};

/** Packets in a row that must agree before a change counts as seen: one alone may be chance. */
const IN_A_ROW = 5;
/** An echo that takes longer than this is none. */
const ECHO_LIMIT_MS = 100;
const MESSAGE_SIZE = 16;
const START_LIMIT_MS = 3000;

type Sent = { readonly atMs: number; answered: boolean };

/** Sends numbered messages over one connection and notes which come back. `close` frees its sockets. */
export class PacketStream {
  readonly #setup: StreamSetup;
  readonly #borrowed: Borrowed;
  readonly #sent: Sent[] = [];
  readonly #nonce: Buffer = randomBytes(MESSAGE_SIZE - 8);
  readonly #buffer: Buffer = Buffer.alloc(65536);
  #fd = -1;
  #closeSocket: () => void = () => undefined;
  #received = 0;
  #open = false;
  #broken: string | null = null;
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(setup: StreamSetup, sockets: SharedSockets) {
    this.#setup = setup;
    this.#borrowed = sockets.borrow(1);
  }

  /** Starts connecting and speaking. */
  start(): void {
    const { flow, fromNetns, toNetns, sourcePort } = this.#setup;
    const kind = flow.protocol === TCP ? 'stream' : 'datagram';
    this.#borrowed.servers.listen({ netns: toNetns, address: flow.to }, flow.protocol, flow.port);
    const fd = this.#borrowed.loop.inside(fromNetns, () => sockets.openSocket(flow.from.family, kind));
    this.#fd = fd;
    sockets.bindSocket(fd, flow.from, sourcePort);
    if (kind === 'stream') sockets.resetOnClose(fd);
    sockets.connectSocket(fd, flow.to, flow.port);
    this.#closeSocket = this.#borrowed.loop.add(fd, 'read-write', () => this.#ready());
    this.#running = this.#run();
  }

  /** Waits for the first echo. Throws where none comes: there is nothing to watch. */
  async opened(): Promise<void> {
    if ((await this.#first(true, 0, START_LIMIT_MS)) !== null) return;
    throw new SandboxError('stream', 'the connection to watch does not open', 'probe it first: it must be allowed');
  }

  /** How many messages went out, and how many came back. */
  get counts(): { readonly sent: number; readonly answered: number } {
    return { sent: this.#sent.length, answered: this.#sent.filter((message) => message.answered).length };
  }

  /** The errno that ended the connection (a reset, for example), or null. */
  get broken(): string | null {
    return this.#broken;
  }

  /** When the first of a row of unanswered messages was sent, at or after a moment of performance.now(); null: none. */
  async firstSilent(afterMs: number, limitMs: number): Promise<number | null> {
    return await this.#first(false, afterMs, limitMs);
  }

  /** When the first of a row of answered messages was sent, likewise. */
  async firstAnswered(afterMs: number, limitMs: number): Promise<number | null> {
    return await this.#first(true, afterMs, limitMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
    this.#closeSocket();
    this.#borrowed.giveBack();
  }

  async #first(answered: boolean, afterMs: number, limitMs: number): Promise<number | null> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const found = this.#find(answered, afterMs);
      if (found !== null || performance.now() > deadline || this.#closed) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  #find(answered: boolean, afterMs: number): number | null {
    const settledMs = performance.now() - ECHO_LIMIT_MS;
    let row = 0;
    for (let index = this.#indexAt(afterMs); index < this.#sent.length; index++) {
      const message = this.#sent[index];
      if (message === undefined || (!message.answered && message.atMs > settledMs)) return null;
      row = message.answered === answered ? row + 1 : 0;
      if (row === IN_A_ROW) return this.#sent[index - IN_A_ROW + 1]?.atMs ?? null;
    }
    return null;
  }

  #indexAt(afterMs: number): number {
    const index = this.#sent.findLastIndex((message) => message.atMs < afterMs);
    return index + 1;
  }

  async #run(): Promise<void> {
    let nextMs = performance.now();
    while (!this.#closed) {
      await this.#borrowed.turned();
      const now = performance.now();
      if (!this.#open || this.#broken !== null || now < nextMs) continue;
      nextMs = Math.max(nextMs + this.#setup.intervalMs, now - this.#setup.intervalMs);
      this.#send(now);
    }
  }

  #send(now: number): void {
    const message = Buffer.alloc(MESSAGE_SIZE);
    message.writeDoubleBE(this.#sent.length);
    message.set(this.#nonce, 8);
    this.#sent.push({ atMs: now, answered: false });
    const sent = sockets.sendSocket(this.#fd, message, null);
    if (sent.kind === 'failed') this.#broken = sent.code;
  }

  #ready(): void {
    const error = sockets.socketError(this.#fd);
    if (error !== null) {
      this.#broken = error;
      this.#closeSocket();
      return;
    }
    if (!this.#open) {
      this.#open = true;
      this.#borrowed.loop.change(this.#fd, 'read');
      return;
    }
    const got = sockets.receiveSocket(this.#fd, this.#buffer);
    if (got.kind === 'failed') this.#broken = got.code;
    if (got.kind === 'done') this.#note(this.#buffer.subarray(0, got.bytes));
  }

  /** A stream's bytes come in order: the count tells which messages are back. A datagram says its own number. */
  #note(data: Buffer): void {
    if (this.#setup.flow.protocol !== TCP) {
      const message = this.#sent[data.readDoubleBE()];
      if (message !== undefined && this.#nonce.equals(data.subarray(8))) message.answered = true;
      return;
    }
    const first = Math.floor(this.#received / MESSAGE_SIZE);
    this.#received += data.length;
    const limitMs = performance.now() - ECHO_LIMIT_MS;
    for (const message of this.#sent.slice(first, Math.floor(this.#received / MESSAGE_SIZE))) {
      // What a retransmission brings back later was not let through when it was sent.
      if (message.atMs >= limitMs) message.answered = true;
    }
  }
}
