// Rows of numbers: columns that grow together, and a list of free rows. 100 000 pods are columns, not objects.

/** Rows handed out and taken back; `capacity` is one past the highest row in use so far. */
export class Rows {
  readonly #free: number[] = [];
  #end = 0;

  get end(): number {
    return this.#end;
  }

  take(): number {
    return this.#free.pop() ?? this.#end++;
  }

  give(row: number): void {
    this.#free.push(row);
  }
}

/** A column of 32-bit integers; a row never written holds `initial`. */
export class Column {
  #data: Int32Array;
  readonly #initial: number;

  constructor(initial: number) {
    this.#initial = initial;
    this.#data = new Int32Array(64).fill(initial);
  }

  at(row: number): number {
    return this.#data[row] ?? this.#initial;
  }

  set(row: number, value: number): void {
    if (row >= this.#data.length) this.#grow(row);
    this.#data[row] = value;
  }

  /** The numbers themselves, for scans; valid until the next `set`. */
  get data(): Int32Array {
    return this.#data;
  }

  #grow(row: number): void {
    const grown = new Int32Array(Math.max(row + 1, this.#data.length * 2)).fill(this.#initial);
    grown.set(this.#data);
    this.#data = grown;
  }
}

/** Values shared by many rows: equal values (by key) have one number, counted by use, freed with the last. */
export class Shared<Value> {
  readonly #numbers = new Map<string, number>();
  readonly #values: (Value | undefined)[] = [];
  readonly #keys: string[] = [];
  readonly #uses = new Column(0);
  readonly #rows = new Rows();

  get end(): number {
    return this.#rows.end;
  }

  /** The number of the value, one more use of it. */
  take(key: string, value: () => Value): number {
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#rows.take();
      this.#numbers.set(key, number);
      this.#keys[number] = key;
      this.#values[number] = value();
    }
    this.#uses.set(number, this.#uses.at(number) + 1);
    return number;
  }

  /** One use less. True where that was the last. */
  give(number: number): boolean {
    const uses = this.#uses.at(number) - 1;
    this.#uses.set(number, uses);
    if (uses > 0) return false;
    this.#numbers.delete(this.#keys[number] ?? '');
    this.#keys[number] = '';
    this.#values[number] = undefined;
    this.#rows.give(number);
    return true;
  }

  /** Every number in use. */
  numbers(): IterableIterator<number> {
    return this.#numbers.values();
  }

  find(key: string): number | undefined {
    return this.#numbers.get(key);
  }

  at(number: number): Value {
    const value = this.#values[number];
    if (value === undefined) throw new Error(`shared value ${number} is not in use`);
    return value;
  }
}
