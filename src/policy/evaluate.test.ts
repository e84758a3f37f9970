// The interpreter against worlds small enough to judge by eye. (The Kubernetes e2e cases are in test/.)
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ICMP, protocolNumber, TCP } from '#net/protocol.ts';
import { addressOf, worldOf } from '#test/support/worlds.ts';
import { evaluate } from './evaluate.ts';
import {
  type Action,
  DEFAULT_TIER,
  defaultDenyId,
  type Policy,
  policyKey,
  type Rule,
  type RuleId,
  type Tier,
} from './model.ts';
import { EVERYTHING } from './selector.ts';
import type { Flow, LegVerdict } from './verdict.ts';
import { STANDARD_SEMANTICS, type World } from './world.ts';

const WORLD = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.0.0/24, "fd00:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: InternalIP, address: "fd00:9::1"}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.2.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  nodeName: n1
  containers:
    - ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]
    - ports: [{name: http, containerPort: 8081}]
  initContainers:
    - restartPolicy: Always
      ports: [{name: http, containerPort: 8082}]
    - ports: [{name: http, containerPort: 8083}]
status: {podIPs: [{ip: 10.1.0.10}, {ip: "fd00:1::10"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n2, containers: [{ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 10.2.0.10}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: elsewhere, labels: {app: web}}
spec: {nodeName: n2}
status: {podIPs: [{ip: 10.2.0.20}, {ip: "fd00:2::20"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: web}}
spec: {nodeName: n2, hostNetwork: true}
status: {podIP: 192.168.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop, labels: {app: web}}
spec: {nodeName: n2}
status: {podIP: 10.2.0.30, phase: Succeeded}
---
apiVersion: v1
kind: Pod
metadata: {name: leaving, namespace: shop, labels: {app: web}, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {nodeName: n2}
status: {podIP: 10.2.0.40, phase: Running}
`;

/** The world with one NetworkPolicy `shop/p`. */
function worldWith(spec: string): World {
  return worldOf(
    `${WORLD}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: ${spec}\n`,
  );
}

/** `10.1.0.10 10.2.0.10 TCP/80`. */
function flowOf(text: string): Flow {
  const [from = '', to = '', what = ''] = text.split(' ');
  const [protocol = '', port = ''] = what.split('/');
  return {
    from: addressOf(from),
    to: addressOf(to),
    protocol: protocolNumber(protocol) ?? Number(protocol),
    port: Number(port),
  };
}

/** `allow default-deny/…`: the verdict, and each leg's reason with its rule. */
function say({ verdict, reason, rule }: LegVerdict): string {
  return [verdict, reason, ...(rule === null ? [] : [rule])].join(' ');
}

const DENY_IN = 'deny default-deny default-deny/default/ingress/NetworkPolicy/shop/p';
const DENY_OUT = 'deny default-deny default-deny/default/egress/NetworkPolicy/shop/p';
const UNKNOWN_IN = 'deny peer-unknown default-deny/default/ingress/NetworkPolicy/shop/p';
const UNKNOWN_OUT = 'deny peer-unknown default-deny/default/egress/NetworkPolicy/shop/p';
const ALLOW_IN = 'allow rule networkpolicy/shop/p/ingress/0';
const ALLOW_OUT = 'allow rule networkpolicy/shop/p/egress/0';

/** Name, spec, flow, egress leg, ingress leg. */
const LEGS: readonly (readonly [string, string, string, string, string])[] = [
  [
    'a pod that nothing isolates is open',
    '{podSelector: {matchLabels: {app: none}}}',
    '10.2.0.20 10.1.0.10 TCP/80',
    'allow open',
    'allow open',
  ],
  ['isolation is per direction', '{}', '10.1.0.10 10.2.0.20 TCP/80', 'allow open', 'allow open'],
  ['a policy reaches its own namespace only', '{}', '10.1.0.10 10.2.0.20 TCP/80', 'allow open', 'allow open'],
  ['a deny names the policies that isolate', '{}', '10.2.0.20 10.1.0.10 TCP/80', 'allow open', DENY_IN],
  ['both ends are judged', '{policyTypes: [Ingress, Egress]}', '10.1.0.10 10.2.0.10 TCP/80', DENY_OUT, DENY_IN],
  [
    'the own namespace only',
    '{ingress: [{from: [{podSelector: {}}]}]}',
    '10.2.0.20 10.1.0.10 TCP/80',
    'allow open',
    DENY_IN,
  ],
  [
    'a pod of the own namespace',
    '{ingress: [{from: [{podSelector: {}}]}]}',
    '10.2.0.10 10.1.0.10 TCP/80',
    'allow open',
    ALLOW_IN,
  ],
  [
    'an implied namespace has its name label',
    '{ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: elsewhere}}}]}]}',
    '10.2.0.20 10.1.0.10 TCP/80',
    'allow open',
    ALLOW_IN,
  ],
  [
    'a declared namespace has it too',
    '{ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}]}',
    '10.2.0.10 10.1.0.10 TCP/80',
    'allow open',
    ALLOW_IN,
  ],
  [
    'every pod of the cluster is no address outside',
    '{ingress: [{from: [{namespaceSelector: {}}]}]}',
    '1.1.1.1 10.1.0.10 TCP/80',
    'allow not-endpoint',
    DENY_IN,
  ],
  ['anyone is also outside', '{ingress: [{}]}', '1.1.1.1 10.1.0.10 TCP/80', 'allow not-endpoint', ALLOW_IN],
  [
    'NotIn matches an absent label',
    '{ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [shop]}]}}]}]}',
    '10.2.0.20 10.1.0.10 TCP/80',
    'allow open',
    ALLOW_IN,
  ],
  [
    'a block holds pod addresses',
    '{egress: [{to: [{ipBlock: {cidr: 10.2.0.0/16}}]}]}',
    '10.1.0.10 10.2.0.20 TCP/80',
    ALLOW_OUT,
    'allow open',
  ],
  [
    'an exception is a hole',
    '{egress: [{to: [{ipBlock: {cidr: 10.2.0.0/16, except: [10.2.0.20/32]}}]}]}',
    '10.1.0.10 10.2.0.20 TCP/80',
    DENY_OUT,
    'allow open',
  ],
  [
    'an exception of one item is no deny of another',
    '{egress: [{to: [{ipBlock: {cidr: 10.2.0.0/16, except: [10.2.0.20/32]}}, {namespaceSelector: {}}]}]}',
    '10.1.0.10 10.2.0.20 TCP/80',
    ALLOW_OUT,
    'allow open',
  ],
  [
    'every IPv4 address is no IPv6 address',
    '{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}',
    'fd00:1::10 fd00:2::20 TCP/80',
    DENY_OUT,
    'allow open',
  ],
  [
    'every IPv6 address',
    '{egress: [{to: [{ipBlock: {cidr: "::/0"}}]}]}',
    'fd00:1::10 fd00:2::20 TCP/80',
    ALLOW_OUT,
    'allow open',
  ],
  [
    'selectors hold for every address of a pod',
    '{egress: [{to: [{namespaceSelector: {}}]}]}',
    'fd00:1::10 fd00:2::20 TCP/80',
    ALLOW_OUT,
    'allow open',
  ],
  ['a port', '{ingress: [{ports: [{port: 80}]}]}', '10.2.0.20 10.1.0.10 TCP/80', 'allow open', ALLOW_IN],
  ['another port', '{ingress: [{ports: [{port: 80}]}]}', '10.2.0.20 10.1.0.10 TCP/81', 'allow open', DENY_IN],
  ['another protocol', '{ingress: [{ports: [{port: 80}]}]}', '10.2.0.20 10.1.0.10 UDP/80', 'allow open', DENY_IN],
  [
    'SCTP is not TCP',
    '{ingress: [{ports: [{port: 80, protocol: SCTP}]}]}',
    '10.2.0.20 10.1.0.10 TCP/80',
    'allow open',
    DENY_IN,
  ],
  [
    'the last port of a range',
    '{ingress: [{ports: [{port: 80, endPort: 90}]}]}',
    '10.2.0.20 10.1.0.10 TCP/90',
    'allow open',
    ALLOW_IN,
  ],
  [
    'one past a range',
    '{ingress: [{ports: [{port: 80, endPort: 90}]}]}',
    '10.2.0.20 10.1.0.10 TCP/91',
    'allow open',
    DENY_IN,
  ],
  [
    'ICMP needs a rule without ports',
    '{ingress: [{ports: [{}]}]}',
    '10.2.0.20 10.1.0.10 ICMP/2048',
    'allow open',
    DENY_IN,
  ],
  ['ICMP by a rule without ports', '{ingress: [{}]}', '10.2.0.20 10.1.0.10 ICMP/2048', 'allow open', ALLOW_IN],
  [
    'any protocol number by a rule without ports',
    '{ingress: [{}]}',
    '10.2.0.20 10.1.0.10 47/0',
    'allow open',
    ALLOW_IN,
  ],
  [
    'a named port of the subject',
    '{ingress: [{ports: [{port: http}]}]}',
    '10.2.0.20 10.1.0.10 TCP/8080',
    'allow open',
    ALLOW_IN,
  ],
  [
    'the same name in another container',
    '{ingress: [{ports: [{port: http}]}]}',
    '10.2.0.20 10.1.0.10 TCP/8081',
    'allow open',
    ALLOW_IN,
  ],
  [
    'the same name in a sidecar',
    '{ingress: [{ports: [{port: http}]}]}',
    '10.2.0.20 10.1.0.10 TCP/8082',
    'allow open',
    ALLOW_IN,
  ],
  [
    'an init container that ends has no ports',
    '{ingress: [{ports: [{port: http}]}]}',
    '10.2.0.20 10.1.0.10 TCP/8083',
    'allow open',
    DENY_IN,
  ],
  [
    'a named port is of one protocol',
    '{ingress: [{ports: [{port: dns}]}]}',
    '10.2.0.20 10.1.0.10 TCP/53',
    'allow open',
    DENY_IN,
  ],
  [
    'a named port of the peer, on egress',
    '{egress: [{ports: [{port: http}]}], policyTypes: [Egress]}',
    '10.1.0.10 10.2.0.10 TCP/80',
    ALLOW_OUT,
    'allow open',
  ],
  [
    "a named port is never the source's",
    '{egress: [{ports: [{port: http}]}], policyTypes: [Egress]}',
    '10.1.0.10 10.2.0.10 TCP/8080',
    DENY_OUT,
    'allow open',
  ],
  [
    'nothing outside has named ports',
    '{egress: [{ports: [{port: http}]}]}',
    '10.1.0.10 1.1.1.1 TCP/80',
    DENY_OUT,
    'allow not-endpoint',
  ],
  ['a pod to itself', '{policyTypes: [Ingress, Egress]}', '10.1.0.10 10.1.0.10 TCP/80', 'allow self', 'allow self'],
  ['the own node comes in', '{}', '192.168.0.1 10.1.0.10 TCP/80', 'allow not-endpoint', 'allow own-node'],
  ["the own node's other address", '{}', 'fd00:9::1 fd00:1::10 TCP/80', 'allow not-endpoint', 'allow own-node'],
  ['another node does not', '{}', '192.168.0.2 10.1.0.10 TCP/80', 'allow not-endpoint', DENY_IN],
  [
    'to the own node is judged',
    '{policyTypes: [Egress]}',
    '10.1.0.10 192.168.0.1 TCP/80',
    DENY_OUT,
    'allow not-endpoint',
  ],
  [
    'hostNetwork pods are never selected',
    '{ingress: [{from: [{podSelector: {}}]}]}',
    '192.168.0.2 10.1.0.10 TCP/80',
    'allow not-endpoint',
    DENY_IN,
  ],
  [
    'hostNetwork pods are in blocks, as nodes',
    '{ingress: [{from: [{ipBlock: {cidr: 192.168.0.0/24}}]}]}',
    '192.168.0.2 10.1.0.10 TCP/80',
    'allow not-endpoint',
    ALLOW_IN,
  ],
  [
    'hostNetwork pods are no subjects',
    '{policyTypes: [Ingress, Egress]}',
    '10.2.0.20 192.168.0.2 TCP/80',
    'allow open',
    'allow not-endpoint',
  ],
  [
    'a finished pod is an unknown address',
    '{ingress: [{from: [{podSelector: {}}]}]}',
    '10.2.0.30 10.1.0.10 TCP/80',
    'allow not-endpoint',
    UNKNOWN_IN,
  ],
  [
    'a pod that is being deleted is still a peer',
    '{ingress: [{from: [{podSelector: {}}]}]}',
    '10.2.0.40 10.1.0.10 TCP/80',
    'allow open',
    ALLOW_IN,
  ],
  ['a pod that is being deleted is still a subject', '{}', '10.2.0.20 10.2.0.40 TCP/80', 'allow open', DENY_IN],
  [
    'an unknown address is in no selector',
    '{egress: [{to: [{namespaceSelector: {}}]}]}',
    '10.1.0.10 10.2.0.99 TCP/80',
    UNKNOWN_OUT,
    'allow not-endpoint',
  ],
  [
    'an unknown address is in blocks',
    '{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}',
    '10.1.0.10 10.2.0.99 TCP/80',
    ALLOW_OUT,
    'allow not-endpoint',
  ],
  ['an unknown address is anyone', '{egress: [{}]}', '10.1.0.10 10.2.0.99 TCP/80', ALLOW_OUT, 'allow not-endpoint'],
];

for (const [name, spec, flow, egress, ingress] of LEGS) {
  test(`evaluate: ${name}`, () => {
    const found = evaluate(worldWith(spec), flowOf(flow), STANDARD_SEMANTICS);
    assert.deepEqual([say(found.egress), say(found.ingress)], [egress, ingress]);
    const denying = egress.startsWith('deny') ? 'egress' : ingress.startsWith('deny') ? 'ingress' : null;
    assert.equal(found.decidedBy, denying);
    assert.equal(found.verdict, denying === null ? 'allow' : 'deny');
  });
}

/** Name, flow, egress leg when blocks leave pods out. */
const WITHOUT_PODS: readonly (readonly [string, string, string])[] = [
  ['a pod', '10.1.0.10 10.2.0.20 TCP/80', DENY_OUT],
  ['an unknown address', '10.1.0.10 10.2.0.99 TCP/80', UNKNOWN_OUT],
  ['a node', '10.1.0.10 192.168.0.2 TCP/80', ALLOW_OUT],
  ['an address outside', '10.1.0.10 10.9.9.9 TCP/80', ALLOW_OUT],
];

for (const [name, flow, egress] of WITHOUT_PODS) {
  test(`evaluate: with blocks that leave pods out, ${name}`, () => {
    const world = worldWith('{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}');
    assert.equal(say(evaluate(world, flowOf(flow), { ipBlockPods: false }).egress), egress);
  });
}

test('evaluate: allows of several policies are a union, and the first by name is reported', () => {
  const policy = (name: string, rules: string): string =>
    `---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {ingress: ${rules}}\n`;
  const world = worldOf(
    WORLD + policy('c', '[{}]') + policy('a', '[{ports: [{port: 1}]}, {ports: [{port: 80}]}]') + policy('b', '[{}]'),
  );
  const leg = (port: number): string =>
    say(evaluate(world, flowOf(`10.2.0.20 10.1.0.10 TCP/${port}`), STANDARD_SEMANTICS).ingress);
  assert.equal(leg(80), 'allow rule networkpolicy/shop/a/ingress/1');
  assert.equal(leg(81), 'allow rule networkpolicy/shop/b/ingress/0');
});

test('evaluate: a default deny names every policy that isolates, in order', () => {
  const policy = (name: string, types: string): string =>
    `---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {policyTypes: [${types}]}\n`;
  const world = worldOf(WORLD + policy('b', 'Ingress') + policy('a', 'Ingress, Egress') + policy('c', 'Egress'));
  const { ingress } = evaluate(world, flowOf('10.2.0.20 10.1.0.10 TCP/80'), STANDARD_SEMANTICS);
  assert.equal(ingress.rule, 'default-deny/default/ingress/NetworkPolicy/shop/a+NetworkPolicy/shop/b');
});

test('evaluate: a default deny of thousands of policies names the first eight, and how many more there are', () => {
  const many = Array.from({ length: 3000 }, (_, index) => ({
    key: policyKey('NetworkPolicy', 'shop', `p${1000 + index}`),
  }));
  const id = defaultDenyId(DEFAULT_TIER, 'ingress', many);
  assert.ok(id.startsWith('default-deny/default/ingress/NetworkPolicy/shop/p1000+'));
  assert.ok(id.endsWith('/p1007+2992-more'));
});

const ADMIN: Tier = { name: 'admin', position: 1000, end: 'none' };
const BASELINE: Tier = { name: 'baseline', position: 10_000_000, end: 'none' };

/** A policy about every pod of `shop`, with rules for ingress. */
function policyIn(tier: Tier, name: string, rules: readonly Partial<Rule>[]): Policy {
  const source = { dialect: 'test', kind: 'Test', namespace: '', name, path: '', file: null, line: null };
  return {
    key: policyKey('Test', '', name),
    tier,
    order: name,
    subject: { namespaces: { kind: 'named', name: 'shop' }, pods: EVERYTHING },
    isolates: { egress: false, ingress: tier.end === 'deny' },
    egress: [],
    ingress: rules.map((rule, index) => ({
      id: `${name}/${index}` as RuleId,
      action: 'allow',
      peers: { kind: 'any' },
      ports: { kind: 'any' },
      source,
      ...rule,
    })),
    source,
  };
}

const TIERS: readonly (readonly [string, readonly Policy[], string])[] = [
  ['the first match decides', [policyIn(ADMIN, 'a', [{ action: 'deny' }, { action: 'allow' }])], 'deny rule a/0'],
  ['reject is its own verdict', [policyIn(ADMIN, 'a', [{ action: 'reject' }])], 'reject rule a/0'],
  [
    'order inside a tier is by its key',
    [policyIn(ADMIN, 'b', [{ action: 'deny' }]), policyIn(ADMIN, 'a', [{}])],
    'allow rule a/0',
  ],
  [
    'a lower tier comes first',
    [policyIn(DEFAULT_TIER, 'd', [{}]), policyIn(ADMIN, 'z', [{ action: 'deny' }])],
    'deny rule z/0',
  ],
  [
    'pass leaves the rest of its tier',
    [policyIn(ADMIN, 'a', [{ action: 'pass' }, { action: 'deny' }]), policyIn(ADMIN, 'b', [{ action: 'deny' }])],
    'allow open',
  ],
  [
    'pass leads to the next tier',
    [policyIn(ADMIN, 'a', [{ action: 'pass' }]), policyIn(DEFAULT_TIER, 'd', [])],
    'deny default-deny default-deny/default/ingress/Test//d',
  ],
  [
    'a tier without an end falls through',
    [
      policyIn(ADMIN, 'a', [{ peers: { kind: 'these', peers: [] }, action: 'deny' }]),
      policyIn(BASELINE, 'z', [{ action: 'deny' }]),
    ],
    'deny rule z/0',
  ],
  [
    'an isolating tier ends the way',
    [policyIn(DEFAULT_TIER, 'd', []), policyIn(BASELINE, 'z', [{}])],
    'deny default-deny default-deny/default/ingress/Test//d',
  ],
  [
    'no port at all matches nothing',
    [policyIn(ADMIN, 'a', [{ ports: { kind: 'these', ports: [] }, action: 'deny' }])],
    'allow open',
  ],
];

for (const [name, policies, ingress] of TIERS) {
  test(`evaluate, tiers: ${name}`, () => {
    const world = { ...worldOf(WORLD), policies: new Map(policies.map((policy) => [policy.key, policy])) };
    const flow = { from: addressOf('10.2.0.20'), to: addressOf('10.1.0.10'), protocol: TCP, port: 80 };
    assert.equal(say(evaluate(world, flow, STANDARD_SEMANTICS).ingress), ingress);
  });
}

test('evaluate, tiers: deny and pass rules about some pod close an unknown address, allow rules do not open it', () => {
  const pods = {
    kind: 'these',
    peers: [{ kind: 'pods', namespaces: { kind: 'named', name: 'x' }, pods: EVERYTHING }],
  } as const;
  const legs = (['deny', 'pass', 'allow'] satisfies Action[]).map((action) => {
    const policy = policyIn(ADMIN, 'a', [{ action, peers: pods }]);
    const world = { ...worldOf(WORLD), policies: new Map([[policy.key, policy]]) };
    const flow = { from: addressOf('10.2.0.99'), to: addressOf('10.1.0.10'), protocol: ICMP, port: 2048 };
    return say(evaluate(world, flow, STANDARD_SEMANTICS).ingress);
  });
  assert.deepEqual(legs, ['deny peer-unknown a/0', 'deny peer-unknown a/0', 'allow open']);
});
