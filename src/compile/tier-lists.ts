// What the policies of a group say, tier by tier: lists that follow the policies by what changed, not anew.
import type { Direction } from '#policy/model.ts';
import type { NamedPort } from '#policy/world.ts';
import type { ActivePolicies } from './active-policies.ts';
import { type ActivePolicy, type Block, keyOf, NO_BLOCKS } from './active-policy.ts';
import type { Group, PolicyEntry } from './groups.ts';
import type { Isolating } from './rules.ts';
import { SortedList } from './sorted-list.ts';

/** The blocks of one tier, and the policies that isolate there. */
export type TierList = {
  readonly position: number;
  readonly blocks: SortedList<Block>;
  readonly isolating: SortedList<Isolating>;
};

/** For which subjects: named ports matter to ingress; `key` is equal for equal ones. */
export type Subjects = {
  readonly direction: Direction;
  readonly ports: { readonly key: string; readonly list: readonly NamedPort[] };
};

/** Tiers in order, and the policies that they were made of. */
type Tiers = { readonly policies: Group['policies']; readonly tiers: readonly TierList[] };

/** All lists of one group, by direction and ports. */
type Lists = Map<string, Tiers>;

/** More changes than this are not made one by one. */
const FEW = 64;

export class TierLists {
  readonly #active: ActivePolicies;
  readonly #lists = new WeakMap<Group, Lists>();
  /** Groups whose policies changed in this batch, with the lists that they had before. */
  readonly #before = new Map<Group, Lists>();
  /** Groups that were looked at in this batch. */
  readonly #seen = new Set<Group>();

  constructor(active: ActivePolicies) {
    this.#active = active;
  }

  /** The tiers of a group's policies that speak of a direction. Each use of a group that changed is asked for in the same batch. */
  of(group: Group, subjects: Subjects): readonly TierList[] {
    const key = `${subjects.direction} ${subjects.direction === 'ingress' ? subjects.ports.key : ''}`;
    const lists = this.#listsOf(group);
    const known = lists.get(key);
    if (known !== undefined) return known.tiers;
    const tiers = this.#derived(group, subjects, this.#before.get(group)?.get(key));
    lists.set(key, { policies: group.policies, tiers });
    return tiers;
  }

  /** A batch is over. */
  settle(): void {
    this.#before.clear();
    this.#seen.clear();
  }

  /** A group that changed begins anew, since some of its lists may have lost their last subject. */
  #listsOf(group: Group): Lists {
    const known = this.#lists.get(group);
    const isSeen = this.#seen.has(group);
    this.#seen.add(group);
    if (known !== undefined && (isSeen || !this.#isChanged(group))) return known;
    const origin = known === undefined ? group.origin : group;
    const before = origin === null ? undefined : (this.#before.get(origin) ?? this.#lists.get(origin));
    if (before !== undefined) this.#before.set(group, before);
    const lists: Lists = new Map();
    this.#lists.set(group, lists);
    return lists;
  }

  #isChanged({ policies }: Group): boolean {
    for (const entry of this.#active.changed) if (policies.has(entry)) return true;
    return false;
  }

  #derived(group: Group, subjects: Subjects, before: Tiers | undefined): readonly TierList[] {
    const { changed } = this.#active;
    if (before === undefined || changed.size > FEW) return this.#made(group, subjects);
    const { gone, come } = group.policies.since(before.policies);
    if (gone.length + come.length > FEW) return this.#made(group, subjects);
    const edits = new Set([...gone, ...come, ...changed]);
    let tiers = before.tiers;
    for (const entry of edits) {
      for (const place of this.#active.left(entry)) tiers = without(tiers, place.item.position, place.key);
      const active = this.#active.get(entry);
      if (active === undefined) continue;
      const { position } = active.policy.tier;
      const speaks = group.policies.has(entry) && active.speaksOf(subjects.direction);
      tiers = speaks ? withPolicy(tiers, active, subjects) : without(tiers, position, active.place.key);
    }
    return tiers;
  }

  #made(group: Group, subjects: Subjects): readonly TierList[] {
    const byPosition = Map.groupBy(this.#speaking(group.policies, subjects.direction), ({ policy }) => {
      return policy.tier.position;
    });
    const tiers = [...byPosition].map(([position, policies]): TierList => {
      const blocks = policies.map((active) => blockOf(active, subjects));
      const isolating = policies.filter(({ policy }) => policy.isolates[subjects.direction]);
      const namings = isolating.map((active) => active.naming);
      return { position, blocks: SortedList.of(keyOf, blocks), isolating: SortedList.of(keyOf, namings) };
    });
    return tiers.sort((a, b) => a.position - b.position);
  }

  *#speaking(entries: Iterable<PolicyEntry>, direction: Direction): Generator<ActivePolicy> {
    for (const entry of entries) {
      const active = this.#active.get(entry);
      if (active?.speaksOf(direction)) yield active;
    }
  }
}

const NO_POLICIES: SortedList<Isolating> = SortedList.of<Isolating>(keyOf);

function blockOf(active: ActivePolicy, { direction, ports }: Subjects): Block {
  return active.block(direction, direction === 'ingress' ? ports.list : []);
}

function withPolicy(tiers: readonly TierList[], active: ActivePolicy, subjects: Subjects): readonly TierList[] {
  const { tier, isolates } = active.policy;
  const { position } = tier;
  const index = tiers.findIndex((one) => one.position >= position);
  const at = index < 0 ? tiers.length : index;
  const found = tiers[at]?.position === position ? tiers[at] : undefined;
  const { blocks, isolating } = found ?? { blocks: NO_BLOCKS, isolating: NO_POLICIES };
  const isIsolating = isolates[subjects.direction];
  const now: TierList = {
    position,
    blocks: blocks.with(blockOf(active, subjects)),
    isolating: isIsolating ? isolating.with(active.naming) : isolating.without(active.place.key),
  };
  return tiers.toSpliced(at, found === undefined ? 0 : 1, now);
}

/** Tiers without what has this key. */
function without(tiers: readonly TierList[], position: number, key: number): readonly TierList[] {
  const at = tiers.findIndex((one) => one.position === position);
  const found = tiers[at];
  if (found === undefined) return tiers;
  const [blocks, isolating] = [found.blocks.without(key), found.isolating.without(key)];
  if (blocks === found.blocks && isolating === found.isolating) return tiers;
  return tiers.toSpliced(at, 1, ...(blocks.size === 0 ? [] : [{ position, blocks, isolating }]));
}
