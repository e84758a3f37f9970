// Members of identities by what holds of them now: the largest part of each identity stays, the others move.
import { remember } from './collect.ts';
import type { ListNumber } from './truth.ts';

type Part = { readonly list: ListNumber; members: number; move: number };

const STAYS = -1;

export class Parts {
  readonly #byIdentity = new Map<number, Map<ListNumber, Part>>();

  count(identity: number, list: ListNumber): void {
    const parts = remember(this.#byIdentity, identity, () => new Map<ListNumber, Part>());
    remember(parts, list, () => ({ list, members: 0, move: STAYS })).members++;
  }

  /** Calls back with what each identity is from now on. Returns the parts that move. */
  settle(stay: (identity: number, list: ListNumber) => void): { readonly from: number; readonly list: ListNumber }[] {
    const moves: { readonly from: number; readonly list: ListNumber }[] = [];
    for (const [identity, parts] of this.#byIdentity) {
      const largest = [...parts.values()].reduce((best, part) => (part.members > best.members ? part : best));
      stay(identity, largest.list);
      for (const part of parts.values()) {
        if (part !== largest) part.move = moves.push({ from: identity, list: part.list }) - 1;
      }
    }
    return moves;
  }

  /** Which of the moves members of an identity make; -1 where they stay. */
  moveOf(identity: number, list: ListNumber): number {
    return this.#byIdentity.get(identity)?.get(list)?.move ?? STAYS;
  }
}
