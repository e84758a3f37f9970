// Tables of layers as far as the share of their namespace goes: who finds none is denied, and tried again later.
import type { IdentityEntry } from '#identity/identities.ts';
import type { LayerRules } from './layer-rules.ts';
import type { LayerTables } from './layer-tables.ts';
import { type Shortage, shortagesOf } from './shortage.ts';
import type { TableEntry, Tables } from './tables.ts';

/** A layer, and what of it found no room: peers whose class did not, and whether the base did not. */
export type Furnished = {
  readonly rules: LayerRules;
  readonly lacking: Set<IdentityEntry>;
  closed: boolean;
};

/** Port ranges of a base table that is made whatever the share has left: without it, nobody is let through. */
const SHORT_BASE = 64;

export class Room<Body extends Furnished> {
  readonly #contents: LayerTables;
  readonly #tables: Tables;
  readonly #short = new Set<Body>();

  constructor(contents: LayerTables, tables: Tables) {
    this.#contents = contents;
    this.#tables = tables;
  }

  get shortages(): readonly Shortage[] {
    return shortagesOf([...this.#short].filter(isShort));
  }

  /** One more use of what `make` takes. Where the share has no room: no class, or one that denies where rules deny. */
  class(body: Body, identity: IdentityEntry, make: (identity: IdentityEntry) => TableEntry | null): TableEntry | null {
    const { rules, lacking } = body;
    const found = rules.share.spent === null ? this.#afforded(rules, make(identity)) : 'none';
    if (found !== 'none') {
      lacking.delete(identity);
      return found;
    }
    lacking.add(identity);
    this.#short.add(body);
    return rules.guarded ? this.#contents.nothing(rules) : null;
  }

  /** One more use of the base table. Where the share has no room for a long one, nobody is let through. */
  base(body: Body): TableEntry | null {
    const { rules } = body;
    const isShort = rules.baseRanges <= SHORT_BASE;
    const made = isShort || rules.share.spent === null ? this.#contents.base(rules) : 'none';
    const found = isShort || made === 'none' ? made : this.#afforded(rules, made);
    body.closed = found === 'none';
    if (found !== 'none') return found;
    this.#short.add(body);
    return this.#contents.nothing(rules);
  }

  #afforded({ share }: LayerRules, table: TableEntry | null): TableEntry | null | 'none' {
    if (table === null || !share.isOverdrawn()) return table;
    this.#tables.undo(table);
    return 'none';
  }

  /** The layers that lack something, of those shares to which something was given back since the last call. */
  open(): Body[] {
    for (const body of this.#short) if (!isShort(body)) this.#short.delete(body);
    const shares = new Set([...this.#short].map(({ rules }) => rules.share));
    const open = new Set([...shares].filter((share) => share.gaveBack()));
    return [...this.#short].filter(({ rules }) => open.has(rules.share));
  }

  /** One more use of the class of each that was lacking one, while there is room; null where none is needed any more. */
  *classes(body: Body): Generator<readonly [IdentityEntry, TableEntry | null]> {
    for (const identity of [...body.lacking]) {
      if (body.rules.share.spent !== null) return;
      const make = (): TableEntry | null =>
        identity.members === 0 ? null : this.#contents.class(body.rules, identity);
      yield [identity, this.class(body, identity, make)];
    }
  }

  /** The layer is gone. */
  remove(body: Body): void {
    this.#short.delete(body);
  }

  forget(identity: IdentityEntry): void {
    for (const { lacking } of this.#short) lacking.delete(identity);
  }
}

function isShort({ lacking, closed }: Furnished): boolean {
  return lacking.size > 0 || closed;
}
