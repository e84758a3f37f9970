// A thread that sends one frame through a kernel program again and again, until it is told to stop.
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { testRun } from '#kernel/bpf.ts';

type Orders = {
  readonly program: number;
  readonly frame: Uint8Array;
  readonly interfaceIndex: number;
  /** [0]: 1 = stop; [1]: runs so far, in rounds. */
  readonly shared: Int32Array;
};

const ROUND = 200;

/** Runs in a thread of its own, in the network namespace that the caller is in. */
export class Hammer {
  readonly #shared: Int32Array = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;

  constructor(orders: Omit<Orders, 'shared'>) {
    this.#worker = new Worker(import.meta.filename, { workerData: { ...orders, shared: this.#shared } });
  }

  /** Packets sent so far. */
  get sent(): number {
    return Atomics.load(this.#shared, 1) * ROUND;
  }

  /** Waits until `count` more packets are through: those that were under way before are then, too. */
  async more(count: number): Promise<void> {
    const goal = this.sent + count + 2 * ROUND;
    while (this.sent < goal) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  async stop(): Promise<void> {
    Atomics.store(this.#shared, 0, 1);
    await new Promise((resolve) => this.#worker.once('exit', resolve));
  }
}

if (!isMainThread) {
  const { program, frame, interfaceIndex, shared } = workerData as Orders;
  while (Atomics.load(shared, 0) === 0) {
    testRun(program, { frame, interfaceIndex, ingressIndex: interfaceIndex, repeat: ROUND });
    Atomics.add(shared, 1, 1);
  }
}
