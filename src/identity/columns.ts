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
