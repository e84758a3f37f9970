// Looks in the API server whether the policies of a namespace are known here as they are there, for pods that wait for that.
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Pod } from '#policy/world.ts';
import { KINDS, type ObjectKind, readObject } from './kinds.ts';
import { listPages } from './pages.ts';
import type { Requests } from './reflector.ts';
import { pauseAfter } from './retry.ts';

/** Who waits, and for what. */
export type CheckHost = {
  /** Pods that wait in a namespace. */
  readonly waiting: (namespace: string) => readonly Pod[];
  /** What is known here of the objects of a kind in a namespace: digests by id. */
  readonly known: (kind: ObjectKind, namespace: string) => ReadonlyMap<string, string>;
  /** What these pods waited for is known here. */
  readonly admit: (pods: readonly Pod[]) => void;
  /** Why pods of a namespace wait for so long; null where they do not any more. */
  readonly state: (namespace: string, problem: string | null) => void;
  /** Nothing is heard of a kind, though there is something to be heard: its watch is to be given up. */
  readonly stalled: (kind: ObjectKind) => void;
};

/** As `setTimeout` of node:timers/promises. */
type Wait = (ms: number, value: undefined, options: { readonly signal: AbortSignal }) => Promise<void>;

/**
 * Where what is known changes all the time, lists of a namespace come no closer to each other than the first, then twice as
 * long each time, up to the longest: whoever may write policies there has no more of them made.
 */
const LEAST_PAUSE_MS = 100;
const LONGEST_LEAST_MS = 2000;
/** So many lists in a row are others than what is watched, and nothing was heard of the kind, in any namespace. */
const STALLED_AFTER = 4;

/** What is known here is not what is listed. */
class Differs extends Error {
  readonly kind: ObjectKind;

  constructor(kind: ObjectKind, path: string) {
    super(`${path}: what is watched is not what the API server lists`);
    this.kind = kind;
  }
}

/**
 * A list says what there is; it does not say what a watch has told already. Where the two are the same, the watch has told
 * all that was there when the list was made, so all that was there when the pod came. Where they are not, what is watched
 * is late, or ahead of the list: it is looked again, at once when there is news, and else after a pause.
 */
export class PolicyCheck {
  readonly #requests: Requests;
  readonly #pageSize: number;
  readonly #host: CheckHost;
  readonly #wait: Wait;
  readonly #end = new AbortController();
  /** Namespaces that are looked at, and what ends the pause of each. */
  readonly #looking = new Map<string, AbortController>();
  /** How often anything was heard of policies. */
  #heard = 0;

  /** `wait`: how time passes. */
  constructor(requests: Requests, pageSize: number, host: CheckHost, wait: Wait = pause) {
    this.#requests = requests;
    this.#pageSize = pageSize;
    this.#host = host;
    this.#wait = wait;
  }

  close(): void {
    this.#end.abort();
    for (const news of this.#looking.values()) news.abort();
  }

  /** Pods may wait in the namespace. */
  look(namespace: string): void {
    if (!this.#looking.has(namespace)) void this.#run(namespace);
  }

  /** Something else is known of a namespace's policies; null: of any. */
  news(namespace: string | null): void {
    this.#heard++;
    const all = namespace === null ? [...this.#looking.values()] : [this.#looking.get(namespace)];
    for (const news of all) news?.abort();
  }

  async #run(namespace: string): Promise<void> {
    let failures = 0;
    let silence = new Silence(this.#heard);
    for (;;) {
      const news = new AbortController();
      this.#looking.set(namespace, news);
      const pods = this.#host.waiting(namespace);
      if (pods.length === 0 || this.#end.signal.aborted) break;
      try {
        await this.#compare(namespace);
        if (this.#end.signal.aborted) break;
        this.#host.admit(pods);
        failures = 0;
      } catch (error) {
        if (this.#end.signal.aborted) break;
        failures++;
        silence = silence.after(error, this.#heard);
        if (silence.stalled !== null) this.#host.stalled(silence.stalled);
        // That what is watched comes a moment after a list is ordinary.
        if (failures > 1) this.#host.state(namespace, error instanceof Error ? error.message : String(error));
        const waitMs = pauseAfter(error, failures, randomInt(1001) / 1000);
        const leastMs = Math.min(waitMs, LONGEST_LEAST_MS, LEAST_PAUSE_MS * 2 ** Math.min(failures - 1, 16));
        // Each rejects where it is closed, the second where there is or was news, too.
        await this.#wait(leastMs, undefined, { signal: this.#end.signal }).catch(() => undefined);
        await this.#wait(waitMs - leastMs, undefined, { signal: news.signal }).catch(() => undefined);
      }
    }
    this.#looking.delete(namespace);
    if (!this.#end.signal.aborted) this.#host.state(namespace, null);
  }

  /** Throws where what is known here is not what is there. */
  async #compare(namespace: string): Promise<void> {
    for (const kind of KINDS) {
      if (kind.selecting === null) continue;
      const path = kind.selecting(encodeURIComponent(namespace));
      const listed = new Map<string, string>();
      await listPages({
        pageSize: this.#pageSize,
        ask: (query) => this.#requests.get(`${path}?${query}`, this.#end.signal),
        take: (item) => {
          const reading = readObject(kind, item);
          if (reading === null) throw new Error(`${path}: an object has no name`);
          listed.set(reading.id, reading.digest);
        },
      });
      if (!isSame(listed, this.#host.known(kind, namespace))) {
        throw new Differs(kind, path);
      }
    }
  }
}

/** How often in a row a list was another than what is known, with nothing heard in between. */
class Silence {
  readonly #heard: number;
  readonly #times: number;
  /** The kind whose watch says nothing; null where that is not known. */
  readonly stalled: ObjectKind | null;

  constructor(heard: number, times = 0, stalled: ObjectKind | null = null) {
    this.#heard = heard;
    this.#times = times;
    this.stalled = stalled;
  }

  after(error: unknown, heard: number): Silence {
    if (!(error instanceof Differs) || heard !== this.#heard) return new Silence(heard);
    const times = this.#times + 1;
    return times < STALLED_AFTER ? new Silence(heard, times) : new Silence(heard, 0, error.kind);
  }
}

function isSame(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([id, digest]) => b.get(id) === digest);
}
