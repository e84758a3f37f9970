// The policies that select some local pod, each with its place in the one order of rules.
import { comparePolicies, type Direction, type Policy, type PolicyKey } from '#policy/model.ts';
import { ActivePolicy, type Atoms } from './active-policy.ts';
import type { Group } from './groups.ts';
import type { TierEnd } from './layer-rules.ts';
import { OrderList, type Place } from './order-list.ts';
import type { Rules } from './rules.ts';

/** A policy, or the end of the tier at a position. */
type Item =
  | { readonly kind: 'policy'; readonly position: number; readonly policy: Policy }
  | { readonly kind: 'end'; readonly position: number };

type Active = { readonly policy: ActivePolicy; place: Place<Item> };

/** More than so many changes of a list are no cheaper than a new list. */
const FEW = 8;

export class ActivePolicies {
  readonly #rules: Rules;
  readonly #atoms: Atoms;
  readonly #order = new OrderList<Item>(compareItems);
  readonly #active = new Map<PolicyKey, Active>();
  readonly #ends = new Map<number, Place<Item>>();
  /** Each group's policies in order, while that order holds. */
  #lists = new WeakMap<Group, readonly ActivePolicy[]>();
  readonly #moved = new Set<PolicyKey>();
  /** Positions of tiers whose end has another key than before. */
  readonly #movedEnds = new Set<number>();

  constructor(rules: Rules, atoms: Atoms) {
    this.#rules = rules;
    this.#atoms = atoms;
  }

  /** The policies of a group in evaluation order. */
  inOrder(group: Group): readonly ActivePolicy[] {
    const known = this.#lists.get(group);
    if (known !== undefined) return known;
    const list = this.#derive(group) ?? this.#sorted(group.policies);
    group.origin = null;
    this.#lists.set(group, list);
    return list;
  }

  #sorted(keys: ReadonlySet<PolicyKey>): ActivePolicy[] {
    const found: Active[] = [];
    for (const key of keys) {
      const active = this.#active.get(key);
      if (active !== undefined) found.push(active);
    }
    return found.sort((a, b) => a.place.key - b.place.key).map((active) => active.policy);
  }

  /** From the list of the group that it was made from, where few policies came or went. */
  #derive({ origin }: Group): ActivePolicy[] | null {
    const before = origin === null ? undefined : this.#lists.get(origin.group);
    if (origin === null || before === undefined || origin.moves.length > FEW) return null;
    const gone = new Set(origin.moves.filter((move) => !move.selected).map((move) => move.policy));
    const list = gone.size === 0 ? before.slice() : before.filter((one) => !gone.has(one.policy.key));
    for (const { policy, selected } of origin.moves) {
      const active = selected ? this.#active.get(policy) : undefined;
      if (active !== undefined) list.splice(placeIn(list, active.place.key), 0, active.policy);
    }
    return list;
  }

  /** Takes a policy's latest form; null where it is gone or selects no local pod any more. */
  set(key: PolicyKey, policy: Policy | null): void {
    const before = this.#active.get(key);
    if (policy === null) {
      if (before !== undefined) this.#drop(key, before);
    } else if (before === undefined) this.#add(policy);
    else if (before.policy.policy !== policy) this.#update(before, policy);
  }

  /** The default deny of a tier where these policies isolate the endpoint; null where its end does nothing. */
  end(direction: Direction, tier: readonly ActivePolicy[]): TierEnd | null {
    const isolating = tier.filter(({ policy }) => policy.isolates[direction]);
    const [first] = isolating;
    if (first === undefined || first.policy.tier.end === 'none') return null;
    const { key } = this.#endPlace(first.policy.tier.position);
    return { rule: this.#rules.defaultDeny(direction, first.policy.tier, isolating), key };
  }

  /** Policies whose order, or whose tier's end's order, changed since the last call. */
  takeMoved(): Set<PolicyKey> {
    const moved = new Set(this.#moved);
    if (this.#movedEnds.size > 0) {
      for (const [key, active] of this.#active) if (this.#movedEnds.has(active.place.item.position)) moved.add(key);
    }
    this.#moved.clear();
    this.#movedEnds.clear();
    return moved;
  }

  #add(policy: Policy): void {
    this.#endPlace(policy.tier.position);
    const place = this.#insert(itemOf(policy), widthOf(policy));
    const active = new ActivePolicy(policy, place.key, { rules: this.#rules, atoms: this.#atoms });
    this.#active.set(policy.key, { policy: active, place });
  }

  #update(active: Active, policy: Policy): void {
    const fits = compareItems(active.place.item, itemOf(policy)) === 0 && widthOf(policy) <= active.place.width;
    active.policy.update(policy);
    if (fits) return;
    this.#lists = new WeakMap();
    this.#order.remove(active.place);
    this.#endPlace(policy.tier.position);
    active.place = this.#insert(itemOf(policy), widthOf(policy));
    active.policy.moveTo(active.place.key);
  }

  #drop(key: PolicyKey, active: Active): void {
    active.policy.release();
    this.#order.remove(active.place);
    this.#active.delete(key);
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

  #noteMoved({ item, key }: Place<Item>): void {
    if (item.kind === 'end') {
      this.#movedEnds.add(item.position);
      return;
    }
    this.#active.get(item.policy.key)?.policy.moveTo(key);
    this.#moved.add(item.policy.key);
  }
}

/** Where a policy with this key belongs in a list. */
function placeIn(list: readonly ActivePolicy[], key: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((list[middle]?.key ?? 0) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function itemOf(policy: Policy): Item {
  return { kind: 'policy', position: policy.tier.position, policy };
}

function widthOf(policy: Policy): number {
  return Math.max(1, policy.egress.length, policy.ingress.length);
}

function compareItems(a: Item, b: Item): number {
  if (a.position !== b.position) return a.position - b.position;
  if (a.kind === 'end' || b.kind === 'end') return (a.kind === 'end' ? 1 : 0) - (b.kind === 'end' ? 1 : 0);
  return comparePolicies(a.policy, b.policy);
}
