// Where port tables stand in the kernel's arena. One that finds no room denies, for its own peers alone: whoever fills
// the arena must not close the whole node.
import type { PortTable, TableNumber } from '#compile/plan.ts';
import { TABLE_ACTION } from './abi.gen.ts';
import { type ArenaRecord, arenaBytes } from './bytes.ts';
import { type Sink, StepOrderError } from './sink.ts';
import type { Limbo, Space } from './space.ts';

const ACTIONS = {
  deny: TABLE_ACTION.DENY,
  allow: TABLE_ACTION.ALLOW,
  reject: TABLE_ACTION.REJECT,
  pass: TABLE_ACTION.PASS,
} as const;

/** `length` 0: it found no room, and stands where everything is denied. */
type Placed = { readonly offset: number; readonly length: number };

export type ArenaGround = {
  readonly sink: Sink;
  readonly limbo: Limbo;
  readonly space: Space;
  /** Added to rule numbers. */
  readonly base: number;
};

export class Arena {
  readonly #ground: ArenaGround;
  readonly #placed = new Map<TableNumber, Placed>();
  readonly #refused = new Map<TableNumber, readonly ArenaRecord[]>();
  readonly #denying: Placed;
  #freed = false;

  constructor(ground: ArenaGround) {
    this.#ground = ground;
    // No rule, and earlier than every rule: the kernel takes it for a table error (bpf/policy.h).
    const everything = [header(1), { start: 0, action: TABLE_ACTION.DENY, rule: 0, order: 0 }];
    const offset = ground.space.allocate(everything.length);
    ground.sink.record('arena', offset, arenaBytes(everything));
    this.#denying = { offset, length: 0 };
  }

  /** How many tables found no room. */
  get refused(): number {
    return this.#refused.size;
  }

  /** Where a table stands now. */
  offsetOf(table: TableNumber): number {
    const found = this.#placed.get(table);
    if (found === undefined) throw new StepOrderError(`table ${table} is used before it is published`);
    return found.offset;
  }

  /** Writes a table to a fresh place. True where it had one before: what points to that must turn to the new one. */
  place(table: TableNumber, value: PortTable): boolean {
    const before = this.#placed.get(table);
    const records = tableRecords(value, this.#ground.base);
    // Where others were refused already, waiting for room once more would hold up every change.
    const { space } = this.#ground;
    const offset = this.#refused.size > 0 ? space.find(records.length) : space.findOrWait(records.length);
    this.#refused.delete(table);
    if (offset === null) {
      this.#refused.set(table, records);
      this.#placed.set(table, this.#denying);
    } else {
      this.#write(table, offset, records);
    }
    this.#release(before);
    return before !== undefined;
  }

  remove(table: TableNumber): void {
    const before = this.#placed.get(table);
    this.#placed.delete(table);
    this.#refused.delete(table);
    this.#release(before);
  }

  /** Tries once more to place what found no room, if any was given back since. Returns the tables that moved. */
  retry(): readonly TableNumber[] {
    if (!this.#freed) return [];
    this.#freed = false;
    const moved: TableNumber[] = [];
    // The short ones first: many find room where one long one would.
    for (const [table, records] of [...this.#refused].sort(([, a], [, b]) => a.length - b.length)) {
      const offset = this.#ground.space.find(records.length);
      if (offset === null) break;
      this.#refused.delete(table);
      this.#write(table, offset, records);
      moved.push(table);
    }
    return moved;
  }

  #write(table: TableNumber, offset: number, records: readonly ArenaRecord[]): void {
    this.#ground.sink.record('arena', offset, arenaBytes(records));
    this.#placed.set(table, { offset, length: records.length });
  }

  #release(before: Placed | undefined): void {
    if (before === undefined || before.length === 0) return;
    this.#ground.limbo.later(() => {
      this.#ground.space.release(before.offset, before.length);
      this.#freed = true;
    });
  }
}

/** The records of a table: each interval's start, and a start of "undecided" where a gap follows. */
export function tableRecords(table: PortTable, base: number): readonly ArenaRecord[] {
  const records: ArenaRecord[] = [];
  let end = -1;
  for (const each of table) {
    if (each.first <= end || each.last < each.first) throw new StepOrderError('a table has overlapping intervals');
    if (end >= 0 && each.first > end + 1) records.push(undecidedFrom(end + 1));
    records.push({ start: each.first, action: ACTIONS[each.action], rule: each.rule + base + 1, order: each.order });
    end = each.last;
  }
  if (end >= 0 && end < 0xff_ffff) records.push(undecidedFrom(end + 1));
  return [header(records.length), ...records];
}

function header(count: number): ArenaRecord {
  return { start: count, action: 0, rule: 0, order: 0 };
}

function undecidedFrom(start: number): ArenaRecord {
  return { start, action: TABLE_ACTION.UNDECIDED, rule: 0, order: 0xffff_ffff };
}
