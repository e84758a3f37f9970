// The one look-up on a Plan: address → identity, then layer by layer the base table and the class, the earlier rule
// wins (policy-model §5). Used by the reference datapath and by the compiler's own properties; the kernel does the same.
import { type Address, formatAddress } from '#net/address.ts';
import { type AxisRange, axisRange } from '#net/axis.ts';
import { cidrContains } from '#net/cidr.ts';
import type { Protocol } from '#net/protocol.ts';
import type { Action } from '#policy/model.ts';
import type {
  IdentityNumber,
  Interval,
  LayerNumber,
  Plan,
  PortTable,
  RuleNumber,
  SetNumber,
  TableNumber,
} from './plan.ts';

/**
 * What the layers of a set say. open: none decided · decided: this rule did · broken: the tables name something that
 * the Plan does not hold, which a datapath must treat as a deny.
 */
export type Decision =
  | { readonly kind: 'open' }
  | { readonly kind: 'decided'; readonly action: Exclude<Action, 'pass'>; readonly rule: RuleNumber }
  | { readonly kind: 'broken' };

const BROKEN: Decision = { kind: 'broken' };
const OPEN: Decision = { kind: 'open' };

/** The identity of an address: exact, else of the longest prefix that holds it; null where tables are incomplete. */
export function identityOf(plan: Plan, address: Address): IdentityNumber | null {
  const exact = plan.addresses.get(formatAddress(address));
  if (exact !== undefined) return exact;
  let length = -1;
  let identity: IdentityNumber | null = null;
  for (const prefix of plan.prefixes.values()) {
    if (prefix.cidr.length <= length || !cidrContains(prefix.cidr, address)) continue;
    length = prefix.cidr.length;
    identity = prefix.identity;
  }
  return identity;
}

/** The interval that covers a position of the axis, or null. */
export function findInterval(table: PortTable, position: number): Interval | null {
  let low = 0;
  let high = table.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const interval = table[middle];
    if (interval === undefined) return null;
    if (position < interval.first) high = middle - 1;
    else if (position > interval.last) low = middle + 1;
    else return interval;
  }
  return null;
}

/** What a policy set says of a peer identity at one position of the axis. */
export function decide(
  plan: Plan,
  at: { readonly set: SetNumber; readonly peer: IdentityNumber; readonly position: number },
): Decision {
  const set = plan.sets.get(at.set);
  return set === undefined ? BROKEN : decideLayers(plan, { ...at, layers: set.layers });
}

function decideLayers(
  plan: Plan,
  at: { readonly layers: readonly LayerNumber[]; readonly peer: IdentityNumber; readonly position: number },
): Decision {
  for (const number of at.layers) {
    const layer = plan.layers.get(number);
    if (layer === undefined) return BROKEN;
    const base = search(plan, layer.base, at.position);
    const some = search(plan, layer.classes.get(at.peer) ?? null, at.position);
    if (base === 'broken' || some === 'broken') return BROKEN;
    const hit = earlier(base, some);
    if (hit !== null && hit.action !== 'pass') return { kind: 'decided', action: hit.action, rule: hit.rule };
  }
  return OPEN;
}

/**
 * What a policy set says of a whole protocol: `mixed` where a port could change the answer, or where this can't be
 * told from one interval (or gap) of each table.
 */
export function decideProtocol(
  plan: Plan,
  at: { readonly set: SetNumber; readonly peer: IdentityNumber; readonly protocol: Protocol },
): Decision | { readonly kind: 'mixed' } {
  const range = axisRange(at.protocol);
  const position = range.first;
  for (const number of plan.sets.get(at.set)?.layers ?? []) {
    const layer = plan.layers.get(number);
    const tables = [layer?.base ?? null, layer?.classes.get(at.peer) ?? null];
    if (tables.some((table) => splits(plan, table, range))) return { kind: 'mixed' };
    const upToHere = decideLayers(plan, { layers: [number], peer: at.peer, position });
    if (upToHere.kind !== 'open') return upToHere;
  }
  return decide(plan, { set: at.set, peer: at.peer, position });
}

/** True where an interval starts or ends inside the range. */
function splits(plan: Plan, number: TableNumber | null, range: AxisRange): boolean {
  const table = number === null ? [] : (plan.tables.get(number) ?? []);
  const meets = (interval: Interval): boolean => interval.first <= range.last && interval.last >= range.first;
  return table.some((interval) => meets(interval) && (interval.first > range.first || interval.last < range.last));
}

/** The interval of a table that covers the position; `broken` where the Plan lacks the table. */
function search(plan: Plan, number: TableNumber | null, position: number): Interval | 'broken' | null {
  if (number === null) return null;
  const table = plan.tables.get(number);
  return table === undefined ? 'broken' : findInterval(table, position);
}

/** The hit whose rule stands first in evaluation order. */
export function earlier(base: Interval | null, some: Interval | null): Interval | null {
  if (base === null || some === null) return base ?? some;
  return some.order < base.order ? some : base;
}
