// How few addresses move: only those that a selector of a local pod's rules splits, and of a split the smaller part.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { DEFAULT_TIER, type Policy, type PolicyKey, policyKey, type RuleId } from '#policy/model.ts';
import { EVERYTHING, type LabelSelector } from '#policy/selector.ts';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { Compiler } from './compiler.ts';
import type { Step } from './plan.ts';

type PolicyEvent = { readonly kind: 'policy'; readonly key: PolicyKey; readonly value: Policy };

const NAMED = { kind: 'named', name: 'shop' } as const;

/** Pod `number` of ten; one by one they are labelled `half: low` or `half: high`, the first three also `few: yes`. */
function pod(number: number): WorldEvent {
  const address = parseAddress(`10.0.0.${number}`);
  assert.ok(address);
  const name = `pod-${number}`;
  const key = podKey('shop', name);
  const labels = { half: number <= 5 ? 'low' : 'high', ...(number <= 3 ? { few: 'yes' } : {}) };
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const fixed = { namespace: 'shop', ports: [], hostNetwork: false, finished: false, workload };
  const value: Pod = { ...fixed, key, name, labels, node: number === 10 ? 'here' : 'there', addresses: [address] };
  return { kind: 'pod', key, value };
}

function policy(name: string, subject: LabelSelector, peers: LabelSelector): PolicyEvent {
  const key = policyKey('networkpolicy', 'shop', name);
  const source = { dialect: 'k', kind: 'NetworkPolicy', namespace: 'shop', name, path: '', file: null, line: null };
  const from = { kind: 'these', peers: [{ kind: 'pods', namespaces: NAMED, pods: peers }] } as const;
  const value: Policy = {
    ...{ key, tier: DEFAULT_TIER, order: name, source, isolates: { egress: false, ingress: true }, egress: [] },
    subject: { namespaces: NAMED, pods: subject },
    ingress: [{ id: `${name}/0` as RuleId, action: 'allow', peers: from, ports: { kind: 'any' }, source }],
  };
  return { kind: 'policy', key, value };
}

const few: LabelSelector = { requirements: [{ op: 'Exists', key: 'few' }] };
const notFew: LabelSelector = { requirements: [{ op: 'DoesNotExist', key: 'few' }] };
const nobody: LabelSelector = { requirements: [{ op: 'Exists', key: 'missing' }] };
const remote: LabelSelector = { requirements: [{ op: 'In', key: 'half', values: ['low'] }] };

function started(): Compiler {
  const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
  compiler.apply(Array.from({ length: 10 }, (_, index) => pod(index + 1)));
  return compiler;
}

/** Addresses and prefixes that steps move, as `addresses+prefixes`, then how many identities there are. */
function moves(compiler: Compiler, steps: readonly Step[]): string {
  const count = (kind: Step['kind']): number => steps.filter((step) => step.kind === kind).length;
  return `${count('address')}+${count('prefix')}, ${compiler.plan.identities.size}`;
}

function check(events: readonly WorldEvent[], expect: readonly string[]): void {
  const compiler = started();
  const found = events.map((event) => moves(compiler, compiler.apply([event])));
  assert.deepEqual(found, expect);
}

test('a selector moves the part that it splits off, whichever part is smaller', () => {
  check([policy('a', EVERYTHING, few)], ['3+0, 2']);
  // Seven pods stay; the three others and the two prefixes of everywhere else move.
  check([policy('a', EVERYTHING, notFew)], ['3+2, 2']);
});

test('a selector that matches an identity as a whole moves nobody', () => {
  check([policy('a', EVERYTHING, few), policy('b', EVERYTHING, few)], ['3+0, 2', '0+0, 2']);
  check([policy('a', EVERYTHING, few), policy('b', EVERYTHING, notFew)], ['3+0, 2', '0+2, 3']);
});

test('a selector that no local pod’s rules use splits nothing', () => {
  check([policy('a', remote, few), policy('b', nobody, few)], ['0+0, 1', '0+0, 1']);
});

test('a policy that goes leaves twins, and a merge makes them one', () => {
  const compiler = started();
  compiler.apply([policy('a', EVERYTHING, few)]);
  const gone = compiler.apply([{ kind: 'policy', key: policyKey('networkpolicy', 'shop', 'a'), value: null }]);
  assert.equal(moves(compiler, gone), '0+0, 2');
  assert.equal(moves(compiler, compiler.merge()), '3+0, 1');
});

test('a policy that comes back where its twins were still apart moves nobody', () => {
  const compiler = started();
  compiler.apply([policy('a', EVERYTHING, few)]);
  compiler.apply([{ kind: 'policy', key: policyKey('networkpolicy', 'shop', 'a'), value: null }]);
  assert.equal(moves(compiler, compiler.apply([policy('a', EVERYTHING, few)])), '0+0, 2');
});

test('a remote pod relabelled alike moves nothing, and is no peer to judge again', () => {
  const compiler = started();
  compiler.apply([policy('a', EVERYTHING, few)]);
  const event = pod(4);
  assert.ok(event.kind === 'pod' && event.value !== null);
  const value = { ...event.value, labels: { half: 'low', other: 'label' } };
  assert.deepEqual(compiler.apply([{ ...event, value }]), []);
});

test('a policy that selects no local pod changes no table', () => {
  const compiler = started();
  compiler.apply([policy('a', EVERYTHING, few), policy('c', EVERYTHING, notFew)]);
  const before = new Map(compiler.plan.tables);
  compiler.apply([policy('b', remote, few)]);
  assert.deepEqual(new Map(compiler.plan.tables), before);
});

test('who does not gain a selector stays without, also where others were like them once', () => {
  const compiler = started();
  const cidr = parseCidr('10.0.0.1/32')?.cidr;
  assert.ok(cidr);
  const block = policy('block', EVERYTHING, nobody);
  const blocked = { kind: 'these', peers: [{ kind: 'cidr', cidr, except: [] }] } as const;
  const [rule] = block.value.ingress;
  assert.ok(rule);
  compiler.apply([{ ...block, value: { ...block.value, ingress: [{ ...rule, peers: blocked }] } }]);
  // The first pod keeps an identity of its own, which says the same as that of everybody else.
  compiler.apply([{ ...block, value: null }]);
  compiler.apply([policy('all', EVERYTHING, EVERYTHING)]);
  const { prefixes, addresses } = compiler.plan;
  const pods = new Set(addresses.values());
  assert.equal(addresses.size, 10);
  for (const { identity } of prefixes.values()) assert.equal(pods.has(identity), false, 'the world is taken for pods');
});
