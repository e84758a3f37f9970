// Which identity each address and block has, and what that changes for whoever is told.
import { NONE } from './addresses.ts';
import type { Block } from './blocks.ts';
import type { IdentitySink } from './changes.ts';
import type { Identities, IdentityEntry } from './identities.ts';
import type { Population } from './population.ts';
import { RowNotes } from './row-notes.ts';
import type { Members } from './waiting.ts';

export class Placement {
  readonly #population: Population;
  readonly #identities: Identities;
  readonly #sink: IdentitySink;
  /** Rows whose identity may be another one, with the one that they had. */
  readonly #moved = new RowNotes();

  constructor(population: Population, identities: Identities, sink: IdentitySink) {
    this.#population = population;
    this.#identities = identities;
    this.#sink = sink;
  }

  /** Takes everything that will be judged anew out of its identity; what rows had is among the moves. */
  detach(): void {
    this.dropGoneBlocks();
    for (const block of this.#population.dirty.blocks) this.#leaveBlock(block);
    for (const row of this.#population.dirty.rows.rows()) {
      const identity = this.#population.addresses.identity.at(row);
      this.#moved.note(row, identity);
      if (identity === NONE) continue;
      this.#identities.leave(identity);
      this.#population.addresses.identity.set(row, NONE);
    }
  }

  /** Blocks that no rule speaks of any more are no places. */
  dropGoneBlocks(): void {
    const { dirty } = this.#population;
    for (const block of dirty.gone) {
      dirty.blocks.delete(block);
      this.#leaveBlock(block);
      this.#sink.prefix(block.cidr, null);
    }
    dirty.gone.clear();
  }

  #leaveBlock(block: Block): void {
    if (block.identity !== null) this.#identities.leave(block.identity);
    block.identity = null;
  }

  move(members: Members, to: IdentityEntry): void {
    for (const row of members.rows) this.place(row, to);
    for (const block of members.blocks) this.placeBlock(block, to);
  }

  /** The row's move is written by `writeMoves`; a block's at once. */
  place(row: number, to: IdentityEntry): void {
    const from = this.#population.addresses.identity.at(row);
    if (from !== NONE) this.#identities.leave(from);
    this.#identities.join(to);
    this.#moved.note(row, from);
    this.#population.addresses.identity.set(row, to.number);
  }

  /** Tells of the rows that have another identity than before. */
  writeMoves(): void {
    const { addresses } = this.#population;
    for (const row of this.#moved.rows()) {
      const identity = addresses.identity.at(row);
      if (identity !== this.#moved.get(row)) this.#sink.address(addresses.address(row), identity);
    }
    this.#moved.clear();
  }

  placeBlock(block: Block, to: IdentityEntry): void {
    this.#leaveBlock(block);
    this.#identities.join(to);
    block.identity = to.number;
    this.#sink.prefix(block.cidr, to.number);
  }

  /** What a row's identity was before the moves that are not written yet; NONE: it had none. */
  before(row: number): number {
    return this.#moved.get(row) ?? NONE;
  }

  /** The row is nobody's any more. */
  free(row: number): void {
    const { addresses } = this.#population;
    if (this.before(row) !== NONE) this.#sink.address(addresses.address(row), null);
    this.#moved.delete(row);
    addresses.free(row);
  }
}
