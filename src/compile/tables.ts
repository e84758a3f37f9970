// Port tables, shared: one number for equal content, one flattening for each list of matched rules.
import { AXIS_END } from '#net/axis.ts';
import type { PortTable, TableNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import type { Share, Taken } from './shares.ts';

export type TableEntry = {
  readonly number: TableNumber;
  readonly content: string;
  readonly lists: string[];
  /** Whose room it takes, and how much. */
  readonly share: Share;
  readonly entries: number;
  ranges: number;
  uses: number;
};

/** Matched rules: a name for the list, how many port ranges they have, and the table that they make. */
export type RuleList = { readonly list: string; readonly ranges: number; readonly make: () => PortTable };

export class Tables {
  readonly #recorder: Recorder;
  readonly #byList = new Map<string, TableEntry>();
  readonly #byContent = new Map<string, TableEntry>();
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
    const { number, content, lists, entries, ranges } = entry;
    this.#recorder.table(number, null);
    this.#byContent.delete(content);
    for (const list of lists) this.#byList.delete(list);
    this.#idle.delete(entry);
    give({ entries, ranges });
  }

  #make({ list, ranges, make }: RuleList, share: Share): TableEntry {
    const table = make();
    const content = table.map((one) => `${one.first}-${one.last} ${one.action} ${one.rule} ${one.order}`).join();
    let entry = this.#byContent.get(content);
    if (entry === undefined) {
      const entries = entriesOf(table);
      entry = { number: this.#next++, content, lists: [], share, entries, ranges: 0, uses: 0 };
      this.#byContent.set(content, entry);
      share.take({ entries });
      this.#recorder.table(entry.number, table);
    }
    entry.lists.push(list);
    entry.ranges += ranges;
    entry.share.take({ ranges });
    this.#byList.set(list, entry);
    return entry;
  }
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
