// A tier's denial becomes the cluster's and the namespace's own again, step by step: at no step is an audited pod's peer
// without the verdict of before or after.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from '#datapath/reference/verdict.ts';
import { parseAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP } from '#net/protocol.ts';
import { DEFAULT_TIER, type Policy, policyKey, type Rule, type RuleId } from '#policy/model.ts';
import { EVERYTHING } from '#policy/selector.ts';
import { podKey, type WorldEvent } from '#policy/world.ts';
import { applyStep, emptyPlan } from './apply.ts';
import { Compiler } from './compiler.ts';

const [POD, PEER] = ['10.0.2.1', '203.0.113.9'].map(parseAddress);
const BLOCK = parseCidr('203.0.113.0/24');
assert.ok(POD && PEER && BLOCK);
const FLOW = { from: PEER, to: POD, protocol: TCP, port: 80 };
const { cidr } = BLOCK;

const WORLD: readonly WorldEvent[] = [
  { kind: 'namespace', name: 'shop', value: { name: 'shop', labels: {}, mode: 'audit' } },
  {
    kind: 'pod',
    key: podKey('shop', 'web'),
    value: {
      key: podKey('shop', 'web'),
      namespace: 'shop',
      name: 'web',
      labels: {},
      node: 'n1',
      addresses: [POD],
      ports: [],
      hostNetwork: false,
      finished: false,
      workload: { kind: 'Pod', namespace: 'shop', name: 'web' },
    },
  },
];

/** Isolates the pod; the cluster's has a rule for the peer. */
function isolating(namespace: 'shop' | '', action: 'allow' | 'deny'): Policy {
  const source = { dialect: 'test', kind: 'Policy', namespace, name: 'p', path: 'spec', file: 'p.yaml', line: 1 };
  const rule: Rule = {
    id: `${namespace}/p/0` as RuleId,
    action,
    peers: { kind: 'these', peers: [{ kind: 'cidr', cidr, except: [] }] },
    ports: { kind: 'any' },
    source,
  };
  return {
    key: policyKey(source.kind, namespace, source.name),
    tier: DEFAULT_TIER,
    order: namespace === '' ? 'a' : 'b',
    subject: { namespaces: { kind: 'labelled', selector: EVERYTHING }, pods: EVERYTHING },
    isolates: { egress: false, ingress: true },
    egress: [],
    ingress: namespace === '' ? [rule] : [],
    source,
  };
}

const event = (policy: Policy, what: 'comes' | 'goes'): WorldEvent => {
  return { kind: 'policy', key: policy.key, value: what === 'comes' ? policy : null };
};

for (const action of ['allow', 'deny'] as const) {
  const inForce = action === 'allow' ? 'allow' : 'deny';
  test(`a policy of the cluster that isolates an audited pod, and says ${action} to a peer, comes and goes`, () => {
    const compiler = new Compiler({ semantics: { ipBlockPods: false }, isLocal: () => true });
    const [own, cluster] = [isolating('shop', 'allow'), isolating('', action)];
    const plan = emptyPlan();
    for (const step of compiler.apply([...WORLD, event(own, 'comes')])) applyStep(plan, step);
    const pass = (verdict: string): void => assert.equal(judge(compiler.plan, FLOW).ingress.verdict, verdict);
    pass('allow');
    for (const [what, before, after] of [
      ['comes', 'allow', inForce],
      ['goes', inForce, 'allow'],
    ] as const) {
      const steps = compiler.apply([event(cluster, what)]);
      pass(after);
      for (const step of steps) {
        applyStep(plan, step);
        const now: string = judge(plan, FLOW).ingress.verdict;
        assert.ok(now === before || now === after, `${what}: ${now} after ${JSON.stringify(step)}`);
      }
    }
  });
}
