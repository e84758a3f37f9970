// A thread that sends a few frames through kernel programs, one after the other, round after round, until it is told to
// stop: several of them race for the same flows.
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { testRun } from '#kernel/bpf.ts';

/** One packet; `program`: a descriptor. */
export type Raced = { readonly program: number; readonly frame: Uint8Array; readonly interfaceIndex: number };

type Orders = { readonly packets: readonly Raced[]; readonly shared: Int32Array };

/** Runs in a thread of its own, in the network namespace that the caller is in. */
export class Racer {
  readonly #shared: Int32Array = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;

  constructor(packets: readonly Raced[]) {
    const orders: Orders = { packets, shared: this.#shared };
    this.#worker = new Worker(import.meta.filename, { workerData: orders });
  }

  /** Resolves after so many rounds. */
  async reach(rounds: number): Promise<void> {
    while (Atomics.load(this.#shared, 1) < rounds) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async stop(): Promise<void> {
    Atomics.store(this.#shared, 0, 1);
    await new Promise((resolve) => this.#worker.once('exit', resolve));
  }
}

if (!isMainThread) {
  const { packets, shared } = workerData as Orders;
  while (Atomics.load(shared, 0) === 0) {
    for (const { program, frame, interfaceIndex } of packets) {
      testRun(program, { frame, interfaceIndex, ingressIndex: interfaceIndex });
    }
    Atomics.add(shared, 1, 1);
  }
}
