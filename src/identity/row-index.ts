// Rows by what is in them: a table of row numbers, four bytes for each place. A Map of 100 000 keys takes 3.7 MB, this 1 MB.

/** Open addressing with linear probing; at most half of the places are taken. */
export class RowIndex {
  readonly #hashOf: (row: number) => number;
  /** One more than a row; 0 = free. */
  #places = new Int32Array(64);
  #size = 0;

  /** `hashOf`: the hash of what is in a row, any 32 bits. It must not change while the row is here. */
  constructor(hashOf: (row: number) => number) {
    this.#hashOf = hashOf;
  }

  /** The row with this hash for which the test holds, if there is one. */
  find(hash: number, is: (row: number) => boolean): number | undefined {
    const places = this.#places;
    const mask = places.length - 1;
    for (let at = mix(hash) & mask; ; at = (at + 1) & mask) {
      const place = places[at] ?? 0;
      if (place === 0) return;
      if (is(place - 1)) return place - 1;
    }
  }

  /** A row that is not here yet. */
  add(row: number): void {
    this.#size++;
    if (this.#size * 2 > this.#places.length) this.#grow();
    this.#put(row);
  }

  delete(row: number): void {
    const places = this.#places;
    const mask = places.length - 1;
    let hole = this.#homeOf(row);
    while (places[hole] !== row + 1) {
      if (places[hole] === 0) return;
      hole = (hole + 1) & mask;
    }
    this.#size--;
    // What was put further on because of it comes back: nobody's search may end at the hole.
    for (let at = (hole + 1) & mask; places[at] !== 0; at = (at + 1) & mask) {
      const home = this.#homeOf((places[at] ?? 0) - 1);
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      places[hole] = places[at] ?? 0;
      hole = at;
    }
    places[hole] = 0;
  }

  #homeOf(row: number): number {
    return mix(this.#hashOf(row)) & (this.#places.length - 1);
  }

  #put(row: number): void {
    const mask = this.#places.length - 1;
    let at = this.#homeOf(row);
    while (this.#places[at] !== 0) at = (at + 1) & mask;
    this.#places[at] = row + 1;
  }

  #grow(): void {
    const before = this.#places;
    this.#places = new Int32Array(before.length * 2);
    for (const place of before) if (place !== 0) this.#put(place - 1);
  }
}

/** Neighbours do not come to lie beside each other. */
function mix(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}
