// Follows all objects of one kind: lists them page by page, then watches; lists again where a watch can't go on.
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { fieldsOf } from '#policy/fields.ts';
import type { Format, ObjectKind } from './kinds.ts';
import { listPages } from './pages.ts';
import { ApiError, isBusy, isEarlier, isExpired, pauseAfter } from './retry.ts';

/** How requests are made: by HTTPS, or by a test. Each throws an ApiError where the server refuses. */
export type Requests = {
  /** The answer to a GET, parsed. `format`: what is asked for, `json` by default. */
  get(path: string, signal: AbortSignal, format?: Format): Promise<unknown>;
  /** Resolves where the server ends it in order. Throws where it breaks off, or says nothing for too long. */
  stream(path: string, reader: StreamReader): Promise<void>;
};

/** Who reads the answer to a watch. */
export type StreamReader = {
  readonly signal: AbortSignal;
  /** A watch that says nothing for so long is dead. */
  readonly silentMs: number;
  /** What is asked for; `json` by default. */
  readonly format?: Format;
  /** After each piece nothing is read for so long: what comes meanwhile comes together. 0 by default. */
  readonly restMs?: number;
  /** The server has agreed. */
  opened(): void;
  /** The changes that end in each piece of the answer, parsed. */
  lines(values: readonly unknown[]): void;
};

/** What is heard of one kind. `Reading` is what is kept of an object: it is made as the object arrives. */
export type Listener<Reading> = {
  /** Throws where the object is none of the kind. */
  read(object: unknown): Reading;
  /** Everything that there is; a list that failed half-way is never told. */
  list(readings: readonly Reading[]): void;
  set(reading: Reading): void;
  gone(reading: Reading): void;
  /** Why the kind is not known as it is now; null where it is. */
  state(problem: string | null): void;
};

export type ReflectorOptions = {
  /** Objects of one page of a list. */
  readonly pageSize: number;
  /** The server is asked to end each watch after this long, in seconds, and up to half as long again. */
  readonly watchSeconds: number;
};

/** A page of some megabytes; watches end before load balancers or tokens do. */
export const REFLECTOR_DEFAULTS: ReflectorOptions = { pageSize: 200, watchSeconds: 180 };

/**
 * A watch that has not ended so long after it should have is dead. Silence before that says nothing: where the store has
 * no news of a kind, some API servers send no bookmarks either. That the other machine is gone, TCP finds out.
 */
const OVERDUE_MS = 30_000;

/** A watch that ended in order, and so early, is a server that is shutting down: it is not asked again at once. */
const EARLY_MS = 1000;

/** Runs until closed. */
export class Reflector<Reading> {
  readonly #requests: Requests;
  readonly #path: string;
  readonly #format: Format;
  readonly #restMs: number;
  readonly #listener: Listener<Reading>;
  readonly #options: ReflectorOptions;
  readonly #end = new AbortController();
  /** Ends the watch that runs; null where none does. */
  #watching: AbortController | null = null;
  /** The version that a watch can go on from; null where everything is to be listed. */
  #version: string | null = null;
  /** The latest version that was ever heard of. */
  #latest = '0';
  #failures = 0;
  /** The last watch told of nothing, and ended: another such tells of nothing either, and seems well. */
  #endedAtOnce = false;

  constructor(
    requests: Requests,
    { path, format, restMs }: Pick<ObjectKind, 'path' | 'format' | 'restMs'>,
    listener: Listener<Reading>,
    options: ReflectorOptions,
  ) {
    this.#requests = requests;
    this.#path = path;
    this.#format = format;
    this.#restMs = restMs;
    this.#listener = listener;
    this.#options = options;
    void this.#run();
  }

  close(): void {
    this.#end.abort();
  }

  /** The watch that runs has failed by what somebody else knows: everything is listed again. Nothing where none runs. */
  giveUp(why: Error): void {
    this.#watching?.abort(why);
  }

  get #closed(): boolean {
    return this.#end.signal.aborted;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        if (this.#version === null) this.#version = await this.#list();
        else await this.#checkStore(this.#version);
        await this.#watch(this.#version);
      } catch (error) {
        if (!this.#closed) await this.#failed(error);
      }
    }
  }

  async #failed(error: unknown): Promise<void> {
    this.#failures++;
    // A server that is merely busy keeps the version. After any other failure nobody knows what was missed: a store that
    // was set back, and has grown past this version since, would go on as if nothing had happened.
    if (!isBusy(error)) this.#version = null;
    // An expired version is ordinary, once.
    if (isExpired(error) && this.#failures === 1) return;
    await this.#wait(error);
  }

  async #wait(error: unknown): Promise<void> {
    this.#listener.state(error instanceof Error ? error.message : String(error));
    await this.#pause(pauseAfter(error, this.#failures, randomInt(1001) / 1000));
  }

  async #pause(milliseconds: number): Promise<void> {
    // Rejects where it is closed meanwhile.
    await pause(milliseconds, undefined, { signal: this.#end.signal }).catch(() => undefined);
  }

  /** Lists everything. Returns the version that the list is of. */
  async #list(): Promise<string> {
    const readings: Reading[] = [];
    const version = await listPages({
      pageSize: this.#options.pageSize,
      ask: (query) => this.#page(query),
      take: (item) => void readings.push(this.#listener.read(item)),
    });
    if (isEarlier(version, this.#latest)) this.#listener.state(setBack(this.#latest, version).message);
    this.#latest = version;
    this.#listener.list(readings);
    this.#listener.state(null);
    return version;
  }

  /** A page that the server asks to wait for does not cost those before it. */
  async #page(query: string): Promise<unknown> {
    for (;;) {
      try {
        return await this.#requests.get(`${this.#path}?${query}`, this.#end.signal, this.#format);
      } catch (error) {
        if (!isBusy(error) || this.#closed) throw error;
        this.#failures++;
        await this.#wait(error);
      }
    }
  }

  async #watch(from: string): Promise<void> {
    const { watchSeconds } = this.#options;
    const timeoutSeconds = watchSeconds + randomInt(Math.ceil(watchSeconds / 2) + 1);
    const query = new URLSearchParams({
      ...{ watch: 'true', allowWatchBookmarks: 'true' },
      ...{ resourceVersion: from, timeoutSeconds: String(timeoutSeconds) },
    });
    const startedMs = performance.now();
    let isSilent = true;
    const watching = new AbortController();
    this.#watching = watching;
    try {
      await this.#requests.stream(`${this.#path}?${query}`, {
        signal: AbortSignal.any([this.#end.signal, watching.signal]),
        silentMs: timeoutSeconds * 1000 + OVERDUE_MS,
        ...{ format: this.#format, restMs: this.#restMs },
        opened: () => this.#listener.state(null),
        lines: (values) => {
          isSilent &&= values.length === 0;
          this.#take(values);
        },
      });
    } catch (error) {
      throw watching.signal.aborted ? watching.signal.reason : error;
    } finally {
      this.#watching = null;
    }
    const isEarly = performance.now() - startedMs < EARLY_MS;
    const isAgain = this.#endedAtOnce;
    this.#endedAtOnce = isEarly && isSilent;
    if (this.#endedAtOnce && isAgain) throw new Error('each watch ends at once');
    if (isEarly) await this.#pause(EARLY_MS);
    else this.#failures = 0;
  }

  /**
   * Before a watch goes on: one from a version that the store has not reached yet would be silent, and deaf to all that
   * happens until it has.
   */
  async #checkStore(version: string): Promise<void> {
    const { metadata } = fieldsOf(await this.#requests.get(`${this.#path}?limit=1`, this.#end.signal, this.#format));
    const { resourceVersion } = fieldsOf(metadata);
    if (typeof resourceVersion !== 'string') throw new Error('the answer is no list');
    if (isEarlier(resourceVersion, version)) throw setBack(version, resourceVersion);
  }

  /** In the order in which they came; what came before a fault counts. */
  #take(values: readonly unknown[]): void {
    for (const value of values) {
      const { type, object } = fieldsOf(value);
      if (type === 'ERROR') throw statusError(object);
      const { resourceVersion } = fieldsOf(fieldsOf(object).metadata);
      if (typeof resourceVersion !== 'string' || resourceVersion === '') throw new Error('a change has no version');
      if (isEarlier(resourceVersion, this.#version ?? '0')) {
        throw setBack(this.#version ?? '0', resourceVersion);
      }
      if (type === 'ADDED' || type === 'MODIFIED') this.#listener.set(this.#listener.read(object));
      else if (type === 'DELETED') this.#listener.gone(this.#listener.read(object));
      else if (type !== 'BOOKMARK')
        throw new Error(`a change is ${JSON.stringify(type) ?? 'nothing'}, which nobody knows`);
      this.#version = resourceVersion;
      this.#latest = resourceVersion;
      this.#failures = 0;
    }
  }
}

function setBack(before: string, now: string): Error {
  return new Error(`the API server's store was set back: version ${before} came before ${now}`);
}

/** A Status object, as an error. */
function statusError(object: unknown): ApiError {
  const { code, message, details } = fieldsOf(object);
  const { retryAfterSeconds } = fieldsOf(details);
  const retryAfterMs = typeof retryAfterSeconds === 'number' ? retryAfterSeconds * 1000 : null;
  return new ApiError(typeof code === 'number' ? code : 500, String(message ?? 'the watch failed'), retryAfterMs);
}
