// Members of identities that are yet to move: taken some at a time, so that nothing else waits for all of them.
import type { Block } from './blocks.ts';

/** Members of identities: address rows and blocks. */
export type Members = { readonly rows: readonly number[]; readonly blocks: readonly Block[] };

/** Members of one identity. `whole`: they are most of it, and only together they can keep its number. */
export type WaitingPart = Members & { readonly whole: boolean };

/** Moves members; what does not belong there any more is left alone. */
type Move = (members: Members) => void;

export class Waiting {
  readonly #parts: WaitingPart[] = [];
  readonly #moves: Move[] = [];
  /** Where the next part starts: those before have moved. */
  #part = 0;
  #row = 0;
  #left = 0;

  /** How many members wait. */
  get left(): number {
    return this.#left;
  }

  add(parts: Iterable<WaitingPart>, move: Move): void {
    for (const part of parts) {
      this.#parts.push(part);
      this.#moves.push(move);
      this.#left += sizeOf(part);
    }
  }

  /** Moves so many members, or the first of them where those can't be told apart. */
  advance(most: number): void {
    for (let room = most; room > 0; ) {
      const part = this.#parts[this.#part];
      const move = this.#moves[this.#part];
      if (part === undefined || move === undefined) return;
      const end = part.whole ? part.rows.length : Math.min(this.#row + room, part.rows.length);
      const isLast = end === part.rows.length;
      const piece = { rows: part.rows.slice(this.#row, end), blocks: isLast ? part.blocks : [] };
      room -= Math.max(sizeOf(piece), 1);
      this.#left -= sizeOf(piece);
      this.#row = isLast ? 0 : end;
      if (isLast) this.#part++;
      move(piece);
    }
  }
}

function sizeOf({ rows, blocks }: Members): number {
  return rows.length + blocks.length;
}
