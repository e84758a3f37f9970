// A sandbox's own socket: what other processes ask of it, as JSON lines.
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { isRequest, readLines, writeLine } from '#agent/json-lines.ts';
import { listenPrivately } from '#agent/listen.ts';
import type { ProbePort } from '#datapath/reference/simulate.ts';
import { type Address, parseAddress } from '#net/address.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import type { SandboxControl, SandboxEvent } from './api.ts';
import { errorText, InvalidInputError, SandboxError } from './error.ts';

export type ControlRequest =
  | { readonly id: number; readonly method: 'apply'; readonly objects: readonly SourceObject[] }
  | {
      readonly id: number;
      readonly method: 'probe';
      readonly ports: readonly ProbePort[] | null;
      readonly externals: readonly string[];
    }
  | { readonly id: number; readonly method: 'status' | 'down' | 'events' };

export type ControlMessage =
  | { readonly kind: 'answer'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly error: Refusal }
  | { readonly kind: 'progress'; readonly id: number; readonly done: number; readonly total: number }
  | { readonly kind: 'event'; readonly event: SandboxEvent };

/** A SandboxError on its way to another process. */
export type Refusal = {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly diagnostics: readonly Diagnostic[];
};

/** Bytes that may wait for a slow reader. */
const BACKLOG_LIMIT = 16 * 1024 * 1024;
const CONNECTION_LIMIT = 64;

/** Serves one sandbox until closed. */
export class ControlServer {
  readonly #path: string;
  readonly #sandbox: SandboxControl;
  readonly #server: Server;
  /** Connections, and how many requests of each are not answered yet. */
  readonly #sockets: Map<Socket, number> = new Map();
  #closed = false;

  constructor(path: string, sandbox: SandboxControl) {
    this.#path = path;
    this.#sandbox = sandbox;
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = CONNECTION_LIMIT;
  }

  async listen(): Promise<void> {
    await listenPrivately(this.#server, this.#path);
  }

  close(): void {
    this.#server.close();
    this.#closed = true;
    // Who waits for an answer (that of `down` among them) gets it before the end.
    for (const [socket, open] of this.#sockets) if (open === 0) socket.end();
    rmSync(this.#path, { force: true });
  }

  #serve(socket: Socket): void {
    this.#sockets.set(socket, 0);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    readLines(socket, (value) => {
      if (isRequest(value)) void this.#handle(socket, value as ControlRequest);
      else socket.destroy(new Error('a line is no request'));
    });
  }

  async #handle(socket: Socket, request: ControlRequest): Promise<void> {
    const { id } = request;
    const send = (message: ControlMessage): void => void writeLine(socket, message);
    this.#count(socket, 1);
    try {
      send({ kind: 'answer', id, result: await this.#answer(socket, request, send) });
    } catch (error) {
      send({ kind: 'refusal', id, error: refusalOf(error) });
    }
    this.#count(socket, -1);
  }

  #count(socket: Socket, change: 1 | -1): void {
    const open = (this.#sockets.get(socket) ?? 0) + change;
    if (this.#sockets.has(socket)) this.#sockets.set(socket, open);
    if (this.#closed && open === 0) socket.end();
  }

  async #answer(socket: Socket, request: ControlRequest, send: (message: ControlMessage) => void): Promise<unknown> {
    switch (request.method) {
      case 'apply':
        return await this.#sandbox.applyObjects(request.objects);
      case 'probe': {
        const externals = request.externals.map(readAddress);
        const progress = (done: number, total: number): void => {
          if (done % 50 === 0 || done === total) send({ kind: 'progress', id: request.id, done, total });
        };
        return await this.#sandbox.probe({ ports: request.ports, externals, progress });
      }
      case 'status':
        return await this.#sandbox.status();
      case 'down':
        await this.#sandbox.down();
        return {};
      case 'events': {
        const stop = this.#sandbox.onEvent(follower(socket, send));
        socket.on('close', stop);
        return {};
      }
    }
  }
}

/** Hands events on. A reader that is too slow loses flows, and learns how many. */
function follower(socket: Socket, send: (message: ControlMessage) => void): (event: SandboxEvent) => void {
  const lost = new Map<string, number>();
  return (event) => {
    if (event.kind !== 'flows') return send({ kind: 'event', event });
    const owed = event.lost + (lost.get(event.node) ?? 0);
    if (socket.writableLength > BACKLOG_LIMIT) {
      const here = event.events.reduce((sum, flow) => sum + flow.count, 0);
      lost.set(event.node, owed + here);
      return;
    }
    lost.delete(event.node);
    send({ kind: 'event', event: { ...event, lost: owed } });
  };
}

function readAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === null)
    throw new SandboxError('address', `'${text}' is not an IP address`, 'write an IPv4 or IPv6 one');
  return address;
}

/** An error on its way to another process. */
export function refusalOf(error: unknown): Refusal {
  const { code, hint } = error instanceof SandboxError ? error : { code: 'failed', hint: 'report this' };
  const diagnostics = error instanceof InvalidInputError ? error.diagnostics : [];
  return { code, message: errorText(error), hint, diagnostics };
}
