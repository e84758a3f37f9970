// Members of identities that are yet to be found or to move: some at a time, so that nothing else waits for all of them.
import type { AtomNumber } from './atoms.ts';
import type { Block } from './blocks.ts';

/** Members of identities: address rows and blocks. */
export type Members = { readonly rows: readonly number[]; readonly blocks: readonly Block[] };

/** Members of one identity. `whole`: they are most of it, and only together they can keep its number. */
export type WaitingPart = Members & { readonly whole: boolean };

/** Places that have to be looked at before it is known who waits. */
export type Search = {
  readonly places: number;
  /** Looks at the places from the first to before the end. */
  readonly look: (first: number, end: number) => void;
  /** All were looked at: those that were found may be added. */
  readonly done: () => void;
};

/** Moves members; what does not belong there any more is left alone. */
type Move = (members: Members) => void;

/** In the time in which an address moves, so many places are looked at. */
export const LOOKS = 64;

export class Waiting {
  /** Atoms that all of their holders have once nobody is left. */
  readonly introduces: ReadonlySet<AtomNumber>;
  readonly #searches: Search[] = [];
  /** The first place of the first search that was not looked at yet. */
  #place = 0;
  readonly #parts: WaitingPart[] = [];
  readonly #moves: Move[] = [];
  /** Where the next part starts: those before have moved. */
  #part = 0;
  #row = 0;
  #left = 0;

  constructor(introduces: Iterable<AtomNumber> = []) {
    this.introduces = new Set(introduces);
  }

  /** How many members wait, and how many places were not looked at yet. */
  get left(): number {
    return this.#left + this.#searches.reduce((sum, { places }) => sum + places, -this.#place);
  }

  add(parts: Iterable<WaitingPart>, move: Move): void {
    for (const part of parts) {
      this.#parts.push(part);
      this.#moves.push(move);
      this.#left += sizeOf(part);
    }
  }

  /** Nobody moves before all is searched: a part is most of an identity only where all of it is known. */
  search(search: Search): void {
    if (search.places === 0) search.done();
    else this.#searches.push(search);
  }

  /** Looks at up to so many places; returns at how many it did. */
  look(most: number): number {
    let looked = 0;
    for (let next = this.#searches[0]; next !== undefined && looked < most; next = this.#searches[0]) {
      const end = Math.min(this.#place + most - looked, next.places);
      next.look(this.#place, end);
      looked += end - this.#place;
      this.#place = end;
      if (end < next.places) break;
      this.#searches.shift();
      this.#place = 0;
      next.done();
    }
    return looked;
  }

  /** True while there are places that were not looked at yet. */
  get isSearching(): boolean {
    return this.#searches.length > 0;
  }

  /**
   * Moves so many members, or the first of them where those can't be told apart. While it is not known who they are, looks
   * for them instead, unless all are to move.
   */
  advance(most: number, looks: number = LOOKS): void {
    if (this.isSearching) {
      this.look(most * looks);
      if (Number.isFinite(most)) return;
    }
    for (let room = most; room > 0; ) {
      const move = this.#moves[this.#part];
      if (move === undefined) return;
      const rows: number[] = [];
      const blocks: Block[] = [];
      // Parts that are moved alike move together: who stays behind is looked for among all addresses, once for all of them.
      while (room > 0 && this.#moves[this.#part] === move) room -= this.#take(rows, blocks, room);
      this.#left -= rows.length + blocks.length;
      move({ rows, blocks });
    }
  }

  /** Adds up to so many members of the part whose turn it is, or all that move only together. Returns how many these are. */
  #take(rows: number[], blocks: Block[], most: number): number {
    const part = this.#parts[this.#part];
    if (part === undefined) return 1;
    const from = this.#row;
    const end = part.whole ? part.rows.length : Math.min(from + most, part.rows.length);
    for (let at = from; at < end; at++) rows.push(part.rows[at] ?? 0);
    this.#row = end;
    if (end < part.rows.length) return end - from;
    for (const block of part.blocks) blocks.push(block);
    this.#part++;
    this.#row = 0;
    return Math.max(end - from + part.blocks.length, 1);
  }
}

function sizeOf({ rows, blocks }: Members): number {
  return rows.length + blocks.length;
}
