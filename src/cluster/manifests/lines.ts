// Offset → line. Offsets come mostly in order, so the cursor walks forward and starts anew only where one goes back.

export class LineCursor {
  readonly #source: string;
  readonly #firstLine: number;
  #line: number;
  /** Offset where the next line begins; beyond the end where there is none. */
  #next: number;
  #start = 0;

  constructor(source: string, firstLine: number) {
    this.#source = source;
    this.#firstLine = firstLine;
    this.#line = firstLine;
    this.#next = this.#nextLine(0);
  }

  /** The line (counted from `firstLine`) that holds the offset. */
  at(offset: number): number {
    if (offset < this.#start) {
      this.#start = 0;
      this.#line = this.#firstLine;
      this.#next = this.#nextLine(0);
    }
    while (offset >= this.#next) {
      this.#start = this.#next;
      this.#next = this.#nextLine(this.#start);
      this.#line++;
    }
    return this.#line;
  }

  #nextLine(from: number): number {
    const end = this.#source.indexOf('\n', from);
    return end < 0 ? Number.POSITIVE_INFINITY : end + 1;
  }
}
