// Which policies select which local pods, kept up to date by events. Pods of one namespace with the same labels are of
// one kind: they are looked at once.
import { push } from '#identity/collect.ts';
import { labelsKey, labelTest } from '#identity/labels.ts';
import { portsKey } from '#identity/pods.ts';
import { SelectorIndex } from '#identity/selector-index.ts';
import type { Policy, PolicyKey } from '#policy/model.ts';
import type { Labels } from '#policy/selector.ts';
import type { Pod, PodKey, WorldEvent } from '#policy/world.ts';
import { type Group, Groups, type Move, type PolicyEntry } from './groups.ts';
import { type Packed, Packer } from './packed.ts';
import { nextSerial } from './parts.ts';

/** Local pods that no selector can tell apart. */
type Kind = {
  readonly key: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly pods: Set<PodKey>;
  group: Group;
};

/** A local pod and what selects it. `ports` is equal for equal named ports. */
export type LocalPod = { readonly pod: Pod; readonly kind: { readonly group: Group }; readonly ports: string };

/** What a `settle` found. */
type Selected = {
  /** Pods that are themselves other than before. */
  readonly dirty: ReadonlySet<PodKey>;
  /** Pods that policies select which are new or other than before, or that did. */
  readonly pods: ReadonlySet<PodKey>;
  /** Policies that are new, gone or other than before, or select local pods for the first time, or none any more. */
  readonly policies: ReadonlySet<PolicyEntry>;
};

/** A policy that selects no local pod, as most do, is packed: that is a fifth of its text. Null: gone. */
type Known = PolicyEntry & { subject: Policy['subject']; policy: Policy | Packed | null };

type LocalKind = LocalPod & { readonly kind: Kind };

const NOBODY: ReadonlySet<never> = new Set();

export class Subjects {
  readonly #groups = new Groups();
  readonly #pods = new Map<PodKey, LocalKind>();
  readonly #kinds = new Map<string, Kind>();
  readonly #kindsIn = new Map<string, Set<Kind>>();
  readonly #policies = new Map<PolicyKey, Known>();
  /** Policies for one namespace by its name; '' holds those that choose namespaces by labels. */
  readonly #policiesOf = new Map<string, SelectorIndex<Known>>();
  readonly #selected = new Map<PolicyEntry, Set<Kind>>();
  readonly #packer = new Packer();
  readonly #namespaceLabels: (name: string) => Labels;
  #size = 0;
  /** What is new or other than before; a kind without pods is about to go. */
  readonly #dirtyPods = new Set<PodKey>();
  readonly #dirtyKinds = new Set<Kind>();
  readonly #dirtyPolicies = new Set<Known>();
  /** Policies that began to select local pods, or select none any more. */
  readonly #turned = new Set<PolicyEntry>();

  constructor(namespaceLabels: (name: string) => Labels) {
    this.#namespaceLabels = namespaceLabels;
  }

  pod(key: PodKey): LocalPod | undefined {
    return this.#pods.get(key);
  }

  /** How many policies there are. */
  get policies(): number {
    return this.#size;
  }

  *policyKeys(): Generator<PolicyKey> {
    for (const { key, policy } of this.#policies.values()) if (policy !== null) yield key;
  }

  /** The policy, where it selects local pods; null where it selects none. */
  active(policy: PolicyEntry): Policy | null {
    const known = this.#policies.get(policy.key);
    if (known === undefined || known.policy === null || !this.#selected.has(known)) return null;
    if (isPacked(known.policy)) known.policy = this.#packer.unpack<Policy>(known.policy);
    return known.policy;
  }

  /** The local pods that a policy selects. */
  *selectedBy(policy: PolicyEntry): Generator<PodKey> {
    for (const { pods } of this.#selected.get(policy) ?? NOBODY) yield* pods;
  }

  /** True where a policy with this key selects some local pod. */
  isActive(key: PolicyKey): boolean {
    const known = this.#policies.get(key);
    return known !== undefined && this.#selected.has(known);
  }

  /** True where a policy, were it known, would select this pod, were it local. */
  selects({ subject }: Policy, { namespace, labels }: Pod): boolean {
    return labelTest(subject.pods)(labels) && this.#isInScope(subject, namespace);
  }

  /** True where a policy, were it known, would select some local pod. */
  selectsSome(policy: Pick<Policy, 'subject'>): boolean {
    return !this.#matching(policy).next().done;
  }

  /** The policies that an event brings to local pods, or could: the one that it is about, and those of a pod. */
  *awakenedBy(event: WorldEvent, isLocal: (pod: Pod) => boolean): Generator<Policy> {
    if (event.kind === 'policy' && event.value !== null && this.selectsSome(event.value)) yield event.value;
    if (event.kind === 'pod' && event.value !== null && isLocal(event.value)) yield* this.#asleep(event.value);
    // Its labels are the old ones still: what they select then is not known.
    const kinds = event.kind === 'namespace' ? this.#kindsIn.get(event.name) : undefined;
    for (const { labels } of kinds ?? NOBODY) yield* this.#asleep({ namespace: null, labels });
  }

  /** Policies that select nobody, and would a pod. `namespace` null: all that choose namespaces by labels. */
  #asleep({ namespace, labels }: { readonly namespace: string | null; readonly labels: Labels }): Policy[] {
    const found: Policy[] = [];
    for (const scope of namespace === null ? [''] : [namespace, '']) {
      this.#policiesOf.get(scope)?.candidates(labels, (known) => {
        if (known.policy === null || this.#selected.has(known) || !labelTest(known.subject.pods)(labels)) return;
        if (namespace !== null && !this.#isInScope(known.subject, namespace)) return;
        found.push(isPacked(known.policy) ? this.#packer.read<Policy>(known.policy) : known.policy);
      });
    }
    return found;
  }

  #isInScope({ namespaces }: Policy['subject'], name: string): boolean {
    if (namespaces.kind === 'named') return namespaces.name === name;
    return labelTest(namespaces.selector)(this.#namespaceLabels(name));
  }

  /** Null: no local pod, or none any more. */
  setPod(key: PodKey, pod: Pod | null): void {
    const before = this.#pods.get(key);
    if (before === undefined && pod === null) return;
    this.#dirtyPods.add(key);
    if (before !== undefined) this.#leave(before.kind, key);
    if (pod === null) this.#pods.delete(key);
    else this.#pods.set(key, { pod, kind: this.#join(pod), ports: portsKey(pod.ports) });
  }

  setPolicy(key: PolicyKey, policy: Policy | null): void {
    const known = this.#policies.get(key) ?? this.#newPolicy(key, policy);
    if (known === null) return;
    this.#dirtyPolicies.add(known);
    if (known.policy !== null) this.#unlist(known);
    if (isPacked(known.policy)) this.#packer.drop(known.policy);
    known.policy = policy;
    if (policy !== null) this.#list(known, policy.subject);
  }

  /** Of a long list, a policy that selects no local pod known so far waits for the end packed, as it will stay most often. */
  putAsleep(key: PolicyKey): void {
    const known = this.#policies.get(key);
    if (known === undefined || known.policy === null || isPacked(known.policy)) return;
    if (!this.selectsSome(known)) known.policy = this.#packer.pack(known.policy);
  }

  /** The labels of a namespace are others. */
  touchNamespace(name: string): void {
    for (const kind of this.#kindsIn.get(name) ?? NOBODY) this.#dirtyKinds.add(kind);
  }

  /** More of a namespace's pods is other than which policies select them. */
  touchPods(name: string): void {
    for (const { pods } of this.#kindsIn.get(name) ?? NOBODY) for (const pod of pods) this.#dirtyPods.add(pod);
  }

  /** Selects again where something changed. */
  settle(): Selected {
    this.#groups.settle();
    const moves = new Map<Kind, Move[]>();
    for (const kind of this.#dirtyKinds) if (kind.pods.size === 0) this.#dropKind(kind);
    const touched = new Set<Kind>();
    for (const policy of this.#dirtyPolicies) this.#reselectPolicy(policy, moves, touched);
    for (const kind of this.#dirtyKinds) if (kind.pods.size > 0) this.#reselectKind(kind, moves);
    for (const [kind, list] of moves) {
      kind.group = this.#groups.move(kind.group, list);
      touched.add(kind);
    }
    const pods = new Set<PodKey>();
    for (const kind of touched) for (const pod of kind.pods) pods.add(pod);
    const policies = new Set([...this.#dirtyPolicies, ...this.#turned]);
    for (const { key } of policies) this.#putAway(key);
    const dirty = new Set(this.#dirtyPods);
    for (const noted of [this.#dirtyPods, this.#dirtyKinds, this.#dirtyPolicies, this.#turned]) noted.clear();
    return { dirty, pods, policies };
  }

  #newPolicy(key: PolicyKey, policy: Policy | null): Known | null {
    if (policy === null) return null;
    const known: Known = { key, serial: nextSerial(), subject: policy.subject, policy: null };
    this.#policies.set(key, known);
    return known;
  }

  #list(known: Known, subject: Policy['subject']): void {
    this.#size++;
    known.subject = subject;
    const scope = scopeOf(known);
    const index = this.#policiesOf.get(scope) ?? new SelectorIndex<Known>();
    this.#policiesOf.set(scope, index);
    index.add(subject.pods, known);
  }

  #unlist(known: Known): void {
    this.#size--;
    const index = this.#policiesOf.get(scopeOf(known));
    index?.remove(known.subject.pods, known);
    if (index?.isEmpty) this.#policiesOf.delete(scopeOf(known));
  }

  #join({ key, namespace, labels }: Pod): Kind {
    const text = `${namespace.length}:${namespace} ${labelsKey(labels)}`;
    const found = this.#kinds.get(text);
    if (found !== undefined) {
      found.pods.add(key);
      return found;
    }
    const kind: Kind = { key: text, namespace, labels, pods: new Set([key]), group: this.#groups.none };
    this.#groups.none.kinds++;
    this.#kinds.set(text, kind);
    insert(this.#kindsIn, namespace, kind);
    this.#dirtyKinds.add(kind);
    return kind;
  }

  #leave(kind: Kind, pod: PodKey): void {
    kind.pods.delete(pod);
    if (kind.pods.size === 0) this.#dirtyKinds.add(kind);
  }

  #dropKind(kind: Kind): void {
    for (const policy of kind.group.policies) this.#deselect(policy, kind);
    this.#groups.leave(kind.group);
    this.#kinds.delete(kind.key);
    remove(this.#kindsIn, kind.namespace, kind);
  }

  /** `touched`: gains the kinds that the policy selected or selects. */
  #reselectPolicy(policy: Known, moves: Map<Kind, Move[]>, touched: Set<Kind>): void {
    const before = [...(this.#selected.get(policy) ?? NOBODY)];
    const now = new Set(policy.policy === null ? [] : this.#matching(policy));
    for (const kind of before) {
      touched.add(kind);
      if (now.has(kind)) continue;
      this.#deselect(policy, kind);
      push(moves, kind, { policy, selected: false });
    }
    for (const kind of now) {
      if (this.#select(policy, kind)) push(moves, kind, { policy, selected: true });
      touched.add(kind);
    }
  }

  *#matching({ subject }: Pick<Known, 'subject'>): Generator<Kind> {
    const { namespaces } = subject;
    const podTest = labelTest(subject.pods);
    const isNamed = namespaces.kind === 'named';
    const namespaceTest = isNamed ? () => true : labelTest(namespaces.selector);
    for (const kind of isNamed ? (this.#kindsIn.get(namespaces.name) ?? NOBODY) : this.#kinds.values()) {
      if (podTest(kind.labels) && namespaceTest(this.#namespaceLabels(kind.namespace))) yield kind;
    }
  }

  /** Looks which policies select a kind, as far as `#selected` does not say so yet. */
  #reselectKind(kind: Kind, moves: Map<Kind, Move[]>): void {
    const now = new Set<PolicyEntry>();
    const namespaceLabels = this.#namespaceLabels(kind.namespace);
    for (const scope of [kind.namespace, '']) {
      this.#policiesOf.get(scope)?.candidates(kind.labels, (policy) => {
        const { namespaces, pods } = policy.subject;
        const isInScope = namespaces.kind === 'named' || labelTest(namespaces.selector)(namespaceLabels);
        if (isInScope && labelTest(pods)(kind.labels)) now.add(policy);
      });
    }
    for (const policy of now) if (this.#select(policy, kind)) push(moves, kind, { policy, selected: true });
    for (const policy of kind.group.policies) {
      if (now.has(policy) || !this.#deselect(policy, kind)) continue;
      push(moves, kind, { policy, selected: false });
    }
  }

  /** False where the policy selects the kind already. */
  #select(policy: PolicyEntry, kind: Kind): boolean {
    const kinds = this.#selected.get(policy);
    if (kinds?.has(kind)) return false;
    if (kinds === undefined) this.#turned.add(policy);
    insert(this.#selected, policy, kind);
    return true;
  }

  /** False where the policy does not select the kind. */
  #deselect(policy: PolicyEntry, kind: Kind): boolean {
    if (!this.#selected.get(policy)?.has(kind)) return false;
    remove(this.#selected, policy, kind);
    if (!this.#selected.has(policy)) this.#turned.add(policy);
    return true;
  }

  #putAway(key: PolicyKey): void {
    const known = this.#policies.get(key);
    if (known === undefined || this.#selected.has(known)) return;
    if (known.policy === null) this.#policies.delete(key);
    else if (!isPacked(known.policy)) known.policy = this.#packer.pack(known.policy);
  }
}

function isPacked(policy: Known['policy']): policy is Packed {
  return policy !== null && 'leaves' in policy;
}

function scopeOf({ subject }: Known): string {
  return subject.namespaces.kind === 'named' ? subject.namespaces.name : '';
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
