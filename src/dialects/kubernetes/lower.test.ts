// NetworkPolicy, edge case by edge case: what absent, empty and null mean (Kubernetes' types.go and defaults.go).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lowerSpec, policyOf, sayPolicy } from '#test/support/say-policy.ts';

const OPEN_EGRESS = 'egress open []';

const MEANINGS: readonly (readonly [string, string, string])[] = [
  ['no spec at all', '', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  ['a null spec', 'spec: null', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  ['an empty spec', 'spec: {}', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  ['a null podSelector', 'spec: {podSelector: null}', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  ['an empty ingress list', 'spec: {ingress: []}', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  ['a null ingress list', 'spec: {ingress: null}', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  ['an empty rule', 'spec: {ingress: [{}]}', `pods *, ingress isolates [anyone on anything], ${OPEN_EGRESS}`],
  ['an empty from', 'spec: {ingress: [{from: []}]}', `pods *, ingress isolates [anyone on anything], ${OPEN_EGRESS}`],
  ['a null from', 'spec: {ingress: [{from: null}]}', `pods *, ingress isolates [anyone on anything], ${OPEN_EGRESS}`],
  ['empty ports', 'spec: {ingress: [{ports: []}]}', `pods *, ingress isolates [anyone on anything], ${OPEN_EGRESS}`],
  ['null ports', 'spec: {ingress: [{ports: null}]}', `pods *, ingress isolates [anyone on anything], ${OPEN_EGRESS}`],
  ['empty policyTypes', 'spec: {policyTypes: [], ingress: []}', `pods *, ingress isolates [], ${OPEN_EGRESS}`],
  [
    'an empty egress list isolates nothing by default',
    'spec: {egress: []}',
    `pods *, ingress isolates [], ${OPEN_EGRESS}`,
  ],
  [
    'an egress rule isolates egress by default',
    'spec: {egress: [{}]}',
    'pods *, ingress isolates [], egress isolates [anyone on anything]',
  ],
  ['Egress alone', 'spec: {policyTypes: [Egress]}', 'pods *, ingress open [], egress isolates []'],
  ['Egress twice', 'spec: {policyTypes: [Egress, Egress]}', 'pods *, ingress open [], egress isolates []'],
  [
    'rules of a direction that is left out are inert',
    'spec: {policyTypes: [Egress], ingress: [{}]}',
    'pods *, ingress open [], egress isolates []',
  ],
  [
    'an empty podSelector peer is the own namespace',
    'spec: {ingress: [{from: [{podSelector: {}}]}]}',
    `pods *, ingress isolates [shop/* on anything], ${OPEN_EGRESS}`,
  ],
  [
    'an empty namespaceSelector peer is every pod',
    'spec: {ingress: [{from: [{namespaceSelector: {}}]}]}',
    `pods *, ingress isolates [ns(*)/* on anything], ${OPEN_EGRESS}`,
  ],
  [
    'a null podSelector beside a namespaceSelector',
    'spec: {ingress: [{from: [{namespaceSelector: {}, podSelector: null}]}]}',
    `pods *, ingress isolates [ns(*)/* on anything], ${OPEN_EGRESS}`,
  ],
  [
    'both selectors are one condition',
    'spec: {ingress: [{from: [{namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {c: d}}}]}]}',
    `pods *, ingress isolates [ns(a In(b))/c In(d) on anything], ${OPEN_EGRESS}`,
  ],
  [
    'two items are two conditions',
    'spec: {ingress: [{from: [{namespaceSelector: {}}, {podSelector: {}}]}]}',
    `pods *, ingress isolates [ns(*)/* | shop/* on anything], ${OPEN_EGRESS}`,
  ],
  [
    'null selector parts',
    'spec: {podSelector: {matchLabels: null, matchExpressions: null}}',
    `pods *, ingress isolates [], ${OPEN_EGRESS}`,
  ],
  [
    'every operator',
    'spec: {podSelector: {matchExpressions: [{key: a, operator: In, values: [b, ""]}, {key: c, operator: NotIn, values: [d]}, {key: e, operator: Exists}, {key: x.y/f, operator: DoesNotExist, values: []}]}}',
    `pods a In(b,)&c NotIn(d)&e Exists&x.y/f DoesNotExist, ingress isolates [], ${OPEN_EGRESS}`,
  ],
  [
    'a port without anything is all of TCP',
    'spec: {ingress: [{ports: [{}]}]}',
    `pods *, ingress isolates [anyone on TCP 0-65535], ${OPEN_EGRESS}`,
  ],
  [
    'a protocol alone',
    'spec: {ingress: [{ports: [{protocol: UDP, port: null}]}]}',
    `pods *, ingress isolates [anyone on UDP 0-65535], ${OPEN_EGRESS}`,
  ],
  [
    'ports of every kind',
    'spec: {ingress: [{ports: [{port: 80}, {port: 80, endPort: 80}, {port: 1, endPort: 65535, protocol: SCTP}, {port: http}, {port: dns, protocol: UDP}]}]}',
    `pods *, ingress isolates [anyone on TCP 80-80 | TCP 80-80 | SCTP 1-65535 | TCP http | UDP dns], ${OPEN_EGRESS}`,
  ],
  [
    'an ipBlock of either family',
    'spec: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: "fd00::/8", except: null}}]}]}',
    'pods *, ingress isolates [], egress isolates [10.0.0.0/8-10.1.0.0/16 | fd00::/8 on anything]',
  ],
  [
    'host bits are masked',
    'spec: {egress: [{to: [{ipBlock: {cidr: 10.1.2.3/8, except: [10.9.9.9/16]}}]}]}',
    'pods *, ingress isolates [], egress isolates [10.0.0.0/8-10.9.0.0/16 on anything]',
  ],
  [
    'leading zeros are decimal, as in Kubernetes',
    'spec: {egress: [{to: [{ipBlock: {cidr: 010.000.0.0/8}}]}]}',
    'pods *, ingress isolates [], egress isolates [10.0.0.0/8 on anything]',
  ],
  [
    'a null rule is an empty one',
    'spec: {ingress: [null]}',
    `pods *, ingress isolates [anyone on anything], ${OPEN_EGRESS}`,
  ],
];

for (const [name, spec, meaning] of MEANINGS) {
  test(`NetworkPolicy means the right thing: ${name}`, () => {
    const { value, diagnostics } = lowerSpec(spec);
    assert.ok(value);
    assert.equal(sayPolicy(value), meaning);
    assert.deepEqual(
      diagnostics.filter(({ severity }) => severity === 'error'),
      [],
    );
  });
}

const WARNINGS: readonly (readonly [string, string, string, string])[] = [
  [
    'host bits',
    'spec: {egress: [{to: [{ipBlock: {cidr: 10.1.2.3/8}}]}]}',
    'np-cidr-host-bits',
    'spec.egress[0].to[0].ipBlock.cidr',
  ],
  [
    'a mapped block',
    'spec: {egress: [{to: [{ipBlock: {cidr: "::ffff:10.0.0.0/104"}}]}]}',
    'np-cidr-mapped',
    'spec.egress[0].to[0].ipBlock.cidr',
  ],
  ['inert rules', 'spec: {policyTypes: [Egress], ingress: [{}]}', 'np-inert-rules', 'spec.ingress'],
  ['a null rule', 'spec: {ingress: [null]}', 'np-null-item', 'spec.ingress[0]'],
];

for (const [name, spec, code, path] of WARNINGS) {
  test(`NetworkPolicy is warned of: ${name}`, () => {
    const found = lowerSpec(spec).diagnostics.map((one) => [one.severity, one.code, one.path]);
    assert.deepEqual(found, [['warning', code, path]]);
  });
}

test('NetworkPolicy rules carry their id, place and file', () => {
  const policy = policyOf('spec:\n  egress:\n    - ports: [{port: 53}]\n    - to:\n        - podSelector: {}\n');
  assert.equal(policy.key, 'NetworkPolicy/shop/web');
  assert.equal(policy.order, 'shop/web');
  assert.deepEqual(
    policy.egress.map(({ id, source }) => [id, source.path, source.file, source.line]),
    [
      ['networkpolicy/shop/web/egress/0', 'spec.egress[0]', 'web.yaml', 6],
      ['networkpolicy/shop/web/egress/1', 'spec.egress[1]', 'web.yaml', 7],
    ],
  );
});
