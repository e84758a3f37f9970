// Time that passes when a test says so, for what waits by `setTimeout` of node:timers/promises: however busy the machine is, what
// happens in a second is what the test says that happens in it.
import { setImmediate } from 'node:timers/promises';

type Wait = { readonly atMs: number; readonly end: () => void };

export class VirtualTime {
  #nowMs = 0;
  readonly #waits = new Set<Wait>();

  get nowMs(): number {
    return this.#nowMs;
  }

  /** As that of node:timers/promises, and as often. */
  readonly pause = (ms = 0, _?: undefined, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal?.aborted) return Promise.reject(signal.reason);
    const wait: Wait = { atMs: this.#nowMs + ms, end: resolve };
    this.#waits.add(wait);
    signal?.addEventListener('abort', () => void (this.#waits.delete(wait) && reject(signal.reason)));
    return promise;
  };

  /** Lets so much time pass. Resolves when all has been done that was due, with what came of it. */
  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      await settled();
      const [next] = [...this.#waits].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#nowMs = next.atMs;
      this.#waits.delete(next);
      next.end();
    }
    this.#nowMs = endMs;
  }
}

/** Promises that need nothing but their turn have had it. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 10; turns++) await setImmediate();
}
