// Whether a state on the way from one pair of tables to another could judge as neither of the two does.

import { earlier, findInterval } from './lookup.ts';
import type { Interval, PortTable } from './plan.ts';

/** The two tables that decide for one identity in one layer. */
export type Pair = { readonly base: PortTable; readonly class: PortTable };

/** True where `middle` says at each position what one of the others says, rules' names apart. */
export function isBetween(middle: Pair, before: Pair, after: Pair): boolean {
  const tables = new Set([middle, before, after].flatMap((pair) => [pair.base, pair.class]));
  const cuts = new Set([...tables].flatMap((table) => table.flatMap(({ first, last }) => [first, last + 1])));
  for (const position of cuts) {
    const now = verdictOf(middle, position);
    if (now !== verdictOf(before, position) && now !== verdictOf(after, position)) return false;
  }
  return true;
}

/** True where two tables differ in nothing but which rule it is that says the same in the same place. */
export function sayTheSame(a: PortTable, b: PortTable): boolean {
  return a.length === b.length && a.every((one, index) => isAlike(one, b[index]));
}

function isAlike(a: Interval, b: Interval | undefined): boolean {
  return a.first === b?.first && a.last === b.last && a.action === b.action && a.order === b.order;
}

/** Pass leaves the layer, as does a position that nothing covers. */
function verdictOf(pair: Pair, position: number): string {
  const hit = earlier(findInterval(pair.base, position), findInterval(pair.class, position));
  return hit === null ? 'pass' : hit.action;
}
