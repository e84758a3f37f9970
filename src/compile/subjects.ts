// Which policies select which local pods, kept up to date by events.
import { push } from '#identity/collect.ts';
import { labelTest } from '#identity/labels.ts';
import type { Policy, PolicyKey } from '#policy/model.ts';
import type { Labels } from '#policy/selector.ts';
import type { Pod, PodKey } from '#policy/world.ts';
import { type Group, Groups, type Move } from './groups.ts';

/** A local pod and the policies that select it. */
export type LocalPod = { readonly pod: Pod; group: Group };

/** What a `settle` found. */
type Selected = {
  readonly dirty: ReadonlySet<PodKey>;
  readonly pods: ReadonlySet<PodKey>;
  readonly policies: ReadonlySet<PolicyKey>;
};

const NOBODY: ReadonlySet<PodKey> = new Set();

/** A policy that selects no local pod, as most do, is kept as text: that is a third of it. */
type Known = { readonly subject: Policy['subject']; policy: Policy | string };

export class Subjects {
  readonly #groups = new Groups();
  readonly #pods = new Map<PodKey, LocalPod>();
  readonly #podsIn = new Map<string, Set<PodKey>>();
  readonly #policies = new Map<PolicyKey, Known>();
  /** Policies for one namespace by its name; '' holds those that choose namespaces by labels. */
  readonly #policiesOf = new Map<string, Set<PolicyKey>>();
  readonly #selected = new Map<PolicyKey, Set<PodKey>>();
  readonly #namespaceLabels: (name: string) => Labels;
  /** Pods to select for again, policies that are new or other than before. */
  readonly #dirtyPods = new Set<PodKey>();
  readonly #dirtyPolicies = new Set<PolicyKey>();
  /** Policies that a pod dropped out of. */
  readonly #touched = new Set<PolicyKey>();

  constructor(namespaceLabels: (name: string) => Labels) {
    this.#namespaceLabels = namespaceLabels;
  }

  pod(key: PodKey): LocalPod | undefined {
    return this.#pods.get(key);
  }

  get policies(): number {
    return this.#policies.size;
  }

  policyKeys(): IterableIterator<PolicyKey> {
    return this.#policies.keys();
  }

  /** The policy, where it selects local pods; null where it selects none. */
  active(key: PolicyKey): Policy | null {
    const known = this.#policies.get(key);
    if (known === undefined || !this.#selected.has(key)) return null;
    if (typeof known.policy === 'string') known.policy = JSON.parse(known.policy) as Policy;
    return known.policy;
  }

  /** The local pods that a policy selects. */
  selectedBy(policy: PolicyKey): ReadonlySet<PodKey> {
    return this.#selected.get(policy) ?? NOBODY;
  }

  /** Null: no local pod, or none any more. */
  setPod(key: PodKey, pod: Pod | null): void {
    const before = this.#pods.get(key);
    if (before !== undefined) remove(this.#podsIn, before.pod.namespace, key);
    if (before === undefined && pod === null) return;
    this.#dirtyPods.add(key);
    if (pod === null) {
      for (const policy of before?.group.policies ?? []) this.#deselect(policy, key);
      if (before !== undefined) this.#groups.leave(before.group);
      this.#pods.delete(key);
      return;
    }
    this.#pods.set(key, { pod, group: before?.group ?? this.#groups.none });
    if (before === undefined) this.#groups.none.pods++;
    insert(this.#podsIn, pod.namespace, key);
  }

  setPolicy(key: PolicyKey, policy: Policy | null): void {
    const before = this.#policies.get(key);
    if (before !== undefined) remove(this.#policiesOf, scopeOf(before), key);
    if (policy === null) this.#policies.delete(key);
    else {
      this.#policies.set(key, { subject: policy.subject, policy });
      insert(this.#policiesOf, scopeOf(policy), key);
    }
    this.#dirtyPolicies.add(key);
  }

  /** The labels of a namespace are others. */
  touchNamespace(name: string): void {
    for (const key of this.#podsIn.get(name) ?? []) this.#dirtyPods.add(key);
  }

  /**
   * Selects again where something changed. Returns the policies that have to be looked at, pods that others may select
   * now, and pods that are themselves other than before.
   */
  settle(): Selected {
    const dirty = new Set(this.#dirtyPods);
    const pods = new Set<PodKey>();
    const policies = new Set(this.#touched);
    const moves = new Map<PodKey, Move[]>();
    for (const key of this.#dirtyPolicies) {
      policies.add(key);
      for (const pod of this.#reselectPolicy(key, moves)) pods.add(pod);
    }
    for (const key of this.#dirtyPods) for (const policy of this.#reselectPod(key, moves)) policies.add(policy);
    for (const [key, list] of moves) this.#move(key, list);
    const idle = [...policies].filter((key) => !this.#selected.has(key));
    this.#groups.settle(idle);
    for (const key of idle) this.#putAway(key);
    this.#dirtyPods.clear();
    this.#dirtyPolicies.clear();
    this.#touched.clear();
    return { dirty, pods, policies };
  }

  /** Returns the pods that the policy selected or selects. */
  #reselectPolicy(key: PolicyKey, moves: Map<PodKey, Move[]>): ReadonlySet<PodKey> {
    const before = this.selectedBy(key);
    const policy = this.#policies.get(key);
    const now = new Set(policy === undefined ? [] : this.#matching(policy));
    if (now.size > 0) this.#selected.set(key, now);
    else this.#selected.delete(key);
    for (const pod of before) if (!now.has(pod)) push(moves, pod, { policy: key, selected: false });
    for (const pod of now) if (!before.has(pod)) push(moves, pod, { policy: key, selected: true });
    return new Set([...before, ...now]);
  }

  *#matching(policy: Known): Generator<PodKey> {
    for (const pod of this.#candidatePods(policy)) {
      const local = this.#pods.get(pod);
      if (local !== undefined && this.#selects(policy, local.pod)) yield pod;
    }
  }

  /** Returns the policies that selected or select the pod, as far as `moves` does not say so yet. */
  #reselectPod(key: PodKey, moves: Map<PodKey, Move[]>): PolicyKey[] {
    const local = this.#pods.get(key);
    if (local === undefined) return [];
    const known = new Set(moves.get(key)?.map(({ policy }) => policy));
    const before = local.group.policies;
    const touched: PolicyKey[] = [];
    for (const scope of [local.pod.namespace, '']) {
      for (const policy of this.#policiesOf.get(scope) ?? []) {
        const value = this.#policies.get(policy);
        if (known.has(policy) || value === undefined || this.#selects(value, local.pod) === before.has(policy))
          continue;
        touched.push(policy);
      }
    }
    for (const policy of touched) {
      const selected = !before.has(policy);
      push(moves, key, { policy, selected });
      if (selected) insert(this.#selected, policy, key);
      else remove(this.#selected, policy, key);
    }
    return touched;
  }

  #putAway(key: PolicyKey): void {
    const known = this.#policies.get(key);
    if (known !== undefined && typeof known.policy !== 'string') known.policy = JSON.stringify(known.policy);
  }

  #move(key: PodKey, moves: readonly Move[]): void {
    const local = this.#pods.get(key);
    if (local !== undefined) local.group = this.#groups.move(local.group, moves);
  }

  #deselect(policy: PolicyKey, pod: PodKey): void {
    remove(this.#selected, policy, pod);
    this.#touched.add(policy);
  }

  #candidatePods(policy: Known): Iterable<PodKey> {
    const { namespaces } = policy.subject;
    return namespaces.kind === 'named' ? (this.#podsIn.get(namespaces.name) ?? []) : this.#pods.keys();
  }

  #selects(policy: Known, pod: Pod): boolean {
    const { namespaces, pods } = policy.subject;
    if (!labelTest(pods)(pod.labels)) return false;
    if (namespaces.kind === 'named') return namespaces.name === pod.namespace;
    return labelTest(namespaces.selector)(this.#namespaceLabels(pod.namespace));
  }
}

function scopeOf(policy: Pick<Policy, 'subject'>): string {
  return policy.subject.namespaces.kind === 'named' ? policy.subject.namespaces.name : '';
}

function insert<Key, Member>(sets: Map<Key, Set<Member>>, key: Key, member: Member): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([member]));
  else set.add(member);
}

function remove<Key, Member>(sets: Map<Key, Set<Member>>, key: Key, member: Member): void {
  const set = sets.get(key);
  set?.delete(member);
  if (set?.size === 0) sets.delete(key);
}
