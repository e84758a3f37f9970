// A number for some of the rows: a column, and a list of the rows that have one. Of 100 000 rows a Map takes 4 MB, and
// as much again while it grows.
import { Column } from './columns.ts';

const NOTHING = -2;

/** Numbers from -1 on. */
export class RowNotes {
  readonly #numbers = new Column(NOTHING);
  /** In the order in which they came; those that were deleted, too. */
  #rows: number[] = [];

  get(row: number): number | undefined {
    const number = this.#numbers.at(row);
    return number === NOTHING ? undefined : number;
  }

  /** Keeps what was noted first. */
  note(row: number, number: number): void {
    if (this.#numbers.at(row) !== NOTHING) return;
    this.#numbers.set(row, number);
    this.#rows.push(row);
  }

  /** Nothing more may be noted of it until `clear`. */
  delete(row: number): void {
    this.#numbers.set(row, NOTHING);
  }

  /** The rows, each once. None may be noted meanwhile. */
  *rows(): Generator<number> {
    for (const row of this.#rows) if (this.#numbers.at(row) !== NOTHING) yield row;
  }

  clear(): void {
    for (const row of this.#rows) this.#numbers.set(row, NOTHING);
    this.#rows = [];
  }
}
