// The kernel's own way to change and list links, addresses and routes: a socket for each namespace, messages sent together.
import koffi from 'koffi';
import { decodeAnswer, type End, encodeMessage, type Message, type Told } from './netlink.ts';
import { SystemCallError } from './sockets.ts';

const libc = koffi.load('libc.so.6');
const call = {
  socket: libc.func('int socket(int family, int kind, int protocol)'),
  send: libc.func('long send(int fd, void *data, size_t size, int flags)'),
  receive: libc.func('long recv(int fd, void *data, size_t size, int flags)'),
  close: libc.func('int close(int fd)'),
};

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const NLM_F_ACK = 4;
/** Answers are read here, by one at a time: reading never waits. The kernel makes none longer than 32 KiB. */
const room: Buffer = Buffer.allocUnsafeSlow(1 << 16);
const LIST_ATTEMPTS = 5;

/** What came of a message: what the kernel told, and how that ended. */
export type Outcome = End & { readonly told: readonly Told[] };

/** A socket of the namespace that the thread is in when it is opened; it stays there. */
export class Rtnetlink {
  readonly #fd: number;
  /** What another thread is sending: nothing else keeps it from the garbage collector until the kernel has read it. */
  #sending: Buffer | null = null;

  constructor() {
    this.#fd = Number(call.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0));
    if (this.#fd < 0) throw new SystemCallError('socket', koffi.errno());
  }

  /** Makes changes in order; one that is refused does not keep the later ones from being made. Throws the first refusal (SystemCallError). */
  change(what: string, messages: readonly Message[]): void {
    const last = messages.length;
    // The kernel tells of refusals anyway, in order; that all is well, of the last alone.
    const told = messages.map((message, at) => {
      return { ...message, sequence: at + 1, flags: at + 1 === last ? message.flags : message.flags & ~NLM_F_ACK };
    });
    this.#send(told);
    this.#check(
      what,
      this.#receive((outcomes) => outcomes.at(-1)?.sequence === last),
    );
  }

  /** As `change`, of one message, on another thread: nothing else may be asked of this socket meanwhile. */
  async changeAside(what: string, message: Message): Promise<void> {
    const bytes = encodeMessage(message);
    this.#sending = bytes;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    call.send.async(this.#fd, bytes, bytes.length, 0, (error: Error | null, sent: number) =>
      error === null ? resolve(sent) : reject(error),
    );
    const sent = await promise;
    // The reason stays with the other thread.
    if (sent !== this.#sending.length) throw new Error(`${what}: the kernel does not take the message`);
    this.#sending = null;
    this.#check(
      what,
      this.#receive((outcomes) => outcomes.length === 1),
    );
  }

  /** Asks each of the messages, which have NLM_F_ACK; or one for a list. What came of each. */
  ask(messages: readonly Message[]): readonly Outcome[] {
    this.#send(messages);
    return this.#receive((outcomes) => outcomes.length === messages.length);
  }

  /** All that there is of a kind, as it was at one moment; where that can't be had, as it was meanwhile. */
  list(request: Message): Outcome['told'] {
    for (let attempt = 1; ; attempt++) {
      const [outcome] = this.ask([request]);
      if (outcome === undefined || outcome.errno !== 0) throw new SystemCallError('RTM_GET', outcome?.errno ?? 0);
      if (!outcome.changed || attempt === LIST_ATTEMPTS) return outcome.told;
    }
  }

  close(): void {
    call.close(this.#fd);
  }

  #send(messages: readonly Message[]): void {
    const bytes = Buffer.concat(messages.map(encodeMessage));
    if (Number(call.send(this.#fd, bytes, bytes.length, 0)) < 0) throw new SystemCallError('send', koffi.errno());
  }

  #check(what: string, outcomes: readonly Outcome[]): void {
    const refusal = outcomes.find(({ errno }) => errno !== 0);
    if (refusal !== undefined) throw new SystemCallError(what, refusal.errno);
  }

  /** What the kernel has to say is there once it has taken the messages: nothing here waits. */
  #receive(isAll: (outcomes: readonly Outcome[]) => boolean): readonly Outcome[] {
    const outcomes: Outcome[] = [];
    let told: Told[] = [];
    while (!isAll(outcomes)) {
      const size = Number(call.receive(this.#fd, room, room.length, MSG_DONTWAIT));
      if (size < 0) throw new SystemCallError('recv', koffi.errno());
      // The room is used again; what is kept is not part of it.
      for (const part of decodeAnswer(Buffer.from(room.subarray(0, size)))) {
        if (!('errno' in part)) told.push(part);
        else {
          outcomes.push({ ...part, told, changed: [...told, part].some(({ changed }) => changed) });
          told = [];
        }
      }
    }
    return outcomes;
  }
}
