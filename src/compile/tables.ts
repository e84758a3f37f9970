// Port tables, shared: one number for equal content, one flattening for each list of matched rules.
import { push } from '#identity/collect.ts';
import { AXIS_END } from '#net/axis.ts';
import type { PortTable, TableNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import type { Share, Taken } from './shares.ts';

export type TableEntry = {
  readonly number: TableNumber;
  readonly hash: number;
  /** Names that it is found by, the oldest first, each with how many ranges its rules have. */
  readonly lists: Pick<RuleList, 'list' | 'ranges'>[];
  /** Whose room it takes, and how much. */
  readonly share: Share;
  readonly entries: number;
  ranges: number;
  uses: number;
};

/** Matched rules: a name for the list, how many port ranges they have, and the table that they make. */
export type RuleList = { readonly list: string; readonly ranges: number; readonly make: () => PortTable };

/** A table keeps so many names more than twice its uses. */
const SPARE_LISTS = 16;

export class Tables {
  readonly #recorder: Recorder;
  readonly #byList = new Map<string, TableEntry>();
  /** By a hash of what they say; those with one hash need not be equal. */
  readonly #byContent = new Map<number, TableEntry[]>();
  readonly #idle = new Set<TableEntry>();
  #next = 1;
  /** The first number that was not given before the last `publish`. */
  #fresh = 1;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  /** One more use of the table of a list of matched rules; where it is new, it takes room of this share. */
  take(rules: RuleList, share: Share): TableEntry {
    const entry = this.#byList.get(rules.list) ?? this.#make(rules, share);
    entry.uses++;
    return entry;
  }

  /** One more use of a table that is in use. */
  again(entry: TableEntry): TableEntry {
    entry.uses++;
    return entry;
  }

  /** What a table says; null: nothing. */
  contentOf(table: TableEntry | null): PortTable {
    return table === null ? NO_TABLE : (this.#recorder.plan.tables.get(table.number) ?? NO_TABLE);
  }

  give(entry: TableEntry): void {
    entry.uses--;
    if (entry.uses === 0) this.#idle.add(entry);
  }

  /** Takes back a `take` beyond the share. Where the table is as new as that, it never was. */
  undo(entry: TableEntry): void {
    entry.uses--;
    if (entry.uses > 0) return;
    if (entry.number < this.#fresh) this.#idle.add(entry);
    else this.#forget(entry, (what) => entry.share.undo(what));
  }

  /** What was made until now may be in the kernel. */
  publish(): void {
    this.#fresh = this.#next;
  }

  /** Forgets the tables that nothing uses. */
  sweep(): void {
    for (const entry of this.#idle) {
      if (entry.uses > 0) continue;
      this.#forget(entry, (what) => entry.share.give(what));
    }
    this.#idle.clear();
  }

  #forget(entry: TableEntry, give: (what: Pick<Taken, 'entries' | 'ranges'>) => void): void {
    const { number, hash, lists, entries, ranges } = entry;
    this.#recorder.table(number, null);
    const others = (this.#byContent.get(hash) ?? []).filter((other) => other !== entry);
    if (others.length === 0) this.#byContent.delete(hash);
    else this.#byContent.set(hash, others);
    for (const { list } of lists) this.#byList.delete(list);
    this.#idle.delete(entry);
    give({ entries, ranges });
  }

  #make({ list, ranges, make }: RuleList, share: Share): TableEntry {
    const table = make();
    const hash = hashOf(table);
    let entry = this.#byContent.get(hash)?.find((one) => isSame(this.contentOf(one), table));
    if (entry === undefined) {
      const entries = entriesOf(table);
      entry = { number: this.#next++, hash, lists: [], share, entries, ranges: 0, uses: 0 };
      push(this.#byContent, hash, entry);
      share.take({ entries });
      this.#recorder.table(entry.number, table);
    }
    entry.lists.push({ list, ranges });
    entry.ranges += ranges;
    entry.share.take({ ranges });
    this.#byList.set(list, entry);
    if (entry.lists.length > 2 * entry.uses + SPARE_LISTS) this.#forgetLists(entry);
    return entry;
  }

  /**
   * Each use is by one list, so the others are of rules that were: whoever writes the same again and again would fill
   * memory and his share with them. One that is still used is only flattened again when it is asked for.
   */
  #forgetLists(entry: TableEntry): void {
    for (const { list, ranges } of entry.lists.splice(0, entry.lists.length - entry.uses - 1)) {
      this.#byList.delete(list);
      entry.ranges -= ranges;
      entry.share.give({ ranges });
    }
  }
}

const NO_TABLE: PortTable = [];

function isSame(a: PortTable, b: PortTable): boolean {
  if (a.length !== b.length) return false;
  return a.every((one, index) => {
    const other = b[index];
    const alike = one.first === other?.first && one.last === other.last && one.action === other.action;
    return alike && one.rule === other.rule && one.order === other.order;
  });
}

/** Numbers, not text: a table may have tens of thousands of intervals, and there may be thousands of tables. */
function hashOf(table: PortTable): number {
  let hash = table.length;
  for (const { first, last, rule, order } of table) {
    for (const part of [first, last, rule, order]) hash = Math.imul(hash ^ part, 0x9e37_79b1) ^ (hash >>> 15);
  }
  return hash;
}

/** A head, a start for each interval, and one for each gap after one. */
function entriesOf(table: PortTable): number {
  let entries = 1;
  let next = table[0]?.first ?? AXIS_END;
  for (const { first, last } of table) {
    entries += first > next ? 2 : 1;
    next = last + 1;
  }
  return next < AXIS_END ? entries + 1 : entries;
}
