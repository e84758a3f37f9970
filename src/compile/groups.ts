// Groups: local pods that the same policies select. There are as many as there are workloads, not as there are pods.
import type { PolicyKey } from '#policy/model.ts';
import { sameList } from './same.ts';

export type Group = {
  readonly policies: ReadonlySet<PolicyKey>;
  readonly hash: number;
  /** How many pods are in it. */
  pods: number;
  /** What it was made from; null once that is of no more use. */
  origin: { readonly group: Group; readonly moves: readonly Move[] } | null;
};

/** A policy that begins to select a pod, or stops. */
export type Move = { readonly policy: PolicyKey; readonly selected: boolean };

type Step = { readonly moves: readonly Move[]; readonly to: Group };

export class Groups {
  /** The group of pods that no policy selects. */
  readonly none: Group = { policies: new Set(), hash: 0, pods: 0, origin: null };
  readonly #byHash = new Map<number, Group[]>();
  /** A number for each policy that some group has; a group's hash is made of them. */
  readonly #salts = new Map<PolicyKey, number>();
  /** What was found since the last `settle`: pods that start alike mostly end alike. */
  readonly #steps = new Map<Group, Step[]>();
  #next = 1;

  /** Takes a pod from its group to another: other policies select it now. */
  move(from: Group, moves: readonly Move[]): Group {
    const to = this.#find(from, moves);
    to.pods++;
    this.leave(from);
    return to;
  }

  leave(group: Group): void {
    group.pods--;
    if (group.pods > 0 || group === this.none) return;
    const others = (this.#byHash.get(group.hash) ?? []).filter((one) => one !== group);
    if (others.length === 0) this.#byHash.delete(group.hash);
    else this.#byHash.set(group.hash, others);
  }

  /** `gone`: policies that no pod has any more. */
  settle(gone: Iterable<PolicyKey>): void {
    this.#steps.clear();
    for (const policy of gone) this.#salts.delete(policy);
  }

  #find(from: Group, moves: readonly Move[]): Group {
    const steps = this.#steps.get(from) ?? [];
    const known = steps.find((step) => sameList(step.moves, moves, isSame));
    // A group that its last pod left meanwhile is none.
    if (known !== undefined && (known.to.pods > 0 || known.to === this.none)) return known.to;
    const to = this.#beside(from, moves);
    this.#steps.set(from, [...steps.filter((step) => step !== known), { moves, to }]);
    return to;
  }

  #beside(from: Group, moves: readonly Move[]): Group {
    let { hash } = from;
    const policies = new Set(from.policies);
    for (const { policy, selected } of moves) {
      hash ^= this.#saltOf(policy);
      if (selected) policies.add(policy);
      else policies.delete(policy);
    }
    if (policies.size === 0) return this.none;
    const alike = this.#byHash.get(hash) ?? [];
    const found = alike.find((group) => sameMembers(group.policies, policies));
    if (found !== undefined) return found;
    const group: Group = { policies, hash, pods: 0, origin: { group: from, moves } };
    this.#byHash.set(hash, [...alike, group]);
    return group;
  }

  #saltOf(policy: PolicyKey): number {
    const found = this.#salts.get(policy);
    if (found !== undefined) return found;
    const salt = Math.imul(this.#next++, 0x9e37_79b1);
    this.#salts.set(policy, salt);
    return salt;
  }
}

function isSame(a: Move, b: Move): boolean {
  return a.policy === b.policy && a.selected === b.selected;
}

function sameMembers<Member>(a: ReadonlySet<Member>, b: ReadonlySet<Member>): boolean {
  if (a.size !== b.size) return false;
  for (const member of a) if (!b.has(member)) return false;
  return true;
}
