// Sets of connections as ranges on the axis (net/axis.ts): ascending, disjoint, never touching.
import type { AxisRange } from '#net/axis.ts';

/** Ascending, with a gap between any two. The empty list is no connection at all. */
export type RangeSet = readonly AxisRange[];

/** The same positions in normal form. */
export function normalRanges(ranges: readonly AxisRange[]): RangeSet {
  const sorted = [...ranges].sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const { first, last } of sorted) {
    const end = merged.at(-1);
    if (end !== undefined && first <= end.last + 1) end.last = Math.max(end.last, last);
    else merged.push({ first, last });
  }
  return merged;
}

/** The positions of either. */
export function unionRanges(a: RangeSet, b: RangeSet): RangeSet {
  return normalRanges([...a, ...b]);
}

/** The positions of both. */
export function intersectRanges(a: RangeSet, b: RangeSet): RangeSet {
  const found: AxisRange[] = [];
  let [i, j] = [0, 0];
  for (;;) {
    const [left, right] = [a[i], b[j]];
    if (left === undefined || right === undefined) return found;
    const range = { first: Math.max(left.first, right.first), last: Math.min(left.last, right.last) };
    if (range.first <= range.last) found.push(range);
    if (left.last < right.last) i++;
    else j++;
  }
}

/** The positions of the first that are not in the second. */
export function withoutRanges(a: RangeSet, b: RangeSet): RangeSet {
  const gaps = [...b, null].map((range, index) => {
    return { first: (b[index - 1]?.last ?? -1) + 1, last: (range?.first ?? Number.POSITIVE_INFINITY) - 1 };
  });
  return intersectRanges(a, gaps);
}

/** Equal sets have equal keys. */
export function rangesKey(ranges: RangeSet): string {
  return ranges.map(({ first, last }) => `${first}-${last}`).join(',');
}
