// Ordered rules → one port table: at each position of the axis, what the first rule there says, pass resolved.
import type { AxisRange } from '#net/axis.ts';
import type { Action } from '#policy/model.ts';
import type { Interval, PortTable, RuleNumber } from './plan.ts';

/** A rule that matches a peer, with the positions it covers. */
export type Entry = {
  readonly ranges: readonly AxisRange[];
  readonly action: Action;
  readonly rule: RuleNumber;
  readonly order: number;
};

/**
 * The table of a list of tiers, each a list of entries in order. A pass goes on in the next tier; one that finds
 * nothing there stays, and so leaves the layer.
 * `keep`: the order of an interval reached by pass: that of the first rule on the way, or of the rule that decides.
 */
export function flatten(tiers: readonly (readonly Entry[])[], keep: 'first' | 'last'): PortTable {
  let table: PortTable = [];
  for (const tier of [...tiers].reverse()) table = overlay(flattenTier(tier), table, keep);
  return table;
}

type Edge = { readonly at: number; readonly entry: Entry; readonly opens: boolean };

/** Most classes are made of so few ranges that to look at each of them everywhere takes less than to keep the open ones in order. */
const FEW = 16;

/** One tier: the entry with the smallest order decides each position. */
function flattenTier(entries: readonly Entry[]): PortTable {
  let ranges = 0;
  for (const entry of entries) ranges += entry.ranges.length;
  return ranges <= FEW ? flattenFew(entries) : sweep(entries);
}

function flattenFew(entries: readonly Entry[]): PortTable {
  const cuts: number[] = [];
  for (const { ranges } of entries) for (const { first, last } of ranges) cuts.push(first, last + 1);
  cuts.sort((a, b) => a - b);
  const table: Interval[] = [];
  for (let at = 1; at < cuts.length; at++) {
    const first = cuts[at - 1] ?? 0;
    const end = cuts[at] ?? 0;
    const found = end > first ? firstAt(entries, first) : null;
    if (found !== null) append(table, interval(first, end - 1, found));
  }
  return table;
}

function firstAt(entries: readonly Entry[], position: number): Entry | null {
  let found: Entry | null = null;
  for (let at = 0; at < entries.length; at++) {
    const entry = entries[at] as Entry;
    if (found !== null && found.order <= entry.order) continue;
    if (covers(entry.ranges, position)) found = entry;
  }
  return found;
}

function covers(ranges: readonly AxisRange[], position: number): boolean {
  for (let at = 0; at < ranges.length; at++) {
    const range = ranges[at] as AxisRange;
    if (range.first <= position && position <= range.last) return true;
  }
  return false;
}

function sweep(entries: readonly Entry[]): PortTable {
  const edges: Edge[] = [];
  for (const entry of entries) {
    for (const range of entry.ranges) {
      edges.push({ at: range.first, entry, opens: true }, { at: range.last + 1, entry, opens: false });
    }
  }
  edges.sort((a, b) => a.at - b.at);
  const open = new OpenEntries();
  const table: Interval[] = [];
  for (const [index, edge] of edges.entries()) {
    if (edge.opens) open.add(edge.entry);
    else open.remove(edge.entry);
    const next = edges[index + 1]?.at ?? edge.at;
    const first = next > edge.at ? open.first() : null;
    if (first !== null) append(table, interval(edge.at, next - 1, first));
  }
  return table;
}

function interval(first: number, last: number, entry: Entry): Interval {
  return { first, last, action: entry.action, rule: entry.rule, order: entry.order };
}

/** Adds an interval at the end; one that continues the last is joined to it. */
function append(table: Interval[], next: Interval): void {
  const last = table.at(-1);
  const joins =
    last !== undefined &&
    last.last + 1 === next.first &&
    last.rule === next.rule &&
    last.order === next.order &&
    last.action === next.action;
  if (joins) table[table.length - 1] = { ...last, last: next.last };
  else table.push(next);
}

/** The entries that cover the position of a sweep; one may cover it more than once. A heap by order, emptied late. */
class OpenEntries {
  readonly #heap: Entry[] = [];
  readonly #counts = new Map<Entry, number>();

  add(entry: Entry): void {
    const count = this.#counts.get(entry);
    this.#counts.set(entry, (count ?? 0) + 1);
    if (count !== undefined) return;
    this.#heap.push(entry);
    this.#up(this.#heap.length - 1);
  }

  remove(entry: Entry): void {
    this.#counts.set(entry, (this.#counts.get(entry) ?? 1) - 1);
  }

  first(): Entry | null {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if ((this.#counts.get(top) ?? 0) > 0) return top;
      this.#counts.delete(top);
      this.#pop();
    }
    return null;
  }

  #pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#down(0);
  }

  #up(from: number): void {
    let at = from;
    while (at > 0 && this.#order(at) < this.#order((at - 1) >> 1)) {
      this.#swap(at, (at - 1) >> 1);
      at = (at - 1) >> 1;
    }
  }

  #down(from: number): void {
    let at = from;
    while (true) {
      const left = 2 * at + 1;
      const child = this.#order(left + 1) < this.#order(left) ? left + 1 : left;
      if (this.#order(child) >= this.#order(at)) return;
      this.#swap(at, child);
      at = child;
    }
  }

  #order(at: number): number {
    return this.#heap[at]?.order ?? Number.POSITIVE_INFINITY;
  }

  #swap(a: number, b: number): void {
    const [x, y] = [this.#heap[a], this.#heap[b]];
    if (x === undefined || y === undefined) return;
    this.#heap[a] = y;
    this.#heap[b] = x;
  }
}

/** The upper table decides; where it passes or says nothing, the lower one. */
function overlay(upper: PortTable, lower: PortTable, keep: 'first' | 'last'): PortTable {
  if (lower.length === 0) return upper;
  const table: Interval[] = [];
  const cuts = [...new Set([...upper, ...lower].flatMap((one) => [one.first, one.last + 1]))].sort((a, b) => a - b);
  let high = 0;
  let low = 0;
  for (const [index, first] of cuts.entries()) {
    const last = (cuts[index + 1] ?? first) - 1;
    while ((upper[high]?.last ?? Number.POSITIVE_INFINITY) < first) high++;
    while ((lower[low]?.last ?? Number.POSITIVE_INFINITY) < first) low++;
    const chosen = choose(covering(upper[high], first), covering(lower[low], first), keep);
    if (chosen !== null && last >= first) append(table, { ...chosen, first, last });
  }
  return table;
}

function covering(one: Interval | undefined, position: number): Interval | null {
  return one !== undefined && one.first <= position ? one : null;
}

function choose(upper: Interval | null, lower: Interval | null, keep: 'first' | 'last'): Interval | null {
  if (upper === null || lower === null) return upper ?? lower;
  if (upper.action !== 'pass') return upper;
  return keep === 'first' ? { ...lower, order: upper.order } : lower;
}
