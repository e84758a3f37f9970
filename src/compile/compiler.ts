// World events in, steps of a Plan out. Cost follows what changed; nothing here knows of kernels or dialects.
import { AddressView } from '#identity/address-view.ts';
import type { AtomNumber } from '#identity/atoms.ts';
import type { IdentityChanges } from '#identity/changes.ts';
import { Identifier } from '#identity/identifier.ts';
import { Population } from '#identity/population.ts';
import { Waiting } from '#identity/waiting.ts';
import type { Address } from '#net/address.ts';
import { comparePolicies, type Policy, type PolicyKey } from '#policy/model.ts';
import { isEndpoint, type Namespace, type Pod, type PodKey, type Semantics, type WorldEvent } from '#policy/world.ts';
import { ActivePolicies } from './active-policies.ts';
import { type Allowance, Allowances, type AskLimits, NODE_ASKS } from './allowance.ts';
import { Endpoints } from './endpoints.ts';
import type { PolicyEntry } from './groups.ts';
import { Interner } from './interner.ts';
import { Layers } from './layers.ts';
import { atomsOf } from './parts.ts';
import type { Audit, Plan, SetNumber, Step } from './plan.ts';
import { Recorder, type Write } from './recorder.ts';
import { Rules } from './rules.ts';
import { Sets } from './sets.ts';
import { NODE_SHARE, Shares, type Taken } from './shares.ts';
import type { Shortage } from './shortage.ts';
import { Subjects } from './subjects.ts';
import { Tables } from './tables.ts';

export type CompilerOptions = {
  readonly semantics: Semantics;
  /** Which pods are endpoints of this node. */
  readonly isLocal: (pod: Pod) => boolean;
  /** What the policies of one namespace may take; by default a share of one node. */
  readonly share?: Taken;
  /** What the peers of its rules may ask for. */
  readonly asks?: AskLimits;
};

const NOBODY: ReadonlySet<PodKey> = new Set();
const NOTHING: IdentityChanges = { created: [], gained: [], peers: [], podBlocks: false };

export type ApplyOptions = {
  /** What was foreseen of these events: who waits for it moves now, and it need not be remembered any more. */
  readonly foreseen?: readonly Foreseen[];
  /** Others who wait and move now. */
  readonly waiting?: readonly Waiting[];
  /** Whether identities that equal another become one with it where they are many. Default: merge. */
  readonly twins?: 'merge' | 'leave';
  /**
   * Where more classes of a layer in use change than that, they are behind until `catchUp`. Default: none is. And of so many
   * identities selectors are taken that nothing uses any more: `bury` does the others. Default: of all.
   */
  readonly most?: number;
  /** Which open flows are judged again. Default: those whose verdict the events change. */
  readonly judge?: 'all' | 'changed';
  /** Is given what comes before the first endpoint that there is, in parts: the steps of a first list are many. */
  readonly write?: Write;
};

/** Atoms that count before rules use them, and who is yet to move for that. */
export type Foreseen = {
  readonly atoms: readonly { readonly number: AtomNumber; readonly allowance: Allowance }[];
  /** In whose names they were asked for, once for each policy. */
  readonly allowances: readonly Allowance[];
  readonly waiting: Waiting;
};

export class Compiler {
  readonly #isLocal: (pod: Pod) => boolean;
  readonly #population = new Population();
  readonly #recorder = new Recorder(new AddressView(this.#population.addresses));
  readonly #identifier: Identifier;
  readonly #subjects: Subjects;
  /** Of the policies that came since the last batch. */
  readonly #interner = new Interner();
  readonly #rules = new Rules(this.#recorder);
  readonly #tables = new Tables(this.#recorder);
  readonly #allowances: Allowances;
  readonly #active: ActivePolicies;
  readonly #layers: Layers;
  readonly #sets: Sets;
  readonly #shares: Shares;
  readonly #endpoints: Endpoints;
  #fellBehind = false;

  constructor(options: CompilerOptions) {
    const recorder = this.#recorder;
    const { ipBlockPods, mode = 'annotated' } = options.semantics;
    this.#isLocal = options.isLocal;
    const sink = { address: recorder.address.bind(recorder), prefix: recorder.prefix.bind(recorder) };
    const identifier = new Identifier(this.#population, { sink, ipBlockPods });
    this.#identifier = identifier;
    this.#subjects = new Subjects((name) => this.#population.namespaceLabels(name));
    this.#allowances = new Allowances(identifier, options.asks ?? NODE_ASKS);
    this.#active = new ActivePolicies(this.#rules, this.#allowances);
    this.#layers = new Layers({ recorder, tables: this.#tables, rules: this.#rules, identifier });
    this.#sets = new Sets(recorder, this.#layers);
    this.#shares = new Shares(options.share ?? NODE_SHARE);
    const shares = this.#shares;
    const auditOf = (namespace: string): Audit | null => {
      if (mode !== 'annotated') return mode === 'audit' ? 'all' : null;
      return this.#population.isAudited(namespace) ? 'own' : null;
    };
    const uses = { recorder, active: this.#active, layers: this.#layers, sets: this.#sets, shares, auditOf };
    this.#endpoints = new Endpoints(uses);
  }

  /** The Plan as it is now: a live view, changed by each `apply`. */
  get plan(): Plan {
    return this.#recorder.plan;
  }

  /** Namespaces whose policies found no room for all that they say. */
  get shortages(): readonly Shortage[] {
    return [...this.#active.shortages, ...this.#layers.shortages];
  }

  /** How many policies there are, whomever they select. */
  get policies(): number {
    return this.#subjects.policies;
  }

  /** How many identities addresses have. */
  get identities(): number {
    return this.#identifier.size;
  }

  /** The pod that owns an address as things are known now; null where none does. */
  podAt(address: Address): PodKey | null {
    const row = this.#population.addresses.find(address);
    return row === undefined ? null : this.#population.ownerKey(row);
  }

  /** The deletion of each thing that the compiler knows. Pods that are nobody to policy are not kept. */
  *known(): Generator<WorldEvent> {
    yield* this.#population.known();
    for (const key of this.#subjects.policyKeys()) yield { kind: 'policy', key, value: null };
  }

  /** Takes events that count with the next `apply`: of a long list, less is kept than the events are. */
  note(events: readonly WorldEvent[]): void {
    for (const event of events) {
      this.#take(event);
      if (event.kind === 'policy') this.#subjects.putAsleep(event.key);
    }
  }

  /** Takes a batch of events and returns what changed, in an order that is safe for packets in flight. */
  apply(events: readonly WorldEvent[], how: ApplyOptions = {}): readonly Step[] {
    this.#fellBehind = false;
    for (const event of events) this.#take(event);
    this.#interner.clear();
    const { dirty, pods, policies } = this.#subjects.settle();
    const changedPolicies = this.#setActive(policies);
    const judged = this.#endpoints.size > 0;
    const { foreseen = [], waiting = [] } = how;
    for (const one of foreseen) this.forget(one);
    this.#setEndpoints([...pods, ...changedPolicies], new Set([...dirty, ...this.#population.takeRivals()]));
    const moved = [...foreseen.map((one) => one.waiting), ...waiting];
    const { twins = 'merge' } = how;
    const peers = judged ? 'tell' : 'leave';
    const steps = this.#finish(this.#identifier.settle({ waiting: moved, twins, peers }), judged, how);
    const again = this.#active.askAgain();
    if (again.size === 0) return steps;
    this.#setEndpoints(
      [...again].flatMap((key) => [...this.#subjects.selectedBy(key)]),
      NOBODY,
    );
    // What this one writes comes after what is left of the steps before: not in parts.
    const { write: _, ...rest } = how;
    const left = { ...rest, judge: 'changed' } as const;
    for (const step of this.#finish(this.#identifier.settle({ twins, peers }), judged, left)) steps.push(step);
    return steps;
  }

  /**
   * Introduces the selectors of policies that events bring to local pods: what is new or changes is matched by them from
   * now on, all else as `advance` finds and moves it; at up to so many places it is looked for it now. No verdict changes.
   * Nobody waits for selectors that are too many for that: the next batch introduces them. Null where there are none.
   */
  foresee(events: readonly WorldEvent[], looks: number): Foreseen | null {
    const atoms: Foreseen['atoms'][number][] = [];
    const allowances: Allowance[] = [];
    for (const policy of events.flatMap((event) => [
      ...this.#subjects.awakenedBy(event, (pod) => this.#isSubject(pod)),
    ])) {
      const allowance = this.#allowances.join(policy.source.namespace);
      allowances.push(allowance);
      for (const spec of atomsOf(policy)) {
        const number = allowance.acquire(spec);
        if (number !== null) atoms.push({ number, allowance });
      }
    }
    if (atoms.length > 0) return { atoms, allowances, waiting: this.#identifier.foresee(looks) ?? new Waiting() };
    this.forget({ atoms, allowances });
    return null;
  }

  /** What was foreseen is of no use any more. */
  forget({ atoms, allowances }: Omit<Foreseen, 'waiting'>): void {
    for (const { number, allowance } of atoms) allowance.release(number);
    for (const allowance of allowances) this.#allowances.leave(allowance);
  }

  /** Addresses that have another identity than its equal, where they are many: `advance` moves them. */
  twins(): Waiting | null {
    return this.#identifier.twins();
  }

  /** Finds and moves so many addresses to the identities that they wait for. */
  advance(waiting: Waiting, most: number, looks?: number): readonly Step[] {
    return this.#finish(this.#identifier.advance(waiting, most, looks), false, { most });
  }

  /** True while identities have selectors that nothing uses any more. */
  get isBurying(): boolean {
    return this.#identifier.isBurying;
  }

  /** Takes such selectors from up to so many identities. */
  bury(most: number): readonly Step[] {
    return this.#finish(NOTHING, false, { most });
  }

  /** True while classes of layers in use are behind: they say what rules before said. */
  get isBehind(): boolean {
    return this.#layers.isBehind;
  }

  /** True where the last change left classes behind. */
  get fellBehind(): boolean {
    return this.#fellBehind;
  }

  /** Lets up to so many classes follow the rules. With the last one, open flows are judged again. */
  catchUp(most: number): readonly Step[] {
    this.#layers.catchUp(most);
    return this.#finish(NOTHING, this.#endpoints.size > 0, { most });
  }

  /** False where an event can change nothing: it is of a pod that is nobody to policy, and was nobody. */
  isNews(event: WorldEvent): boolean {
    if (event.kind !== 'pod') return true;
    const { key, value } = event;
    return (value !== null && isSomebody(value)) || this.#population.knows(key);
  }

  /** True where the policy is in force for some local pod. */
  isActive(key: PolicyKey): boolean {
    return this.#subjects.isActive(key);
  }

  /** True where a pod is about to become an endpoint of this node, and the policy selects it. */
  wouldBegin(pod: Pod, policy: Policy): boolean {
    return this.#isSubject(pod) && this.#subjects.pod(pod.key) === undefined && this.#subjects.selects(policy, pod);
  }

  /** Makes identities one that have become equal; verdicts stay. `apply` does so by itself when they are many. */
  merge(): readonly Step[] {
    return this.#finish(this.#identifier.merge(), false);
  }

  #take(event: WorldEvent): void {
    switch (event.kind) {
      case 'namespace':
        this.#setNamespace(event.name, event.value);
        break;
      case 'node':
        this.#population.setNode(event.name, event.value);
        this.#recorder.node(event.name, event.value?.addresses ?? null);
        break;
      case 'pod':
        this.#population.setPod(event.key, event.value);
        this.#subjects.setPod(event.key, event.value !== null && this.#isSubject(event.value) ? event.value : null);
        break;
      case 'policy':
        this.#subjects.setPolicy(event.key, event.value && this.#shared(event.value));
        break;
    }
  }

  #setNamespace(name: string, value: Namespace | null): void {
    const wasAudited = this.#population.isAudited(name);
    this.#population.setNamespace(name, value);
    this.#subjects.touchNamespace(name);
    if (this.#population.isAudited(name) !== wasAudited) this.#subjects.touchPods(name);
  }

  /** What most policies say is of nobody here, and put away soon; whom they select is not. */
  #shared(policy: Policy): Policy {
    return this.#subjects.selectsSome(policy) ? this.#interner.policy(policy) : this.#interner.subject(policy);
  }

  #isSubject(pod: Pod): boolean {
    return isEndpoint(pod) && this.#isLocal(pod);
  }

  /** Brings active policies up to date. Returns the pods whose rule lists that can change. */
  #setActive(entries: ReadonlySet<PolicyEntry>): Set<PodKey> {
    const active: (readonly [PolicyEntry, Policy])[] = [];
    for (const entry of entries) {
      const policy = this.#subjects.active(entry);
      if (policy === null) this.#active.set(entry, null);
      else active.push([entry, policy]);
    }
    active.sort(([, a], [, b]) => comparePolicies(a, b));
    for (const [entry, policy] of active) this.#active.set(entry, policy);
    const pods = new Set<PodKey>();
    for (const entry of this.#active.takeMoved()) for (const pod of this.#subjects.selectedBy(entry)) pods.add(pod);
    return pods;
  }

  /** `dirty`: those of which more may have changed than the policies that select them. */
  #setEndpoints(keys: readonly PodKey[], dirty: ReadonlySet<PodKey>): void {
    for (const key of new Set([...keys, ...dirty])) {
      const subject = this.#subjects.pod(key);
      if (subject === undefined) this.#endpoints.remove(key);
      else this.#endpoints.set(key, subject, dirty.has(key) ? this.#owned(subject.pod) : null);
    }
  }

  #owned(pod: Pod): Address[] {
    return pod.addresses.filter((address) => this.#population.owns(pod.key, address));
  }

  /** What is new comes first, all of it: rule lists about to go must know new identities too, while packets meet both. */
  #finish(changes: IdentityChanges, judged: boolean, how: Omit<ApplyOptions, 'foreseen' | 'waiting'> = {}): Step[] {
    for (const { number, unknown } of changes.created) this.#recorder.identity(number, { unknown });
    if (this.#layers.settle(changes, this.#sets.successions(), how.most)) this.#fellBehind = true;
    this.#sets.settle();
    this.#layers.complete(this.#endpoints.turning());
    this.#endpoints.settle();
    // Without an endpoint nothing is enforced, so what comes before the first may be written in parts.
    const steps = this.#recorder.flush(judged ? null : (how.write ?? null));
    this.#sweep(how.most ?? Number.POSITIVE_INFINITY);
    this.#layers.retry();
    const changed = [...this.#sets.takeChanged(), ...this.#sets.having(this.#layers.takeFollowed())];
    const sets: SetNumber[] = changes.podBlocks || how.judge === 'all' ? this.#sets.judging() : [...new Set(changed)];
    for (const step of this.#recorder.flush()) steps.push(step);
    if (judged && (sets.length > 0 || changes.peers.length > 0)) {
      steps.push({ kind: 'epoch', sets, peers: changes.peers });
    }
    return steps;
  }

  #sweep(most: number): void {
    this.#sets.sweep();
    this.#layers.sweep();
    this.#active.settle();
    const retired = this.#identifier.bury(this.#layers.isBehind ? 'keep' : 'drop', most);
    this.#layers.forget(retired);
    this.#tables.sweep();
    this.#shares.sweep();
    for (const { number } of retired) this.#recorder.identity(number, null);
  }
}

/** An endpoint, or one of its node's addresses' pods. */
function isSomebody(pod: Pod): boolean {
  return isEndpoint(pod) || (pod.hostNetwork && !pod.finished);
}
