// Workloads that share policies and have their own: layers that change alike share what they find of a peer, and no more.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { parseAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { type Policy, policyKey, type Rule, type RuleId, type Tier } from '#policy/model.ts';
import { EVERYTHING, type LabelSelector } from '#policy/selector.ts';
import type { Flow } from '#policy/verdict.ts';
import { EMPTY_WORLD, type Pod, podKey } from '#policy/world.ts';
import { worldEvents } from '#test/support/arbitrary-world.ts';
import { holds } from '#test/support/property.ts';
import { Compiler } from './compiler.ts';

const NAMED = { kind: 'named', name: 'shop' } as const;
const TIER: Tier = { name: 'admin', position: 100, end: 'none' };
const LAST_PORT = 8;
const POLICIES = 5;

function pod(name: string, node: string, labels: Pod['labels'], address: string): Pod {
  const found = parseAddress(address);
  assert.ok(found);
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const fixed = { namespace: 'shop', ports: [], hostNetwork: false, finished: false, workload };
  return { ...fixed, key: podKey('shop', name), name, labels, node, addresses: [found] };
}

const LOCAL = ['web', 'api', 'db'].map((app, at) => pod(app, 'here', { app }, `10.0.0.${at + 1}`));
const PEERS = [
  pod('one', 'there', { color: 'red', size: 'big' }, '10.0.1.1'),
  pod('two', 'there', { color: 'red', size: 'small' }, '10.0.1.2'),
  pod('three', 'there', { color: 'blue', size: 'big' }, '10.0.1.3'),
];

function labelled(key: string, value: string): LabelSelector {
  return { requirements: [{ op: 'In', key, values: [value] }] };
}

type Drawn = { readonly action: 'allow' | 'deny'; readonly peer: LabelSelector; readonly ports: readonly number[] };

const port = fc.integer({ min: 1, max: LAST_PORT });
const rules: fc.Arbitrary<Drawn[]> = fc.array(
  fc.record({
    action: fc.constantFrom('allow', 'allow', 'allow', 'deny'),
    peer: fc.constantFrom(labelled('color', 'red'), labelled('color', 'blue'), labelled('size', 'big')),
    ports: fc.tuple(port, port).map((two) => two.sort((a, b) => a - b)),
  }),
  { minLength: 1, maxLength: 3, size: 'max' },
);

/** Of whom a policy with a number is: the first two of all three workloads, the others of one each. */
const SUBJECTS = [EVERYTHING, EVERYTHING, ...['web', 'api', 'db'].map((app) => labelled('app', app))];

const changes = fc.array(fc.record({ number: fc.nat({ max: POLICIES - 1 }), rules: fc.option(rules, { freq: 4 }) }), {
  minLength: 6,
  maxLength: 14,
  size: 'max',
});

function policy(number: number, drawn: readonly Drawn[]): Policy {
  const name = `p${number}`;
  const source = { dialect: 'k', kind: 'Policy', namespace: 'shop', name, path: '', file: null, line: null };
  const ingress = drawn.map(({ action, peer, ports: [first = 0, last = 0] }, index): Rule => {
    const ranges = [{ kind: 'range', protocol: TCP, first, last } as const];
    const peers = [{ kind: 'pods', namespaces: NAMED, pods: peer } as const];
    const id = `${name}/${index}` as RuleId;
    return { id, action, peers: { kind: 'these', peers }, ports: { kind: 'these', ports: ranges }, source };
  });
  return {
    ...{ key: policyKey('policy', 'shop', name), tier: TIER, order: name, source, egress: [], ingress },
    subject: { namespaces: NAMED, pods: SUBJECTS[number] ?? EVERYTHING },
    isolates: { egress: false, ingress: false },
  };
}

test('whatever workloads share and have of their own, after each change a peer meets at each what the rules there say', (context) => {
  const pods = new Map([...LOCAL, ...PEERS].map((one) => [one.key, one]));
  const property = fc.property(changes, (list) => {
    const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
    compiler.apply(worldEvents({ ...EMPTY_WORLD, pods }));
    const policies = new Map<Policy['key'], Policy>();
    for (const { number, rules: drawn } of list) {
      const value = policy(number, drawn ?? []);
      if (drawn === null) policies.delete(value.key);
      else policies.set(value.key, value);
      compiler.apply([{ kind: 'policy', key: value.key, value: drawn === null ? null : value }]);
      const world = { ...EMPTY_WORLD, pods, policies };
      for (const peer of PEERS) {
        for (const own of LOCAL) {
          const [from, to] = [peer.addresses[0], own.addresses[0]];
          assert.ok(from !== undefined && to !== undefined);
          for (let at = 0; at <= LAST_PORT + 1; at++) {
            const flow: Flow = { from, to, protocol: TCP, port: at };
            assert.deepEqual(judge(compiler.plan, flow).ingress, evaluate(world, flow, { ipBlockPods: true }).ingress);
          }
        }
      }
    }
  });
  holds(context, property, 60);
});
