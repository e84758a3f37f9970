// Pages over HTTP for who watches over an agent: small, read-only, and of no use to whoever floods it.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type Page, type Pages, PLAIN } from './page.ts';
import type { ListenAddress } from './process-options.ts';

const MOST_CONNECTIONS = 64;
const LARGEST_HEAD = 8 * 1024;
/** A request that takes longer to arrive is none. */
const PATIENCE_MS = 5000;
const REQUESTS_OF_A_CONNECTION = 1000;
/** An address that cannot be had now is tried again this often. */
const RETRY_MS = 2000;

/**
 * Serves pages until closed. An address that is taken holds up nobody: `tell` hears of it once, and it is tried again.
 * No body is ever read: a request that announces one is refused, and its connection ends.
 */
export class HttpPages {
  readonly #address: ListenAddress;
  readonly #server: Server;
  readonly #tell: (message: string) => void;
  #complaint: string | null = null;
  #retry: NodeJS.Timeout | null = null;

  constructor(address: ListenAddress, pages: Pages, tell: (message: string) => void) {
    this.#address = address;
    this.#tell = tell;
    const limits = { maxHeaderSize: LARGEST_HEAD, headersTimeout: PATIENCE_MS, requestTimeout: PATIENCE_MS };
    const pace = { connectionsCheckingInterval: 1000, keepAliveTimeout: PATIENCE_MS };
    this.#server = createServer({ ...limits, ...pace }, (request, response) => answer(pages, request, response, tell));
    this.#server.maxConnections = MOST_CONNECTIONS;
    this.#server.maxRequestsPerSocket = REQUESTS_OF_A_CONNECTION;
    // Whoever asks for it would be told to go on and send a body.
    this.#server.on('checkContinue', (request, response) => answer(pages, request, response, tell));
    this.#server.on('error', (error) => this.#failed(error));
    this.#server.on('listening', () => this.#listening());
    this.#listen();
  }

  /** The port, where it is listened on: it may have been left to the kernel. Null until then. */
  get port(): number | null {
    const bound = this.#server.address();
    return typeof bound === 'object' && bound !== null ? bound.port : null;
  }

  close(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #listen(): void {
    this.#server.listen({ host: this.#address.host, port: this.#address.port });
  }

  #failed(error: Error): void {
    if (this.#server.listening) return;
    if (this.#complaint !== error.message) this.#tell(`nobody can ask for ${this.#text}: ${error.message}`);
    this.#complaint = error.message;
    this.#retry = setTimeout(() => this.#listen(), RETRY_MS);
  }

  #listening(): void {
    if (this.#complaint !== null) this.#tell(`${this.#text} can be asked for again`);
    this.#complaint = null;
  }

  get #text(): string {
    const { host, port } = this.#address;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }
}

function answer(
  pages: Pages,
  request: IncomingMessage,
  response: ServerResponse,
  tell: (message: string) => void,
): void {
  pageFor(pages, request)
    .catch((error: unknown) => {
      tell(`${request.url}: ${error instanceof Error ? error.message : String(error)}`);
      return plain(500, 'this page can not be made now; the log says why');
    })
    .then((page) => send(page, response));
}

function send(page: Page, response: ServerResponse): void {
  response.writeHead(page.status, {
    'content-type': page.type,
    'content-length': Buffer.byteLength(page.text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(page.status === 405 ? { allow: 'GET' } : {}),
    // What is left of a request that is refused would be taken for the next one.
    ...(page.status === 405 || page.status === 413 ? { connection: 'close' } : {}),
  });
  response.end(page.text);
}

async function pageFor(pages: Pages, { method, url = '', headers }: IncomingMessage): Promise<Page> {
  if (method !== 'GET') return plain(405, 'only GET is answered');
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = headers;
  if (length !== '0' || encoding !== undefined) return plain(413, 'no request has a body here');
  const [path = '', query = ''] = url.split('?', 2);
  const make = pages.get(path);
  if (make === undefined) return plain(404, `there is ${[...pages.keys()].join(', ')}`);
  return await make(new URLSearchParams(query));
}

function plain(status: number, text: string): Page {
  return { status, type: PLAIN, text: `${text}\n` };
}
