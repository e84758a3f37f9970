// A sandbox that another process holds: the same methods as `Sandbox`, over its control socket.
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { LINE_LIMIT, lineOf, readLines } from '#agent/json-lines.ts';
import { isInvalid, loadManifests } from '#cluster/load.ts';
import { formatAddress } from '#net/address.ts';
import { firstOfInput } from '#policy/diagnostic.ts';
import type { Change, SandboxEvent, SandboxProbe, SandboxStatus } from './api.ts';
import type { ControlMessage, ControlRequest, Refusal } from './control.ts';
import { InvalidInputError, SandboxError } from './error.ts';
import { checkInstanceName, statePaths } from './names.ts';
import { type Leftovers, readOwner, release, removeLeftovers, requireRoot } from './owner.ts';
import type { ProbeResult } from './probe.ts';

type Ask = ControlRequest extends infer R ? (R extends ControlRequest ? Omit<R, 'id'> : never) : never;
type Pending = {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly progress: ((done: number, total: number) => void) | undefined;
};

/** Connects to a sandbox that is up. Throws SandboxError where none of that name is. */
export async function connectSandbox(name: string): Promise<SandboxClient> {
  const { control } = statePaths(checkInstanceName(name));
  requireRoot();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect(control);
  socket.once('connect', resolve);
  socket.once('error', (cause) => {
    reject(new SandboxError('not-up', `no sandbox '${name}' is up`, "start it with 'moat sandbox up'", cause));
  });
  await promise;
  return new SandboxClient(name, socket);
}

/** What `downSandbox` found. */
export type Downed = { readonly kind: 'down' | 'absent' } | ({ readonly kind: 'leftovers' } & Leftovers);

/** Ends a sandbox, whoever holds it; where its process is dead, removes what it left. */
export async function downSandbox(name: string): Promise<Downed> {
  checkInstanceName(name);
  requireRoot();
  if (readOwner(name) !== null) {
    const client = await connectSandbox(name);
    await client.down();
    client.close();
    return { kind: 'down' };
  }
  const known = existsSync(statePaths(name).folder);
  const leftovers = await removeLeftovers(name);
  release(name);
  const nothing = !known && !leftovers.pins && leftovers.namespaces.length + leftovers.processes.length === 0;
  return nothing ? { kind: 'absent' } : { kind: 'leftovers', ...leftovers };
}

/** One connection to a sandbox. */
export class SandboxClient {
  readonly name: string;
  readonly #socket: Socket;
  readonly #pending: Map<number, Pending> = new Map();
  readonly #listeners: Set<(event: SandboxEvent) => void> = new Set();
  #next = 1;
  #following = false;

  constructor(name: string, socket: Socket) {
    this.name = name;
    this.#socket = socket;
    readLines(socket, (value) => this.#handle(value as ControlMessage));
    socket.on('error', () => undefined);
    socket.on('close', () => this.#end());
  }

  /** Adds or replaces objects. The files are read here, so `-` and relative paths mean what they say here. */
  async apply(paths: readonly string[], options: { readonly lenient?: boolean } = {}): Promise<Change> {
    const { objects, diagnostics } = loadManifests(paths);
    if (isInvalid(diagnostics) && options.lenient !== true) throw new InvalidInputError(diagnostics);
    const change = (await this.#ask({ method: 'apply', objects })) as Change;
    return { ...change, diagnostics: firstOfInput([...diagnostics, ...change.diagnostics]) };
  }

  async probe(ask: SandboxProbe): Promise<ProbeResult> {
    const externals = (ask.externals ?? []).map(formatAddress);
    return (await this.#ask({ method: 'probe', ports: ask.ports, externals }, ask.progress)) as ProbeResult;
  }

  async status(): Promise<SandboxStatus> {
    return (await this.#ask({ method: 'status' })) as SandboxStatus;
  }

  /** Ends the sandbox. Resolves when nothing of it is left. */
  async down(): Promise<void> {
    await this.#ask({ method: 'down' });
  }

  onEvent(listener: (event: SandboxEvent) => void): () => void {
    this.#listeners.add(listener);
    // A failure to follow means that the connection is gone, which every later request reports.
    if (!this.#following) this.#ask({ method: 'events' }).catch(() => undefined);
    this.#following = true;
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#socket.destroy();
  }

  #ask(request: Ask, progress?: (done: number, total: number) => void): Promise<unknown> {
    if (this.#socket.destroyed) return Promise.reject(this.#goneError());
    const id = this.#next++;
    const line = lineOf({ ...request, id });
    if (line === null) return Promise.reject(tooLarge());
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject, progress });
    this.#socket.write(line);
    return promise;
  }

  #handle(message: ControlMessage): void {
    if (message.kind === 'event') {
      for (const listener of this.#listeners) listener(message.event);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (message.kind === 'progress') {
      pending?.progress?.(message.done, message.total);
      return;
    }
    this.#pending.delete(message.id);
    if (message.kind === 'answer') pending?.resolve(message.result);
    else pending?.reject(errorOf(message.error));
  }

  #end(): void {
    for (const pending of this.#pending.values()) pending.reject(this.#goneError());
    this.#pending.clear();
  }

  #goneError(): SandboxError {
    return new SandboxError('gone', `the sandbox '${this.name}' has ended`, "start it with 'moat sandbox up'");
  }
}

function tooLarge(): SandboxError {
  const message = `the objects are too many to hand over at once: more than ${LINE_LIMIT >> 20} MiB`;
  return new SandboxError('too-large', message, 'apply them in parts');
}

/** A refusal as the error that it was where it happened. */
export function errorOf(refusal: Refusal): SandboxError {
  if (refusal.diagnostics.length > 0) return new InvalidInputError(refusal.diagnostics);
  return new SandboxError(refusal.code, refusal.message, refusal.hint);
}
