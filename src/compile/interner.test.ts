// What policies share once they came through the interner: what is equal, and nothing that only looks so.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { DEFAULT_TIER, type Peer, type Policy, type Port, policyKey, type Rule, type RuleId } from '#policy/model.ts';
import type { Requirement } from '#policy/selector.ts';
import { Interner } from './interner.ts';

const SOURCE = { dialect: 'kubernetes', kind: 'NetworkPolicy', namespace: 'shop', name: 'web', file: null, line: null };

function policyWith(rules: readonly Pick<Rule, 'peers' | 'ports'>[]): Policy {
  const ingress = rules.map((rule, index): Rule => {
    return {
      id: `r${index}` as RuleId,
      action: 'allow',
      ...rule,
      source: { ...SOURCE, path: `spec.ingress[${index}]` },
    };
  });
  const subject = { namespaces: { kind: 'named', name: 'shop' }, pods: { requirements: [] } } as const;
  const common = { key: policyKey('networkpolicy', 'shop', 'web'), tier: DEFAULT_TIER, order: 'shop/web', subject };
  const isolates = { egress: false, ingress: true };
  return { ...common, isolates, egress: [], ingress, source: { ...SOURCE, path: 'spec' } };
}

function peers(...list: readonly Peer[]): Rule['peers'] {
  return { kind: 'these', peers: list };
}

function ports(...list: readonly Port[]): Rule['ports'] {
  return { kind: 'these', ports: list };
}

function inNamespace(name: string, ...requirements: readonly Requirement[]): Peer {
  return { kind: 'pods', namespaces: { kind: 'named', name }, pods: { requirements } };
}

function labelled(own: readonly Requirement[], ofPods: readonly Requirement[]): Peer {
  return {
    kind: 'pods',
    namespaces: { kind: 'labelled', selector: { requirements: own } },
    pods: { requirements: ofPods },
  };
}

function block(text: string, ...except: readonly string[]): Peer {
  const read = (one: string) => parseCidr(one)?.cidr ?? assert.fail(one);
  return { kind: 'cidr', cidr: read(text), except: except.map(read) };
}

const APP: Requirement = { op: 'In', key: 'app', values: ['db'] };
const TIER: Requirement = { op: 'Exists', key: 'tier' };

test('a policy says the same once it shares, place by place', () => {
  const policy = policyWith([
    { peers: peers(inNamespace('shop', APP), block('10.0.0.0/8', '10.1.0.0/16')), ports: { kind: 'any' } },
    { peers: { kind: 'any' }, ports: ports({ kind: 'named', protocol: TCP, name: 'http' }) },
    { peers: peers(), ports: ports() },
  ]);
  assert.deepEqual(new Interner().policy(structuredClone(policy)), policy);
});

test('equal peers and ports of two policies are one, until it forgets them', () => {
  const rule = () => ({ peers: peers(inNamespace('shop', APP)), ports: ports(range(TCP, 80, 90)) });
  const interner = new Interner();
  const [first, second] = [rule(), rule()].map((one) => interner.policy(policyWith([one])).ingress[0]);
  assert.equal(first?.ports, second?.ports);
  assert.equal(peerOf(first), peerOf(second));
  interner.clear();
  const third = interner.policy(policyWith([rule()])).ingress[0];
  assert.notEqual(peerOf(third), peerOf(first));
  assert.deepEqual(peerOf(third), peerOf(first));
});

test('whom policies select is one for all that say the same, also of policies whose rules share nothing', () => {
  const interner = new Interner();
  const first = interner.policy(policyWith([{ peers: peers(inNamespace('shop')), ports: ports() }]));
  const second = interner.subject(policyWith([]));
  assert.equal(second.subject.namespaces, first.subject.namespaces);
  assert.equal(second.subject.pods, first.subject.pods);
  const peer = peerOf(first.ingress[0]);
  assert.equal(peer?.kind === 'pods' && peer.pods, first.subject.pods);
  interner.clear();
  const third = interner.subject(policyWith([]));
  assert.notEqual(third.subject.pods, first.subject.pods);
  assert.deepEqual(third, policyWith([]));
});

test('what differs in anything that counts is not shared', () => {
  const different: readonly Peer[] = [
    inNamespace('shop', APP),
    inNamespace('sho', APP),
    inNamespace('shop', { ...APP, op: 'NotIn' }),
    inNamespace('shop', { ...APP, values: ['db', 'db2'] }),
    inNamespace('shop', { ...APP, values: ['d', 'b'] }),
    inNamespace('shop', { op: 'In', key: 'app2:d', values: ['b'] }),
    inNamespace('shop', APP, TIER),
    inNamespace('shop', TIER),
    inNamespace('shop', { ...TIER, op: 'DoesNotExist' }),
    inNamespace('shop'),
    labelled([APP], []),
    labelled([], [APP]),
    labelled([APP], [TIER]),
    labelled([APP, TIER], []),
    labelled([], []),
    block('10.0.0.0/8'),
    block('10.0.0.0/9'),
    block('10.0.0.0/8', '10.1.0.0/16'),
    block('10.0.0.0/8', '10.1.0.0/16', '10.2.0.0/16'),
    block('::/0'),
    block('0.0.0.0/0'),
  ];
  const shared = new Interner().policy(policyWith(different.map((peer) => ({ peers: peers(peer), ports: ports() }))));
  assert.deepEqual(shared.ingress.map(peerOf), different);
  const lists: readonly (readonly Port[])[] = [
    [],
    [range(TCP, 80, 90)],
    [range(UDP, 80, 90)],
    [range(TCP, 80, 91)],
    [range(TCP, 80, 80), range(TCP, 90, 90)],
    [{ kind: 'named', protocol: TCP, name: '80-90' }],
    [{ kind: 'named', protocol: UDP, name: '80-90' }],
    [{ kind: 'named', protocol: TCP, name: '80-90,6 80-90' }],
  ];
  const all = new Interner().policy(policyWith(lists.map((list) => ({ peers: peers(), ports: ports(...list) }))));
  assert.deepEqual(
    all.ingress.map((rule) => rule.ports),
    lists.map((list) => ports(...list)),
  );
});

function range(protocol: typeof TCP | typeof UDP, first: number, last: number): Port {
  return { kind: 'range', protocol, first, last };
}

function peerOf(rule: Rule | undefined): Peer | undefined {
  return rule?.peers.kind === 'these' ? rule.peers.peers[0] : undefined;
}
