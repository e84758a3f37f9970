// What a follower of a source comes to know: the world after each batch, as text, and what the source said of itself.
import type { Batch, Follower } from '#cluster/follower.ts';
import { ApiClient } from '#cluster/kubernetes/client.ts';
import type { Connect } from '#cluster/kubernetes/connection.ts';
import type { Format } from '#cluster/kubernetes/kinds.ts';
import type { Requests, StreamReader } from '#cluster/kubernetes/reflector.ts';
import { formatAddress } from '#net/address.ts';
import type { ClusterEvent } from '#policy/world.ts';

export class Mirror implements Follower {
  readonly batches: Batch[] = [];
  readonly said: string[] = [];
  /** `pod a/b` → what is known of it. */
  readonly #things = new Map<string, string>();
  #noted = 0;

  /** Events that came before the first batch. */
  get noted(): number {
    return this.#noted;
  }

  note(events: readonly ClusterEvent[]): void {
    this.#noted += events.length;
    for (const event of events) this.#take(event);
  }

  apply(batch: Batch): void {
    this.batches.push(batch);
    for (const event of batch.events) this.#take(event);
  }

  known(): Iterable<ClusterEvent> {
    throw new Error('this source keeps its own account');
  }

  readonly tell = (message: string): void => void this.said.push(message);

  /** What is known of things whose name has this in it, sorted. */
  about(part: string): readonly string[] {
    return [...this.#things.values()].filter((text) => text.includes(part)).sort();
  }

  #take(event: ClusterEvent): void {
    const name = `${event.kind} ${'key' in event ? event.key : event.name}`;
    if (event.value === null) this.#things.delete(name);
    else this.#things.set(name, `${name}${detail(event)}`);
  }
}

function detail(event: ClusterEvent): string {
  if (event.kind !== 'pod' || event.value === null) return '';
  const { labels, addresses, node } = event.value;
  const said = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return ` [${[node, ...said, ...addresses.map(formatAddress)].join(' ')}]`;
}

/** A client's requests as they are made, and what came of them. */
export class Recorded implements Requests {
  readonly #client: ApiClient;
  /** `GET /path?query`, `WATCH …`, `LINE BOOKMARK …`, `FAILED …`. */
  readonly log: string[] = [];
  /** Is asked what to request in place of a path. */
  rewrite: (path: string) => string = (path) => path;

  constructor(connect: Connect) {
    this.#client = new ApiClient(connect);
  }

  async get(path: string, signal: AbortSignal, format?: Format): Promise<unknown> {
    return await this.#noting(`GET ${path}`, () => this.#client.get(this.rewrite(path), signal, format));
  }

  async stream(path: string, reader: StreamReader): Promise<void> {
    const lines = (values: readonly unknown[]): void => {
      for (const value of values as { type: string; object: { metadata: { resourceVersion: string } } }[]) {
        this.log.push(`LINE ${path.replace(/\?.*/, '')} ${value.type} ${value.object.metadata.resourceVersion}`);
      }
      reader.lines(values);
    };
    await this.#noting(`WATCH ${path}`, () => this.#client.stream(this.rewrite(path), { ...reader, lines }));
  }

  async #noting<T>(what: string, ask: () => Promise<T>): Promise<T> {
    this.log.push(what);
    try {
      return await ask();
    } catch (error) {
      const status = error instanceof Error && 'status' in error ? ` ${String(error.status)}` : '';
      this.log.push(`FAILED${status} ${what}`);
      throw error;
    }
  }
}
