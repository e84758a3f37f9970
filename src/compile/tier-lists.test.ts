// Lists of rules that follow what changed hold what lists made anew would: for each local pod the policies that select
// it, in order, as they are now.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressView } from '#identity/address-view.ts';
import { portsKey } from '#identity/pods.ts';
import { Population } from '#identity/population.ts';
import { TCP } from '#net/protocol.ts';
import { comparePolicies, type Direction, type Policy, type PolicyKey } from '#policy/model.ts';
import { type Labels, selectorMatches } from '#policy/selector.ts';
import { type Pod, podKey } from '#policy/world.ts';
import { arbitraryLabels, arbitraryPolicy, NAMESPACES, PORT_NAMES } from '#test/support/arbitrary-policy.ts';
import { fails, holds } from '#test/support/property.ts';
import { ActivePolicies } from './active-policies.ts';
import { Allowances, NODE_ASKS } from './allowance.ts';
import { Recorder } from './recorder.ts';
import { Rules } from './rules.ts';
import { Subjects } from './subjects.ts';
import { TierLists } from './tier-lists.ts';

type Change =
  | { readonly kind: 'policy'; readonly value: Policy; readonly gone: boolean }
  | { readonly kind: 'pod'; readonly value: Pod; readonly gone: boolean }
  | { readonly kind: 'namespace'; readonly name: string; readonly labels: Labels };

function podOf(name: string, namespace: string, labels: Labels, port: string | null): Pod {
  const workload = { kind: 'Pod', namespace, name };
  const ports = port === null ? [] : [{ name: port, protocol: TCP, port: 80 }];
  const fixed = { node: 'n', addresses: [], hostNetwork: false, finished: false, workload };
  return { key: podKey(namespace, name), namespace, name, labels, ports, ...fixed };
}

const namespace = fc.constantFrom(...NAMESPACES);
const pod = fc
  .tuple(fc.constantFrom('a', 'b'), namespace, arbitraryLabels, fc.option(fc.constantFrom(...PORT_NAMES)))
  .map((parts) => podOf(...parts));
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant('policy' as const), value: arbitraryPolicy('tiered'), gone: fc.boolean() }),
  fc.record({ kind: fc.constant('pod' as const), value: pod, gone: fc.nat({ max: 3 }).map((dice) => dice === 0) }),
  fc.record({ kind: fc.constant('namespace' as const), name: namespace, labels: arbitraryLabels }),
);
const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 3 }), {
  minLength: 5,
  maxLength: 30,
  size: 'max',
});

/** The lists as the compiler keeps them, and the objects that they must follow. */
class Lists {
  readonly #namespaces = new Map<string, Labels>();
  readonly #policies = new Map<PolicyKey, Policy>();
  readonly #pods = new Map<string, Pod>();
  readonly #subjects = new Subjects((name) => this.#namespaces.get(name) ?? {});
  readonly #active: ActivePolicies;
  readonly #lists: TierLists;

  constructor() {
    const recorder = new Recorder(new AddressView(new Population().addresses));
    const atoms = { acquire: () => 1, release: () => undefined };
    this.#active = new ActivePolicies(new Rules(recorder), new Allowances(atoms, NODE_ASKS));
    this.#lists = new TierLists(this.#active);
  }

  take(one: Change, fault: Fault): void {
    if (one.kind === 'policy') {
      const { key } = one.value;
      if (one.gone) this.#policies.delete(key);
      else this.#policies.set(key, one.value);
      this.#subjects.setPolicy(key, one.gone ? null : one.value);
    } else if (one.kind === 'pod') {
      const { key } = one.value;
      if (one.gone) this.#pods.delete(key);
      else this.#pods.set(key, one.value);
      this.#subjects.setPod(key, one.gone ? null : one.value);
    } else {
      this.#namespaces.set(one.name, one.labels);
      if (!fault.forgetsNamespaces) this.#subjects.touchNamespace(one.name);
    }
  }

  /** Brings the lists up to date, and checks those of the pods that may have others than before. */
  settle(): void {
    const { dirty, pods, policies } = this.#subjects.settle();
    for (const entry of policies) this.#active.set(entry, this.#subjects.active(entry));
    const moved = [...this.#active.takeMoved()].flatMap((entry) => [...this.#subjects.selectedBy(entry)]);
    for (const key of new Set([...pods, ...moved, ...dirty])) {
      if (this.#subjects.pod(key) !== undefined) this.#check(key);
    }
    this.#active.settle();
    this.#lists.settle();
  }

  checkAll(): void {
    for (const { key } of this.#pods.values()) this.#check(key);
  }

  #check(key: Pod['key']): void {
    const local = this.#subjects.pod(key);
    assert.ok(local);
    assert.equal(this.#pods.get(key), local.pod);
    const list = local.pod.ports;
    for (const direction of ['egress', 'ingress'] as const) {
      const tiers = this.#lists.of(local.kind.group, { direction, ports: { key: portsKey(list), list } });
      const expected = this.#expected(local.pod, direction);
      const found = tiers.map(({ position, blocks, isolating }) => {
        const names = [...isolating].map(({ key, source }) => ({ key, source }));
        return { position, rules: [...blocks].map(({ rules }) => rules.map(({ info }) => info.id)), names };
      });
      assert.deepEqual(found, expected, `${direction} of ${key}`);
      for (const { blocks } of tiers) for (const { place, parts } of blocks) checkParts(place.key, parts);
    }
  }

  #expected(subject: Pod, direction: Direction): unknown[] {
    const speaks = (policy: Policy): boolean => policy.isolates[direction] || policy[direction].length > 0;
    const policies = [...this.#policies.values()].filter((policy) => this.#selects(policy, subject) && speaks(policy));
    const tiers = Map.groupBy(policies.sort(comparePolicies), ({ tier }) => tier.position);
    return [...tiers].map(([position, of]) => ({
      position,
      rules: of.map((policy) => policy[direction].map(({ id }) => id)),
      names: of.filter(({ isolates }) => isolates[direction]).map(({ key, source }) => ({ key, source })),
    }));
  }

  #selects({ subject }: Policy, { namespace, labels }: Pod): boolean {
    const { namespaces, pods } = subject;
    if (!selectorMatches(pods, labels)) return false;
    if (namespaces.kind === 'named') return namespaces.name === namespace;
    return selectorMatches(namespaces.selector, this.#namespaces.get(namespace) ?? {});
  }
}

/** Rules stand in the order at their policy's place. */
function checkParts(key: number, parts: readonly { readonly key: number }[]): void {
  for (const part of parts)
    assert.ok(part.key >= key && part.key < key + 3, `a rule at ${part.key}, its policy at ${key}`);
}

/** What a property must find. */
type Fault = { readonly forgetsNamespaces: boolean };

function listsFollow(fault: Fault): fc.IProperty<[Change[][]]> {
  return fc.property(batches, (history) => {
    const lists = new Lists();
    for (const batch of history) {
      for (const one of batch) lists.take(one, fault);
      lists.settle();
    }
    lists.checkAll();
  });
}

test('after each batch of a history, lists of rules are what lists made anew would be', (context) => {
  holds(context, listsFollow({ forgetsNamespaces: false }), 300);
  fails(listsFollow({ forgetsNamespaces: true }), 1000);
});
