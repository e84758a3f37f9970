// Elements for one table, as bpf(2) takes many: keys one after the other, and values. What is added is copied, so that
// 100 000 of them are not as many objects that outlive the young generation of the heap.
import type { HashName } from '#datapath/ebpf/encode/sink.ts';

const MOST = 4096;
const FIRST = 16;

/** How large a table's elements are. */
type Shape = { readonly keySize: number; readonly valueSize: number };

export class Batch {
  readonly table: HashName;
  readonly #keySize: number;
  readonly #valueSize: number;
  #keys: Uint8Array;
  #values: Uint8Array;
  #count = 0;

  constructor(table: HashName, { keySize, valueSize }: Shape) {
    this.table = table;
    this.#keySize = keySize;
    this.#valueSize = valueSize;
    this.#keys = new Uint8Array(FIRST * keySize);
    this.#values = new Uint8Array(FIRST * valueSize);
  }

  get isFull(): boolean {
    return this.#count === MOST;
  }

  get count(): number {
    return this.#count;
  }

  get keys(): Uint8Array {
    return this.#keys.subarray(0, this.#count * this.#keySize);
  }

  get values(): Uint8Array {
    return this.#values.subarray(0, this.#count * this.#valueSize);
  }

  /** Adds an element. Throws RangeError where its key or value is not as large as the table's. */
  add(key: Uint8Array, value: Uint8Array): void {
    if (key.length !== this.#keySize || value.length !== this.#valueSize) {
      throw new RangeError(`${this.table}: an element of ${key.length} and ${value.length} bytes`);
    }
    if (this.#count * this.#keySize === this.#keys.length) this.#grow();
    this.#keys.set(key, this.#count * this.#keySize);
    this.#values.set(value, this.#count * this.#valueSize);
    this.#count++;
  }

  /** Each element by itself, with bytes of its own. */
  *elements(): Generator<readonly [Uint8Array, Uint8Array]> {
    for (let at = 0; at < this.#count; at++) {
      const key = this.#keys.slice(at * this.#keySize, (at + 1) * this.#keySize);
      yield [key, this.#values.slice(at * this.#valueSize, (at + 1) * this.#valueSize)];
    }
  }

  #grow(): void {
    const [keys, values] = [this.#keys, this.#values];
    this.#keys = new Uint8Array(keys.length * 2);
    this.#values = new Uint8Array(values.length * 2);
    this.#keys.set(keys);
    this.#values.set(values);
  }
}
