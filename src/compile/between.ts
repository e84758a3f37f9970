// Whether a state on the way from one pair of tables to another could judge as neither of the two does.

import { earlier, findInterval } from './lookup.ts';
import type { Interval, PortTable, RuleNumber } from './plan.ts';

/** The two tables that decide for one identity in one layer. */
export type Pair = { readonly base: PortTable; readonly class: PortTable };

/** True of a rule whose denials the audit of the endpoint's namespace lets pass. */
export type IsOwn = (rule: RuleNumber) => boolean;

/** True where `middle` says at each position what one of the others says, rules' names apart. */
export function isBetween(middle: Pair, before: Pair, after: Pair, isOwn: IsOwn): boolean {
  const verdictOf = (pair: Pair, position: number): string => verdictAt(pair, position, isOwn);
  const tables = new Set([middle, before, after].flatMap((pair) => [pair.base, pair.class]));
  const cuts = new Set([...tables].flatMap((table) => table.flatMap(({ first, last }) => [first, last + 1])));
  for (const position of cuts) {
    const now = verdictOf(middle, position);
    if (now !== verdictOf(before, position) && now !== verdictOf(after, position)) return false;
  }
  return true;
}

/** True where two tables differ in nothing but which rule it is that says the same in the same place. */
export function sayTheSame(a: PortTable, b: PortTable, isOwn: IsOwn): boolean {
  return a.length === b.length && a.every((one, index) => isAlike(one, b[index], isOwn));
}

function isAlike(a: Interval, b: Interval | undefined, isOwn: IsOwn): boolean {
  if (a.first !== b?.first || a.last !== b.last || a.order !== b.order) return false;
  return meaningOf(a, isOwn) === meaningOf(b, isOwn);
}

/** Pass leaves the layer, as does a position that nothing covers. */
function verdictAt(pair: Pair, position: number, isOwn: IsOwn): string {
  const hit = earlier(findInterval(pair.base, position), findInterval(pair.class, position));
  return hit === null ? 'pass' : meaningOf(hit, isOwn);
}

function meaningOf({ action, rule }: Interval, isOwn: IsOwn): string {
  return (action === 'deny' || action === 'reject') && isOwn(rule) ? `own ${action}` : action;
}
