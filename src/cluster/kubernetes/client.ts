// Requests to an API server, over HTTPS.
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { finished } from 'node:stream/promises';
import { fieldsOf } from '#policy/fields.ts';
import type { Connect } from './connection.ts';
import type { Format } from './kinds.ts';
import type { Requests, StreamReader } from './reflector.ts';
import { AnswerTooLarge, ApiError, LARGEST_ANSWER, readRetryAfter } from './retry.ts';
import { ChangeCutter, PROTOBUF, readWireObject } from './wire.ts';

/** A request that nothing is heard of for so long has failed. */
const SILENT_MS = 30_000;
/** A connection that says nothing for so long is tried by TCP, which takes some ten seconds to give it up. */
const KEEP_ALIVE_MS = 30_000;

/** Of watches. tls.connect gets the mark: where nobody reads an answer now, its connection is not read ahead, but left to the kernel. */
const HELD_BACK = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, highWaterMark: 1 };

type Sending = { readonly method: string; readonly type: string; readonly text: string };

type Asking = {
  readonly signal: AbortSignal;
  readonly silentMs: number;
  readonly accept: string;
  readonly agent: Agent;
};

const JSON_TYPE = 'application/json';
/** What is asked for. A server that has no protobuf of a kind, or is none of Kubernetes' own, answers in JSON. */
const ACCEPT: Readonly<Record<Format, { readonly object: string; readonly watch: string }>> = {
  json: { object: JSON_TYPE, watch: JSON_TYPE },
  protobuf: { object: `${PROTOBUF}, ${JSON_TYPE}`, watch: `${PROTOBUF};stream=watch, ${PROTOBUF}, ${JSON_TYPE}` },
};

export class ApiClient implements Requests {
  readonly #connect: Connect;
  readonly #errors = new Map<string, number>();
  readonly #agent = new Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS });
  readonly #watches = new Agent(HELD_BACK);

  constructor(connect: Connect) {
    this.#connect = connect;
  }

  /** How many requests failed, by the status of the answer; `none` where there was none, or it broke off. */
  get errors(): ReadonlyMap<string, number> {
    return this.#errors;
  }

  async get(path: string, signal: AbortSignal, format: Format = 'json'): Promise<unknown> {
    return await this.#about(path, signal, async () => {
      const response = await this.#open(path, {
        signal,
        silentMs: SILENT_MS,
        accept: ACCEPT[format].object,
        agent: this.#agent,
      });
      return contentOf(response, await bytesOf(response));
    });
  }

  /** Sends an object, and returns what the server made of it. */
  async send(method: 'POST' | 'PATCH', path: string, body: object, signal: AbortSignal): Promise<unknown> {
    return await this.#about(path, signal, async () => {
      const type = method === 'PATCH' ? 'application/merge-patch+json' : JSON_TYPE;
      const asking = { signal, silentMs: SILENT_MS, accept: JSON_TYPE, agent: this.#agent };
      const response = await this.#open(path, asking, { method, type, text: JSON.stringify(body) });
      return contentOf(response, await bytesOf(response));
    });
  }

  async stream(
    path: string,
    { signal, silentMs, format = 'json', restMs = 0, opened, lines }: StreamReader,
  ): Promise<void> {
    await this.#about(path, signal, async () => {
      const response = await this.#open(path, { signal, silentMs, accept: ACCEPT[format].watch, agent: this.#watches });
      opened();
      const cut = isProtobuf(response) ? new ChangeCutter() : new LineCutter();
      await readPaced(response, restMs, (piece) => lines(cut.take(piece)));
      if (!cut.isBetween) throw new Error('the answer broke off in the middle of a change');
    });
  }

  /** Every failure says what was asked, and is counted; that somebody gave up asking is none. */
  async #about<T>(path: string, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      const code = error instanceof ApiError ? String(error.status) : 'none';
      // That something is there already is an answer.
      if (!signal.aborted && code !== '409') this.#errors.set(code, (this.#errors.get(code) ?? 0) + 1);
      if (error instanceof Error) error.message = `${path.replace(/\?.*/, '')}: ${error.message}`;
      throw error;
    }
  }

  /** Resolves with the answer, once its head says that it is the one asked for. */
  async #open(path: string, { signal, silentMs, accept, agent }: Asking, sending?: Sending): Promise<IncomingMessage> {
    const { server, token, ca, cert, key, servername } = this.#connect();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = request(new URL(`${server.pathname.replace(/\/$/, '')}${path}`, server), {
      ...{ ca, cert, key, signal, agent },
      ...(servername === undefined ? {} : { servername }),
      ...(sending === undefined ? {} : { method: sending.method }),
      headers: {
        accept,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(sending === undefined ? {} : { 'content-type': sending.type }),
      },
    });
    let answer: IncomingMessage | null = null;
    sent.on('error', reject).on('response', (response) => {
      answer = response;
      resolve(response);
    });
    const silent = new Error(`nothing was heard for ${silentMs / 1000} s`);
    sent.setTimeout(silentMs, () => (answer ?? sent).destroy(silent)).end(sending?.text);
    const response = await promise;
    if (response.statusCode === 200 || response.statusCode === 201) return response;
    throw await refusal(response);
  }
}

async function refusal(response: IncomingMessage): Promise<ApiError> {
  const { statusCode = 0, statusMessage = '', headers } = response;
  const said = messageOf(response, await bytesOf(response)) ?? '';
  const message = `${statusCode} ${statusMessage}${said === '' ? '' : `: ${said}`}`;
  return new ApiError(statusCode, message, readRetryAfter(headers['retry-after']));
}

/** What a Status object says; null where the answer is none, as that of a proxy. */
function messageOf(response: IncomingMessage, bytes: Buffer): string | null {
  try {
    const { message } = fieldsOf(contentOf(response, bytes));
    return typeof message === 'string' ? message.slice(0, 500) : null;
  } catch {
    return null;
  }
}

function isProtobuf({ headers }: IncomingMessage): boolean {
  return headers['content-type']?.startsWith(PROTOBUF) === true;
}

/** Throws where it is not what its head says that it is. */
function contentOf(response: IncomingMessage, bytes: Buffer): unknown {
  return isProtobuf(response) ? readWireObject(bytes) : JSON.parse(bytes.toString('utf8'));
}

/** Throws AnswerTooLarge, and gives the connection up. */
async function bytesOf(response: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += chunk.length;
    if (length > LARGEST_ANSWER) throw new AnswerTooLarge();
    parts.push(chunk);
  }
  return Buffer.concat(parts, length);
}

/**
 * Gives the pieces of an answer to `take`, those of one moment one after the other, until its end. Throws what `take` throws, and
 * where the answer breaks off. After each moment nothing is read from the connection for `restMs`: what comes meanwhile comes together.
 */
async function readPaced(response: IncomingMessage, restMs: number, take: (piece: Buffer) => void): Promise<void> {
  let rest: NodeJS.Timeout | null = null;
  let failure: { readonly error: unknown } | null = null;
  const goOn = (): void => {
    rest = null;
    response.resume();
  };
  response.on('data', (piece: Buffer) => {
    if (failure !== null) return;
    if (restMs > 0 && rest === null) {
      rest = setTimeout(goOn, restMs);
      // What has been read by now is still told.
      setImmediate(() => response.pause());
    }
    try {
      take(piece);
    } catch (error) {
      failure = { error };
      response.destroy();
    }
  });
  try {
    await finished(response);
  } catch (error) {
    failure ??= { error };
  } finally {
    clearTimeout(rest ?? undefined);
  }
  if (failure !== null) throw failure.error;
}

const NEWLINE = 10;

/** Makes parsed lines of pieces. A line of megabytes comes in hundreds, and each is looked at once. */
class LineCutter {
  #parts: Buffer[] = [];
  #length = 0;

  /** No line is begun. */
  get isBetween(): boolean {
    return this.#length === 0;
  }

  /** The lines that end in the piece. */
  take(piece: Buffer): readonly unknown[] {
    const whole: unknown[] = [];
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, from)) {
      this.#parts.push(piece.subarray(from, end));
      const line = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#length = 0;
      from = end + 1;
      whole.push(JSON.parse(line));
    }
    if (from < piece.length) this.#parts.push(piece.subarray(from));
    this.#length += piece.length - from;
    if (this.#length > LARGEST_ANSWER) throw new Error(`a line has more than ${LARGEST_ANSWER} bytes`);
    return whole;
  }
}
