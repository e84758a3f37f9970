// Packets that stand at a gate of the kernel programs (gated-programs.ts) while this thread changes something.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { closeObject, getPinned, testRun } from '#kernel/bpf.ts';
import { mapArray, type SharedMemory } from '#kernel/memory.ts';
import { GATE, GATE_MAP, PLACE, type Place } from './gated-programs.ts';
import { waitFor } from './pod-bed.ts';
import type { Raced } from './racer.ts';
import { keepThreadOn, threadCpus } from './thread-cpus.ts';

/** A thread begins, and its packet comes to its gate. */
const ARRIVAL_MS = 10_000;

type Orders = { readonly packet: Raced; readonly cpu: number };

/** This thread and those of packets keep to CPUs of their own: who opens the gate must not wait for one that a packet holds. */
export class Gate {
  readonly #cpus: readonly number[];
  readonly #memory: SharedMemory;
  readonly #word: BigUint64Array;

  /** `tables`: where the datapath's maps are pinned. */
  constructor(tables: string) {
    const fd = getPinned(`${tables}/${GATE_MAP}`);
    assert.ok(fd !== null, 'these programs have no gate');
    this.#memory = mapArray(fd, 8, 1);
    this.#word = new BigUint64Array(this.#memory.bytes, 0, 1);
    closeObject(fd);
    this.#cpus = threadCpus();
    assert.ok(this.#cpus.length > 1, 'who opens a gate needs another CPU than who stands there');
    keepThreadOn(this.#cpus.slice(0, 1));
  }

  /** What the program returns for a packet that stands at this place while `change` is made. */
  async hold(place: Place, packet: Raced, change: () => void): Promise<number> {
    const number = BigInt(PLACE[place]);
    Atomics.store(this.#word, 0, number);
    const orders: Orders = { packet, cpu: this.#cpus.at(-1) ?? 0 };
    const worker = new Worker(import.meta.filename, { workerData: orders });
    const returned = once(worker, 'message');
    const stands = number | BigInt(GATE.stands);
    try {
      assert.ok(
        waitFor(() => Atomics.load(this.#word, 0) !== number, ARRIVAL_MS),
        `no packet came to '${place}'`,
      );
      change();
      assert.equal(Atomics.load(this.#word, 0), stands, `the packet at '${place}' stood too long`);
    } finally {
      Atomics.store(this.#word, 0, 0n);
    }
    return Number((await returned)[0]);
  }

  close(): void {
    this.#memory.close();
    keepThreadOn(this.#cpus);
  }
}

if (!isMainThread) {
  const { packet, cpu } = workerData as Orders;
  const { program, frame, interfaceIndex } = packet;
  keepThreadOn([cpu]);
  parentPort?.postMessage(testRun(program, { frame, interfaceIndex, ingressIndex: interfaceIndex }).returned);
}
