// Port tables, shared: one number for equal content, one flattening for each list of matched rules.
import type { PortTable, TableNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';

export type TableEntry = {
  readonly number: TableNumber;
  readonly content: string;
  readonly lists: string[];
  uses: number;
};

export class Tables {
  readonly #recorder: Recorder;
  readonly #byList = new Map<string, TableEntry>();
  readonly #byContent = new Map<string, TableEntry>();
  readonly #idle = new Set<TableEntry>();
  #next = 1;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  /** One more use of the table of a list of matched rules. `list` names the list; `make` flattens it. */
  take(list: string, make: () => PortTable): TableEntry {
    const entry = this.#byList.get(list) ?? this.#make(list, make());
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

  /** Forgets the tables that nothing uses. */
  sweep(): void {
    for (const entry of this.#idle) {
      if (entry.uses > 0) continue;
      this.#recorder.table(entry.number, null);
      this.#byContent.delete(entry.content);
      for (const list of entry.lists) this.#byList.delete(list);
    }
    this.#idle.clear();
  }

  #make(list: string, table: PortTable): TableEntry {
    const content = table.map((one) => `${one.first}-${one.last} ${one.action} ${one.rule} ${one.order}`).join();
    let entry = this.#byContent.get(content);
    if (entry === undefined) {
      entry = { number: this.#next++, content, lists: [], uses: 0 };
      this.#byContent.set(content, entry);
      this.#recorder.table(entry.number, table);
    }
    entry.lists.push(list);
    this.#byList.set(list, entry);
    return entry;
  }
}
