// Room in the tables that was freed: used again after two grace periods, on another thread's time.
import type { Encoder } from '#datapath/ebpf/encode/encoder.ts';
import { gracePeriod } from '#kernel/memory.ts';
import type { KernelTables } from './writer.ts';

export class Reclaim {
  readonly #encoder: Encoder;
  readonly #tables: KernelTables;
  readonly #fail: (cause: unknown) => void;
  #running: Promise<void> | null = null;
  #closed = false;

  /** `fail`: is told of a change that failed half-way. */
  constructor(encoder: Encoder, tables: KernelTables, fail: (cause: unknown) => void) {
    this.#encoder = encoder;
    this.#tables = tables;
    this.#fail = fail;
  }

  /** Begins, where something was freed and it has not begun yet. */
  start(): void {
    if (this.#running !== null || this.#encoder.limbo.isEmpty) return;
    this.#running = this.#batches()
      .catch(this.#fail)
      .finally(() => {
        this.#running = null;
      });
  }

  close(): void {
    this.#closed = true;
  }

  async #batches(): Promise<void> {
    while (!this.#closed && !this.#encoder.limbo.isEmpty) {
      const batch = this.#encoder.limbo.take();
      await gracePeriod();
      await gracePeriod();
      if (this.#closed) return;
      this.#encoder.finish(batch);
      this.#tables.flush();
    }
  }
}
