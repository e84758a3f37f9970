// What balancers are answered at the nodes' health check ports of Services: the page that kube-proxy gives them. Anybody who
// reaches the node may ask: connections, and the ports of one namespace, are limited.
import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { formatAddress } from '#net/address.ts';
import { namespaceOf } from '#policy/service.ts';
import type { BalancerCheck } from '#service/checks.ts';
import { Complaints } from './complaints.ts';

/** Ports listened on, at addresses of the node; one namespace leaves others a sixteenth. */
const MOST_PORTS = 1024;
const MOST_OF_NAMESPACE = 960;
/** Of one port, and of all together. */
const CONNECTIONS_OF_PORT = 16;
const MOST_CONNECTIONS = 1024;
const LARGEST_HEAD = 8 * 1024;
/** A request that takes longer to arrive is none. */
const PATIENCE_MS = 5000;
/** A port that cannot be had now is tried again this often: kube-proxy may have it yet. */
const RETRY_MS = 2000;

type Port = { check: BalancerCheck; readonly server: Server; complaint: string | null; retry: NodeJS.Timeout | null };
type Asked = { readonly isWell: () => boolean; readonly tell: (message: string) => void };

/** Listens where balancers ask, until closed. A port that is taken holds up nobody: it is said once, and tried again. */
export class BalancerPages {
  readonly #asked: Asked;
  readonly #ports = new Map<string, Port>();
  readonly #lacks: Complaints;
  #connections = 0;

  /** `isWell`: whether the node's datapath is looked after; where it is not, no balancer is to send anything. */
  constructor(asked: Asked) {
    this.#asked = asked;
    this.#lacks = new Complaints(asked.tell);
  }

  /** These are all that balancers ask from now on. */
  follow(checks: readonly BalancerCheck[]): void {
    const [wanted, left] = withinLimits(checks);
    for (const [name, port] of this.#ports) if (!wanted.has(name)) this.#end(name, port);
    for (const [name, check] of wanted) {
      const known = this.#ports.get(name);
      if (known === undefined) this.#begin(name, check);
      else known.check = check;
    }
    this.#lacks.are(left.length === 0 ? [] : [lackText(left)]);
  }

  close(): void {
    this.follow([]);
  }

  #begin(name: string, check: BalancerCheck): void {
    const limits = { maxHeaderSize: LARGEST_HEAD, headersTimeout: PATIENCE_MS, requestTimeout: PATIENCE_MS };
    // Loaded where a balancer asks, and by no agent before.
    const { createServer } = process.getBuiltinModule('node:http');
    const server = createServer({ ...limits, connectionsCheckingInterval: PATIENCE_MS }, (_, response) =>
      answer(port.check, this.#asked.isWell(), response),
    );
    server.maxConnections = CONNECTIONS_OF_PORT;
    const port: Port = { check, server, complaint: null, retry: null };
    this.#ports.set(name, port);
    server.on('connection', (socket) => this.#connected(socket));
    server.on('error', ({ message }) => this.#failed(name, port, message));
    server.on('listening', () => this.#listening(name, port));
    listen(port);
  }

  #connected(socket: Socket): void {
    this.#connections++;
    socket.on('close', () => this.#connections--);
    if (this.#connections > MOST_CONNECTIONS) socket.destroy();
  }

  #failed(name: string, port: Port, message: string): void {
    if (port.server.listening || this.#ports.get(name) !== port) return;
    if (port.complaint !== message) {
      this.#asked.tell(`no balancer can ask for Service ${port.check.service} at ${name}: ${message}`);
    }
    port.complaint = message;
    port.retry = setTimeout(() => listen(port), RETRY_MS);
  }

  #listening(name: string, port: Port): void {
    if (port.complaint !== null) this.#asked.tell(`${name} can be asked for Service ${port.check.service} again`);
    port.complaint = null;
  }

  #end(name: string, { server, retry }: Port): void {
    this.#ports.delete(name);
    if (retry !== null) clearTimeout(retry);
    server.close();
    server.closeAllConnections();
  }
}

function listen({ server, check }: Port): void {
  server.listen({ host: formatAddress(check.address), port: check.port });
}

/** In the order of coming, and the Services that there is no port for. Of two that name the same port, the first has it. */
function withinLimits(checks: readonly BalancerCheck[]): readonly [Map<string, BalancerCheck>, readonly string[]] {
  const taken = new Map<string, BalancerCheck>();
  const left = new Set<string>();
  const counts = new Map<string, number>();
  for (const check of checks) {
    const namespace = namespaceOf(check.service);
    const count = counts.get(namespace) ?? 0;
    if (count >= MOST_OF_NAMESPACE || taken.size >= MOST_PORTS || taken.has(nameOf(check))) {
      left.add(check.service);
      continue;
    }
    counts.set(namespace, count + 1);
    taken.set(nameOf(check), check);
  }
  return [taken, [...left]];
}

function lackText(services: readonly string[]): string {
  const [first] = services;
  return (
    `balancers are not answered for ${services.length} Services (${first} among others): a node listens at ${MOST_PORTS} ` +
    `health check ports, ${MOST_OF_NAMESPACE} of one namespace, and at each for one Service`
  );
}

/** Whatever the path and the method. A request's body is not read: its connection ends with the answer. */
function answer({ service, localEndpoints }: BalancerCheck, isWell: boolean, response: ServerResponse): void {
  const [namespace, name] = service.split('/');
  const text = `${JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy: isWell })}\n`;
  response.writeHead(isWell && localEndpoints > 0 ? 200 : 503, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'x-content-type-options': 'nosniff',
    'x-load-balancing-endpoint-weight': String(localEndpoints),
    connection: 'close',
  });
  response.end(text);
}

function nameOf({ address, port }: BalancerCheck): string {
  const host = formatAddress(address);
  return `${address.family === 6 ? `[${host}]` : host}:${port}`;
}
