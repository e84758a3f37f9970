// Packets that stand at a gate of the kernel programs (gated-programs.ts) while this thread changes something.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { testRun } from '#kernel/bpf.ts';
import { GateWord } from './gate-word.ts';
import type { Place } from './gated-programs.ts';
import type { Raced } from './racer.ts';
import { keepThreadOn, threadCpus } from './thread-cpus.ts';

type Orders = { readonly packet: Raced; readonly cpu: number };

/** This thread and those of packets keep to CPUs of their own: who opens the gate must not wait for one that a packet holds. */
export class Gate {
  readonly #cpus: readonly number[] = threadCpus();
  readonly #word: GateWord;

  /** `tables`: where the datapath's maps are pinned. */
  constructor(tables: string) {
    assert.ok(this.#cpus.length > 1, 'who opens a gate needs another CPU than who stands there');
    this.#word = new GateWord(tables);
    keepThreadOn(this.#cpus.slice(0, 1));
  }

  /** What the program returns for a packet that stands at this place while `change` is made. */
  async hold(place: Place, packet: Raced, change: () => void): Promise<number> {
    this.#word.shut(place);
    const orders: Orders = { packet, cpu: this.#cpus.at(-1) ?? 0 };
    const worker = new Worker(import.meta.filename, { workerData: orders });
    const returned = once(worker, 'message');
    this.#word.during(place, change);
    return Number((await returned)[0]);
  }

  close(): void {
    this.#word.close();
    keepThreadOn(this.#cpus);
  }
}

if (!isMainThread) {
  const { packet, cpu } = workerData as Orders;
  const { program, frame, interfaceIndex } = packet;
  keepThreadOn([cpu]);
  parentPort?.postMessage(testRun(program, { frame, interfaceIndex, ingressIndex: interfaceIndex }).returned);
}
