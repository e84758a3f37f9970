// Where port tables stand in the kernel's arena. One that finds no room denies, for its own peers alone: whoever fills
// the arena must not close the whole node.
import type { PortTable, RuleInfo, RuleNumber, TableNumber } from '#compile/plan.ts';
import type { Lack } from '#datapath/port.ts';
import { ACTION_FLAG, TABLE_ACTION } from './abi.gen.ts';
import { type ArenaRecord, arenaBytes } from './bytes.ts';
import { type Sink, StepOrderError } from './sink.ts';
import type { Limbo, Space } from './space.ts';

const ACTIONS = {
  deny: TABLE_ACTION.DENY,
  allow: TABLE_ACTION.ALLOW,
  reject: TABLE_ACTION.REJECT,
  pass: TABLE_ACTION.PASS,
} as const;

/**
 * `length` 0: it found no room, and stands where everything is denied. `allows`: it does nothing but allow, so that who
 * goes without it gets less. `rule`: one of its rules, by the Plan's number.
 */
type Placed = {
  readonly offset: number;
  readonly length: number;
  readonly allows: boolean;
  readonly rule: RuleNumber | null;
};

const NOTHING: Placed = { offset: 0, length: 0, allows: false, rule: null };

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
  /** Rules of policies of a namespace, but for those that allow. */
  readonly #ownDenials = new Set<RuleNumber>();
  /** Where everything is denied. */
  readonly denying: number;
  #freed = false;

  constructor(ground: ArenaGround) {
    this.#ground = ground;
    // No rule, and earlier than every rule: the kernel takes it for a table error (bpf/policy.h).
    const everything = [header(1), { start: 0, action: TABLE_ACTION.DENY, rule: 0, order: 0 }];
    const offset = ground.space.allocate(everything.length);
    ground.sink.record('arena', offset, arenaBytes(everything));
    this.denying = offset;
  }

  /** How many tables found no room, and a rule of one of them. */
  get lacks(): readonly Lack[] {
    const [first] = this.#refused.keys();
    return first === undefined ? [] : [{ table: 'arena', count: this.#refused.size, rule: this.ruleOf(first) }];
  }

  ruleOf(table: TableNumber): RuleNumber | null {
    return this.#placed.get(table)?.rule ?? null;
  }

  /** True where a table does nothing but allow. */
  allows(table: TableNumber): boolean {
    return this.#placed.get(table)?.allows === true;
  }

  rule(rule: RuleNumber, value: RuleInfo | null): void {
    if (value?.own === true && value.action !== 'allow') this.#ownDenials.add(rule);
    else this.#ownDenials.delete(rule);
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
    const records = tableRecords(value, this.#ground.base, this.#ownDenials);
    const said = { allows: value.every(({ action }) => action === 'allow'), rule: value[0]?.rule ?? null };
    // Where others were refused already, waiting for room once more would hold up every change.
    const { space } = this.#ground;
    const offset = this.#refused.size > 0 ? space.find(records.length) : space.findOrWait(records.length);
    this.#refused.delete(table);
    if (offset === null) {
      this.#refused.set(table, records);
      this.#placed.set(table, { offset: this.denying, length: 0, ...said });
    } else {
      this.#ground.sink.record('arena', offset, arenaBytes(records));
      this.#placed.set(table, { offset, length: records.length, ...said });
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
      this.#ground.sink.record('arena', offset, arenaBytes(records));
      const { allows, rule } = this.#placed.get(table) ?? NOTHING;
      this.#placed.set(table, { offset, length: records.length, allows, rule });
      moved.push(table);
    }
    return moved;
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
export function tableRecords(
  table: PortTable,
  base: number,
  ownDenials: ReadonlySet<RuleNumber>,
): readonly ArenaRecord[] {
  const records: ArenaRecord[] = [];
  let end = -1;
  for (const each of table) {
    if (each.first <= end || each.last < each.first) throw new StepOrderError('a table has overlapping intervals');
    if (end >= 0 && each.first > end + 1) records.push(undecidedFrom(end + 1));
    const isOwnDenial = (each.action === 'deny' || each.action === 'reject') && ownDenials.has(each.rule);
    const action = ACTIONS[each.action] | (isOwnDenial ? ACTION_FLAG.OWN : 0);
    records.push({ start: each.first, action, rule: each.rule + base + 1, order: each.order });
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
