// The word by which this process and the gate of the kernel programs (gated-programs.ts) speak.
import assert from 'node:assert/strict';
import { closeObject, getPinned } from '#kernel/bpf.ts';
import { mapArray, type SharedMemory } from '#kernel/memory.ts';
import { PATIENCE } from '#sandbox/patience.ts';
import { GATE, GATE_MAP, PLACE, type Place } from './gated-programs.ts';
import { waitFor } from './pod-bed.ts';

/** A thread begins, and comes to the gate. */
const ARRIVAL_MS = 10_000 * PATIENCE;

export class GateWord {
  readonly #memory: SharedMemory;
  readonly #word: BigUint64Array;

  /** `tables`: where the datapath's maps are pinned. */
  constructor(tables: string) {
    const fd = getPinned(`${tables}/${GATE_MAP}`);
    assert.ok(fd !== null, 'these programs have no gate');
    this.#memory = mapArray(fd, 8, 1);
    this.#word = new BigUint64Array(this.#memory.bytes, 0, 1);
    closeObject(fd);
  }

  /** Who comes to this place next stands there. */
  shut(place: Place): void {
    Atomics.store(this.#word, 0, BigInt(PLACE[place]));
  }

  /** Holds up this thread until somebody stands there, and does `work` then; who stands must still do so afterwards. */
  during<T>(place: Place, work: () => T): T {
    const number = BigInt(PLACE[place]);
    const stands = number | BigInt(GATE.stands);
    try {
      const came = waitFor(() => ![0n, number].includes(Atomics.load(this.#word, 0)), ARRIVAL_MS);
      assert.ok(came, `nobody came to '${place}'`);
      const result = work();
      assert.equal(Atomics.load(this.#word, 0), stands, `who came to '${place}' stood too long`);
      return result;
    } finally {
      Atomics.store(this.#word, 0, 0n);
    }
  }

  close(): void {
    this.#memory.close();
  }
}
