// Groups: local pods that the same policies select. There are as many as there are workloads, not as there are pods.
import { push } from '#identity/collect.ts';
import type { PolicyKey } from '#policy/model.ts';
import { SortedList } from './sorted-list.ts';

/** Stands for a policy for as long as it is known, whatever becomes of its rules. */
export type PolicyEntry = { readonly key: PolicyKey; readonly serial: number };

export type Group = {
  readonly policies: SortedList<PolicyEntry>;
  /** How many kinds of pods are in it. */
  kinds: number;
  /** The group that its first pods were in, where that was in this batch. */
  origin: Group | null;
};

/** A policy that begins to select, or stops. */
export type Move = { readonly policy: PolicyEntry; readonly selected: boolean };

export class Groups {
  /** The group of pods that no policy selects. */
  readonly none: Group = { policies: SortedList.of(serialOf), kinds: 0, origin: null };
  readonly #byHash = new Map<number, Group[]>();
  /** Groups of this batch. */
  readonly #fresh = new Set<Group>();

  /** Takes a kind of pods from its group to another: other policies select it now. */
  move(from: Group, moves: readonly Move[]): Group {
    const to = this.#find(from, moves);
    to.kinds++;
    this.leave(from);
    return to;
  }

  leave(group: Group): void {
    group.kinds--;
    if (group.kinds > 0 || group === this.none) return;
    const { hash } = group.policies;
    const others = (this.#byHash.get(hash) ?? []).filter((one) => one !== group);
    if (others.length === 0) this.#byHash.delete(hash);
    else this.#byHash.set(hash, others);
  }

  /** A batch is over. */
  settle(): void {
    for (const group of this.#fresh) group.origin = null;
    this.#fresh.clear();
  }

  #find(from: Group, moves: readonly Move[]): Group {
    const gone = moves.filter(({ selected }) => !selected).map(({ policy }) => policy.serial);
    const come = moves.filter(({ selected }) => selected).map(({ policy }) => policy);
    const policies = from.policies.edited(gone, come);
    if (policies.size === 0) return this.none;
    const found = this.#byHash.get(policies.hash)?.find((group) => group.policies.equals(policies));
    if (found !== undefined) return found;
    const group: Group = { policies, kinds: 0, origin: from };
    push(this.#byHash, policies.hash, group);
    this.#fresh.add(group);
    return group;
  }
}

function serialOf({ serial }: PolicyEntry): number {
  return serial;
}
