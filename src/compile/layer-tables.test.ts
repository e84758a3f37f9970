// The table of a peer that many rules match says at each port what the first of them says that covers it.
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
const ADMIN: Tier = { name: 'admin', position: 100, end: 'none' };
const LAST_PORT = 12;

function pod(name: string, node: string, address: string): Pod {
  const found = parseAddress(address);
  assert.ok(found);
  const workload = { kind: 'Pod', namespace: 'shop', name };
  const fixed = { namespace: 'shop', ports: [], hostNetwork: false, finished: false, workload };
  return { ...fixed, key: podKey('shop', name), name, labels: { app: name, tier: 'one' }, node, addresses: [found] };
}

const web = pod('web', 'here', '10.0.0.1');
const peer = pod('peer', 'there', '10.0.0.2');

/** The peer by one of its labels: rules that share it have another atom all the same. */
function by(key: 'app' | 'tier'): LabelSelector {
  return { requirements: [{ op: 'In', key, values: [peer.labels[key] ?? ''] }] };
}

type Drawn = {
  readonly action: 'allow' | 'deny';
  readonly key: 'app' | 'tier';
  readonly ports: readonly (readonly number[])[];
};

const port = fc.integer({ min: 1, max: LAST_PORT });
const range = fc.tuple(port, port).map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
const drawn: fc.Arbitrary<Drawn> = fc.record({
  action: fc.constantFrom('allow', 'deny'),
  key: fc.constantFrom('app', 'tier'),
  ports: fc.oneof(
    { weight: 4, arbitrary: fc.tuple(range) },
    { weight: 1, arbitrary: fc.array(range, { maxLength: 3 }) },
  ),
});

function policy(number: number, rules: readonly Drawn[]): Policy {
  const name = `p${String(number).padStart(3, '0')}`;
  const source = { dialect: 'k', kind: 'Policy', namespace: 'shop', name, path: '', file: null, line: null };
  const ingress = rules.map(({ action, key, ports }, index): Rule => {
    const ranges = ports.map(([first = 0, last = 0]) => ({ kind: 'range', protocol: TCP, first, last }) as const);
    const peers = [{ kind: 'pods', namespaces: NAMED, pods: by(key) } as const];
    const id = `${name}/${index}` as RuleId;
    return { id, action, peers: { kind: 'these', peers }, ports: { kind: 'these', ports: ranges }, source };
  });
  return {
    ...{ key: policyKey('policy', 'shop', name), tier: ADMIN, order: name, source, egress: [], ingress },
    subject: { namespaces: NAMED, pods: EVERYTHING },
    isolates: { egress: false, ingress: false },
  };
}

test('of rules for one peer whose ports overlap in any way, the first that covers a port decides it, and is named', (context) => {
  const property = fc.property(fc.array(fc.array(drawn, { maxLength: 8 }), { maxLength: 5 }), (drawings) => {
    const policies = drawings.map((rules, number) => policy(number, rules));
    const pods = new Map([web, peer].map((one) => [one.key, one]));
    const world = { ...EMPTY_WORLD, pods, policies: new Map(policies.map((one) => [one.key, one])) };
    const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: (one) => one.node === 'here' });
    compiler.apply(worldEvents(world));
    const [from, to] = [peer.addresses[0], web.addresses[0]];
    assert.ok(from !== undefined && to !== undefined);
    for (let number = 0; number <= LAST_PORT + 1; number++) {
      const flow: Flow = { from, to, protocol: TCP, port: number };
      assert.deepEqual(judge(compiler.plan, flow).ingress, evaluate(world, flow, { ipBlockPods: true }).ingress);
    }
  });
  holds(context, property, 300);
});
