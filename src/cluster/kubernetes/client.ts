// Requests to an API server, over HTTPS.
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { fieldsOf } from '#policy/fields.ts';
import type { Connect } from './connection.ts';
import type { Requests, StreamReader } from './reflector.ts';
import { AnswerTooLarge, ApiError, LARGEST_ANSWER, readRetryAfter } from './retry.ts';

/** A request that nothing is heard of for so long has failed. */
const SILENT_MS = 30_000;
/** A connection that says nothing for so long is tried by TCP, which takes some ten seconds to give it up. */
const KEEP_ALIVE_MS = 30_000;

type Sending = { readonly method: string; readonly type: string; readonly text: string };

export class ApiClient implements Requests {
  readonly #connect: Connect;
  readonly #errors = new Map<string, number>();
  readonly #agent = new Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS });

  constructor(connect: Connect) {
    this.#connect = connect;
  }

  /** How many requests failed, by the status of the answer; `none` where there was none, or it broke off. */
  get errors(): ReadonlyMap<string, number> {
    return this.#errors;
  }

  async get(path: string, signal: AbortSignal): Promise<unknown> {
    return await this.#about(path, signal, async () => {
      const response = await this.#open(path, signal, SILENT_MS);
      return JSON.parse(await textOf(response));
    });
  }

  /** Sends an object, and returns what the server made of it. */
  async send(method: 'POST' | 'PATCH', path: string, body: object, signal: AbortSignal): Promise<unknown> {
    return await this.#about(path, signal, async () => {
      const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
      const response = await this.#open(path, signal, SILENT_MS, { method, type, text: JSON.stringify(body) });
      return JSON.parse(await textOf(response));
    });
  }

  async stream(path: string, { signal, silentMs, opened, lines }: StreamReader): Promise<void> {
    await this.#about(path, signal, async () => {
      const response = await this.#open(path, signal, silentMs);
      opened();
      const cut = new LineCutter();
      response.setEncoding('utf8');
      for await (const chunk of response) lines(cut.take(chunk).map((line) => JSON.parse(line)));
      if (!cut.isBetween) throw new Error('the answer broke off in the middle of a line');
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
  async #open(path: string, signal: AbortSignal, silentMs: number, sending?: Sending): Promise<IncomingMessage> {
    const { server, token, ca, cert, key, servername } = this.#connect();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = request(new URL(`${server.pathname.replace(/\/$/, '')}${path}`, server), {
      ...{ ca, cert, key, signal, agent: this.#agent },
      ...(servername === undefined ? {} : { servername }),
      ...(sending === undefined ? {} : { method: sending.method }),
      headers: {
        accept: 'application/json',
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
  const text = await textOf(response);
  const said = messageOf(text) ?? '';
  const message = `${statusCode} ${statusMessage}${said === '' ? '' : `: ${said}`}`;
  return new ApiError(statusCode, message, readRetryAfter(headers['retry-after']));
}

/** What a Status object says; null where the answer is none, as that of a proxy. */
function messageOf(text: string): string | null {
  try {
    const { message } = fieldsOf(JSON.parse(text));
    return typeof message === 'string' ? message.slice(0, 500) : null;
  } catch {
    return null;
  }
}

/** Throws AnswerTooLarge, and gives the connection up. */
async function textOf(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  const parts: string[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += chunk.length;
    if (length > LARGEST_ANSWER) throw new AnswerTooLarge();
    parts.push(chunk);
  }
  return parts.join('');
}

/** Makes lines of pieces. A line of megabytes comes in hundreds, and each is looked at once. */
class LineCutter {
  #parts: string[] = [];
  #length = 0;

  /** No line is begun. */
  get isBetween(): boolean {
    return this.#length === 0;
  }

  /** The lines that end in the piece. */
  take(piece: string): readonly string[] {
    const whole: string[] = [];
    let from = 0;
    for (let end = piece.indexOf('\n'); end >= 0; end = piece.indexOf('\n', from)) {
      whole.push(`${this.#parts.join('')}${piece.slice(from, end)}`);
      this.#parts = [];
      this.#length = 0;
      from = end + 1;
    }
    this.#parts.push(piece.slice(from));
    this.#length += piece.length - from;
    if (this.#length > LARGEST_ANSWER) throw new Error(`a line has more than ${LARGEST_ANSWER} characters`);
    return whole;
  }
}
