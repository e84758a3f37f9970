// Stands between an agent and its API server, and can keep what one kind's watch says to itself: no real server is as late
// as a test likes. Everything else goes through as it is.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { ControlPlane } from './control-plane.ts';

export class WatchGate {
  readonly #plane: ControlPlane;
  readonly #server: Server;
  /** Part of the requests whose answers are kept back; null where none is. */
  #kept: string | null = null;
  #waiting: (() => void)[] = [];

  private constructor(plane: ControlPlane) {
    this.#plane = plane;
    const { ca: cert, key } = plane;
    this.#server = createServer({ cert, key }, (asked, answer) => this.#forward(asked, answer));
  }

  static async open(plane: ControlPlane): Promise<WatchGate> {
    const gate = new WatchGate(plane);
    gate.#server.listen(0, '127.0.0.1');
    await once(gate.#server, 'listening');
    return gate;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on nothing passes of the answers to requests that have this in them. */
  keep(part: string): void {
    this.#kept = part;
  }

  /** All that was kept passes now, in its order. */
  release(): void {
    this.#kept = null;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #forward(asked: IncomingMessage, answer: ServerResponse): void {
    const { method, url = '/', headers } = asked;
    const there = { host: '127.0.0.1', port: this.#plane.port, ca: this.#plane.ca, agent: false };
    const sent = request({ ...there, method, path: url, headers });
    const pass = (go: () => void): void => {
      const isKept = this.#kept !== null && url.includes(this.#kept);
      if (isKept) this.#waiting.push(go);
      else go();
    };
    sent.on('response', (found) => {
      answer.writeHead(found.statusCode ?? 502, found.headers);
      answer.flushHeaders();
      found.on('data', (chunk) => pass(() => void answer.write(chunk)));
      found.on('end', () => pass(() => void answer.end())).on('error', () => void answer.destroy());
    });
    // As if nobody were there.
    sent.on('error', () => void answer.destroy());
    answer.on('close', () => void sent.destroy());
    asked.pipe(sent);
  }
}
