// The sandbox's side of an agent's socket: requests with their answers, and the flows it subscribed to.
import { connect, type Socket } from 'node:net';
import { readLines, writeLine } from '#agent/json-lines.ts';
import type {
  AgentMessage,
  AgentRequest,
  AgentStatus,
  AttachRequest,
  BypassAnswer,
  BypassRequest,
  FlowEvent,
} from '#agent/protocol.ts';
import { SandboxError } from './error.ts';

/** What an agent tells unasked. */
export type AgentListener = {
  readonly flows: (events: readonly FlowEvent[], lost: number) => void;
  readonly applied: (revision: number, applyMs: number) => void;
  readonly problem: (message: string) => void;
  readonly gone: () => void;
};

type Ask = AgentRequest extends infer R ? (R extends AgentRequest ? Omit<R, 'id'> : never) : never;
type Pending = { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void };

/** One connection. When it breaks, every open request fails. */
export class AgentClient {
  readonly #socket: Socket;
  readonly #listener: AgentListener;
  readonly #pending: Map<number, Pending> = new Map();
  #next = 1;

  constructor(socket: Socket, listener: AgentListener) {
    this.#socket = socket;
    this.#listener = listener;
    readLines(socket, (value) => this.#handle(value as AgentMessage));
    socket.on('error', () => undefined);
    socket.on('close', () => this.#end());
  }

  async attach(endpoints: readonly AttachRequest[]): Promise<void> {
    await this.#ask({ method: 'attach', endpoints });
  }

  async detach(interfaces: readonly number[]): Promise<void> {
    await this.#ask({ method: 'detach', interfaces });
  }

  async status(): Promise<AgentStatus> {
    return (await this.#ask({ method: 'status' })) as AgentStatus;
  }

  /** Lets pass what policy denies the node's pods, for so long; 0 ends that. Returns for how long it is now. */
  async bypass(request: BypassRequest): Promise<BypassAnswer> {
    return (await this.#ask({ method: 'bypass', ...request })) as BypassAnswer;
  }

  /** From now on flows arrive. Returns the revision that is in force already. */
  async subscribe(): Promise<number> {
    return ((await this.#ask({ method: 'subscribe' })) as { readonly revision: number }).revision;
  }

  close(): void {
    this.#socket.destroy();
  }

  #ask(request: Ask): Promise<unknown> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    if (this.#socket.destroyed) return Promise.reject(goneError());
    this.#pending.set(id, { resolve, reject });
    writeLine(this.#socket, { ...request, id });
    return promise;
  }

  #handle(message: AgentMessage): void {
    switch (message.kind) {
      case 'answer':
        this.#settle(message.id, (pending) => pending.resolve(message.result));
        break;
      case 'refusal':
        this.#settle(message.id, (pending) => pending.reject(refusal(message.message)));
        break;
      case 'flows':
        this.#listener.flows(message.events, message.lost);
        break;
      case 'applied':
        this.#listener.applied(message.revision, message.applyMs);
        break;
      case 'problem':
        this.#listener.problem(message.message);
        break;
    }
  }

  #settle(id: number, how: (pending: Pending) => void): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending !== undefined) how(pending);
  }

  #end(): void {
    for (const pending of this.#pending.values()) pending.reject(goneError());
    this.#pending.clear();
    this.#listener.gone();
  }
}

/** Connects to an agent's socket, or null where nobody listens there (yet). */
export async function connectAgent(path: string, listener: AgentListener): Promise<AgentClient | null> {
  const { promise, resolve } = Promise.withResolvers<AgentClient | null>();
  const socket = connect(path);
  const refused = (): void => resolve(null);
  socket.once('error', refused);
  socket.once('connect', () => {
    socket.off('error', refused);
    resolve(new AgentClient(socket, listener));
  });
  return await promise;
}

function goneError(): SandboxError {
  return new SandboxError('agent-gone', 'the agent ended before it answered', 'see its log; it is started again');
}

function refusal(message: string): SandboxError {
  return new SandboxError('agent-refused', `the agent refused: ${message}`, 'see the log of the agent');
}
