// The agent's socket: requests and answers as JSON lines, and flows to everybody who subscribed.
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { isRequest, type Request, readLines, writeLine } from './json-lines.ts';
import { listenPrivately } from './listen.ts';
import type { AgentMessage, AgentRequest, FlowEvent } from './protocol.ts';
import { readRequest } from './request.ts';

/** Answers one request; what it throws becomes a refusal. */
export type Answer = (request: AgentRequest) => Promise<unknown>;

/** A subscriber that lets this much wait loses events, and is told how many. */
const BACKLOG_LIMIT = 16 * 1024 * 1024;
/** One that lets this much wait does not read at all: it is cut off. */
const CUT_LIMIT = 2 * BACKLOG_LIMIT;
/** The longest request attaches a node's pods: some hundred bytes each. */
const REQUEST_LIMIT = 1024 * 1024;
/** A node that starts asks for all its pods at once, each on a connection of its own. */
const CONNECTION_LIMIT = 512;

/** Listens on a socket file that its owner alone can use. */
export class AgentServer {
  readonly #path: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket> = new Set();
  /** Subscribers, and how many events each has lost since it was last told. */
  readonly #subscribers: Map<Socket, number> = new Map();
  readonly #answer: Answer;

  constructor(path: string, answer: Answer) {
    this.#path = path;
    this.#answer = answer;
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = CONNECTION_LIMIT;
  }

  async listen(): Promise<void> {
    await listenPrivately(this.#server, this.#path);
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** Sends a batch of events to every subscriber. Each learns exactly how many it did not get. */
  publishFlows(events: readonly FlowEvent[], lost: number): void {
    for (const [socket, owed] of this.#subscribers) {
      if (socket.writableLength > BACKLOG_LIMIT) {
        this.#subscribers.set(socket, owed + lost + countOf(events));
        continue;
      }
      this.#subscribers.set(socket, 0);
      this.#send(socket, { kind: 'flows', events, lost: lost + owed });
    }
  }

  publish(message: AgentMessage): void {
    for (const socket of this.#subscribers.keys()) this.#send(socket, message);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    rmSync(this.#path, { force: true });
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('drain', () => this.#tellLoss(socket));
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.#subscribers.delete(socket);
    });
    const take = (value: unknown): void => {
      if (isRequest(value)) void this.#handle(socket, value);
      else socket.destroy(new Error('a line is no request'));
    };
    readLines(socket, take, REQUEST_LIMIT);
  }

  async #handle(socket: Socket, asked: Request): Promise<void> {
    const { id } = asked;
    try {
      const request = readRequest(asked);
      if (request.method === 'subscribe') this.#subscribers.set(socket, 0);
      this.#send(socket, { kind: 'answer', id, result: await this.#answer(request) });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#send(socket, { kind: 'refusal', id, message });
    }
  }

  #tellLoss(socket: Socket): void {
    const lost = this.#subscribers.get(socket) ?? 0;
    if (lost === 0) return;
    this.#subscribers.set(socket, 0);
    this.#send(socket, { kind: 'flows', events: [], lost });
  }

  #send(socket: Socket, message: AgentMessage): void {
    if (writeLine(socket, message) > CUT_LIMIT) socket.destroy(new Error('answers are not read'));
  }
}

function countOf(events: readonly FlowEvent[]): number {
  return events.reduce((sum, event) => sum + event.count, 0);
}
