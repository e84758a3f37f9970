// The policies that select some local pod, each with its place in the one order of rules.
import { push } from '#identity/collect.ts';
import { compareText, type Direction, type Policy } from '#policy/model.ts';
import { ActivePolicy, type Item } from './active-policy.ts';
import type { Allowances } from './allowance.ts';
import type { PolicyEntry } from './groups.ts';
import type { TierEnd } from './layer-rules.ts';
import { OrderList, type Place } from './order-list.ts';
import type { Isolating, Rules } from './rules.ts';
import type { Shortage } from './shortage.ts';
import type { SortedList } from './sorted-list.ts';

const NONE: ReadonlySet<PolicyEntry> = new Set();
const NOWHERE: readonly Place<Item>[] = [];

export class ActivePolicies {
  readonly #rules: Rules;
  readonly #allowances: Allowances;
  readonly #order = new OrderList<Item>(compareItems);
  readonly #active = new Map<PolicyEntry, ActivePolicy>();
  readonly #ends = new Map<number, Place<Item>>();
  /** Policies whose rules or order are other than before this batch. */
  readonly #changed = new Set<PolicyEntry>();
  /** Places that policies had until this batch: lists of rules still know them. */
  readonly #left = new Map<PolicyEntry, Place<Item>[]>();
  readonly #moved = new Set<PolicyEntry>();
  /** Those of which some rule lacks peers. */
  readonly #lacking = new Map<PolicyEntry, ActivePolicy>();
  /** Positions of tiers whose end has another key than before. */
  readonly #movedEnds = new Set<number>();

  constructor(rules: Rules, allowances: Allowances) {
    this.#rules = rules;
    this.#allowances = allowances;
  }

  get(entry: PolicyEntry): ActivePolicy | undefined {
    return this.#active.get(entry);
  }

  /** Policies that came or went in this batch, or whose rules or order are other than before. */
  get changed(): ReadonlySet<PolicyEntry> {
    return this.#changed;
  }

  /** The places that a policy had until this batch, where it has another one now, or none. */
  left(entry: PolicyEntry): readonly Place<Item>[] {
    return this.#left.get(entry) ?? NOWHERE;
  }

  /** Takes a policy's latest form; null where it is gone or selects no local pod any more. */
  set(entry: PolicyEntry, policy: Policy | null): void {
    const before = this.#active.get(entry);
    if (policy === null) {
      if (before !== undefined) this.#drop(entry, before);
    } else if (before === undefined) this.#add(entry, policy);
    else if (before.policy !== policy) this.#update(entry, before, policy);
  }

  /** Policies that asked for more than there is, by namespace. */
  get shortages(): readonly Shortage[] {
    const byAllowance = Map.groupBy(this.#lacking.values(), ({ allowance }) => allowance);
    return [...byAllowance].flatMap(([{ namespace, short }, policies]) => {
      if (short === null) return [];
      const rules = policies.reduce((sum, { lackingRules }) => sum + lackingRules, 0);
      const largest = policies[0]?.lacking ?? null;
      const { what: spent, of, limit } = short;
      return [{ namespace, spent, of, limit, closed: 0, peers: 0, rules, largest }];
    });
  }

  /** Where something was given back, policies ask again for what they lack. Returns those that did. */
  askAgain(): ReadonlySet<PolicyEntry> {
    if (this.#lacking.size === 0) return NONE;
    const released = this.#allowances.takeReleased();
    const asked = new Set<PolicyEntry>();
    for (const [entry, active] of [...this.#lacking]) {
      if (!released.has(active.allowance)) continue;
      active.askAgain();
      this.#noteLacking(entry, active);
      this.#changed.add(entry);
      asked.add(entry);
    }
    // What each of them held it was given again.
    if (asked.size > 0) this.#allowances.takeReleased();
    return asked;
  }

  /** The default deny of a tier where these policies isolate the endpoint; null where its end does nothing. */
  end(direction: Direction, isolating: SortedList<Isolating>): TierEnd | null {
    const tier = isolating.first?.tier;
    if (tier === undefined || tier.end === 'none') return null;
    const { key } = this.#endPlace(tier.position);
    return { rule: this.#rules.defaultDeny(direction, tier, isolating), key };
  }

  /** Policies whose order, or whose tier's end's order, changed since the last call. */
  takeMoved(): Set<PolicyEntry> {
    const moved = new Set(this.#moved);
    if (this.#movedEnds.size > 0) {
      for (const [entry, { place }] of this.#active) if (this.#movedEnds.has(place.item.position)) moved.add(entry);
    }
    this.#moved.clear();
    this.#movedEnds.clear();
    return moved;
  }

  /** A batch is over: all lists of rules know what changed. */
  settle(): void {
    for (const places of this.#left.values()) for (const place of places) this.#order.remove(place);
    this.#left.clear();
    this.#changed.clear();
  }

  #add(entry: PolicyEntry, policy: Policy): void {
    this.#endPlace(policy.tier.position);
    const place = this.#insert(itemOf(entry, policy), widthOf(policy));
    const atoms = this.#allowances.join(policy.source.namespace);
    const active = new ActivePolicy(policy, place, { rules: this.#rules, atoms });
    this.#active.set(entry, active);
    this.#noteLacking(entry, active);
    this.#changed.add(entry);
  }

  #update(entry: PolicyEntry, active: ActivePolicy, policy: Policy): void {
    const { place } = active;
    const item = itemOf(entry, policy);
    active.update(policy);
    this.#noteLacking(entry, active);
    this.#changed.add(entry);
    if (compareItems(place.item, item) === 0 && widthOf(policy) <= place.width) return;
    push(this.#left, entry, place);
    this.#endPlace(policy.tier.position);
    active.moveTo(this.#insert(item, widthOf(policy)));
  }

  #drop(entry: PolicyEntry, active: ActivePolicy): void {
    active.release();
    this.#allowances.leave(active.allowance);
    push(this.#left, entry, active.place);
    this.#active.delete(entry);
    this.#lacking.delete(entry);
    this.#changed.add(entry);
  }

  #noteLacking(entry: PolicyEntry, active: ActivePolicy): void {
    if (active.lacking === null) this.#lacking.delete(entry);
    else this.#lacking.set(entry, active);
  }

  #endPlace(position: number): Place<Item> {
    const found = this.#ends.get(position);
    if (found !== undefined) return found;
    const place = this.#insert({ kind: 'end', position }, 1);
    this.#ends.set(position, place);
    return place;
  }

  #insert(item: Item, width: number): Place<Item> {
    const { place, moved } = this.#order.insert(item, width);
    for (const other of moved) this.#noteMoved(other);
    return place;
  }

  #noteMoved(place: Place<Item>): void {
    const { item } = place;
    if (item.kind === 'end') {
      this.#movedEnds.add(item.position);
      return;
    }
    const active = this.#active.get(item.entry);
    if (active?.place !== place) return;
    active.moveTo(place);
    this.#moved.add(item.entry);
    this.#changed.add(item.entry);
  }
}

function itemOf(entry: PolicyEntry, policy: Policy): Item {
  return { kind: 'policy', position: policy.tier.position, order: policy.order, entry };
}

function widthOf(policy: Policy): number {
  return Math.max(1, policy.egress.length, policy.ingress.length);
}

/** As `comparePolicies` does; a tier's end comes after its policies. */
function compareItems(a: Item, b: Item): number {
  if (a.position !== b.position) return a.position - b.position;
  if (a.kind === 'end' || b.kind === 'end') return (a.kind === 'end' ? 1 : 0) - (b.kind === 'end' ? 1 : 0);
  return compareText(a.order, b.order) || compareText(a.entry.key, b.entry.key);
}
