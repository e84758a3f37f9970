// Values that many rows share: equal ones have one number, counted by use, and go with the last.
import { Column, Rows } from './columns.ts';
import { RowIndex } from './row-index.ts';

/** What values are found by. Equal keys have equal hashes. */
export type Keyed<Key, Value> = {
  readonly hash: (key: Key) => number;
  /** True where this is the value of the key. */
  readonly is: (value: Value, key: Key) => boolean;
};

export class Shared<Key, Value> {
  readonly #keyed: Keyed<Key, Value>;
  readonly #index = new RowIndex((number) => this.#hashes.at(number));
  readonly #hashes = new Column(0);
  readonly #values: (Value | undefined)[] = [];
  readonly #uses = new Column(0);
  readonly #rows = new Rows();

  constructor(keyed: Keyed<Key, Value>) {
    this.#keyed = keyed;
  }

  get end(): number {
    return this.#rows.end;
  }

  /** The number of the value of a key, one more use of it. */
  take(key: Key, value: (key: Key) => Value): number {
    const hash = this.#keyed.hash(key);
    const number = this.#find(key, hash) ?? this.#add(hash, value(key));
    this.#uses.set(number, this.#uses.at(number) + 1);
    return number;
  }

  /** One use less. */
  give(number: number): void {
    const uses = this.#uses.at(number) - 1;
    this.#uses.set(number, uses);
    if (uses > 0) return;
    this.#index.delete(number);
    this.#values[number] = undefined;
    this.#rows.give(number);
  }

  /** Every number in use. */
  *numbers(): Generator<number> {
    for (let number = 0; number < this.#rows.end; number++) if (this.#uses.at(number) > 0) yield number;
  }

  find(key: Key): number | undefined {
    return this.#find(key, this.#keyed.hash(key));
  }

  at(number: number): Value {
    const value = this.#values[number];
    if (value === undefined) throw new Error(`shared value ${number} is not in use`);
    return value;
  }

  #find(key: Key, hash: number): number | undefined {
    return this.#index.find(hash, (number) => this.#hashes.at(number) === hash && this.#keyed.is(this.at(number), key));
  }

  #add(hash: number, value: Value): number {
    const number = this.#rows.take();
    this.#hashes.set(number, hash);
    this.#values[number] = value;
    this.#index.add(number);
    return number;
  }
}
