// The records of a BPF ring buffer, out of the memory that it shares with the kernel. Layout: Documentation/bpf/ringbuf.rst.

const BUSY = 0x8000_0000;
const DISCARD = 0x4000_0000;
const HEADER = 8;

/** A ring whose positions contradict each other: nothing more can be read from it. */
export class RingError extends Error {
  constructor(message: string) {
    super(`ring buffer: ${message}`);
    this.name = 'RingError';
  }
}

export class RingReader {
  readonly #consumed: BigUint64Array;
  readonly #produced: BigUint64Array;
  readonly #data: Uint8Array;
  readonly #headers: Int32Array;
  readonly #size: number;

  /** The reader's page and the writer's, each with its position first, and the data: `size` bytes, twice in a row. */
  constructor(consumer: ArrayBuffer, producer: ArrayBuffer, data: Uint8Array<ArrayBuffer>, size: number) {
    this.#consumed = new BigUint64Array(consumer, 0, 1);
    this.#produced = new BigUint64Array(producer, 0, 1);
    this.#data = data;
    this.#headers = new Int32Array(data.buffer, data.byteOffset, (2 * size) / 4);
    this.#size = size;
  }

  /**
   * Gives each record to `take`, oldest first, until the ring is empty. The bytes are valid during the call only. Throws
   * RingError, having moved no further, where a record reaches beyond what was written.
   */
  drain(take: (record: Uint8Array) => void): void {
    let at = Atomics.load(this.#consumed, 0);
    for (;;) {
      const ready = Atomics.load(this.#produced, 0) - at;
      if (ready === 0n) return;
      if (ready < 0n || ready > BigInt(this.#size)) {
        throw new RingError(`${ready} bytes are said to be ready, and there is room for ${this.#size}`);
      }
      const offset = Number(at % BigInt(this.#size));
      const header = Atomics.load(this.#headers, offset / 4) >>> 0;
      if (header & BUSY) return;
      const length = (header & ~(BUSY | DISCARD)) >>> 0;
      const step = BigInt(Math.ceil((length + HEADER) / 8) * 8);
      if (step > ready) throw new RingError(`a record of ${length} bytes, and ${ready} are ready`);
      at += step;
      try {
        if (!(header & DISCARD)) take(this.#data.subarray(offset + HEADER, offset + HEADER + length));
      } finally {
        // A record that can't be understood is not met again.
        Atomics.store(this.#consumed, 0, at);
      }
    }
  }
}
