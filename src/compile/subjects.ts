// Which policies select which local pods, kept up to date by events.
import { labelTest } from '#identity/labels.ts';
import type { Policy, PolicyKey } from '#policy/model.ts';
import type { Labels } from '#policy/selector.ts';
import type { Pod, PodKey } from '#policy/world.ts';

/** A local pod and the policies that select it. */
export type LocalPod = { readonly pod: Pod; readonly policies: Set<PolicyKey> };

/** A policy that selects no local pod, as most do, is kept as text: that is a third of it. */
type Known = { readonly subject: Policy['subject']; policy: Policy | string };

export class Subjects {
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
    return this.#selected.get(policy) ?? new Set();
  }

  /** Null: no local pod, or none any more. */
  setPod(key: PodKey, pod: Pod | null): void {
    const before = this.#pods.get(key);
    if (before !== undefined) remove(this.#podsIn, before.pod.namespace, key);
    if (before === undefined && pod === null) return;
    this.#dirtyPods.add(key);
    if (pod === null) {
      for (const policy of before?.policies ?? []) this.#deselect(policy, key);
      this.#pods.delete(key);
      return;
    }
    this.#pods.set(key, { pod, policies: before?.policies ?? new Set() });
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

  /** Selects again where something changed. Returns the pods and policies that have to be looked at. */
  settle(): { readonly pods: ReadonlySet<PodKey>; readonly policies: ReadonlySet<PolicyKey> } {
    const pods = new Set(this.#dirtyPods);
    const policies = new Set(this.#touched);
    for (const key of this.#dirtyPolicies) {
      policies.add(key);
      for (const pod of this.#reselectPolicy(key)) pods.add(pod);
    }
    for (const key of this.#dirtyPods) for (const policy of this.#reselectPod(key)) policies.add(policy);
    this.#dirtyPods.clear();
    this.#dirtyPolicies.clear();
    this.#touched.clear();
    return { pods, policies };
  }

  /** Returns the pods that the policy selected or selects. */
  #reselectPolicy(key: PolicyKey): Set<PodKey> {
    const before = this.#selected.get(key) ?? new Set();
    const policy = this.#policies.get(key);
    const touched = new Set(before);
    for (const pod of before) this.#pods.get(pod)?.policies.delete(key);
    this.#selected.delete(key);
    if (policy === undefined) return touched;
    for (const pod of this.#candidatePods(policy)) {
      const local = this.#pods.get(pod);
      if (local === undefined || !this.#selects(policy, local.pod)) continue;
      local.policies.add(key);
      insert(this.#selected, key, pod);
      touched.add(pod);
    }
    return touched;
  }

  /** Returns the policies that selected or select the pod. */
  #reselectPod(key: PodKey): Set<PolicyKey> {
    const local = this.#pods.get(key);
    if (local === undefined) return new Set();
    const now = new Set<PolicyKey>();
    for (const scope of [local.pod.namespace, '']) {
      for (const policy of this.#policiesOf.get(scope) ?? []) {
        const value = this.#policies.get(policy);
        if (value !== undefined && this.#selects(value, local.pod)) now.add(policy);
      }
    }
    const before = new Set(local.policies);
    for (const policy of before) if (!now.has(policy)) this.#deselect(policy, key);
    local.policies.clear();
    for (const policy of now) {
      local.policies.add(policy);
      insert(this.#selected, policy, key);
    }
    return new Set([...before, ...now]);
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
