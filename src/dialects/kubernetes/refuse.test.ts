// NetworkPolicy that the API server would refuse: one diagnostic a mistake, and a policy that never widens access.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lowerSpec, sayPolicy } from '#test/support/say-policy.ts';

const OPEN_EGRESS = 'egress open []';
/** Name, spec, code, path, and what the policy means to a lenient reader. */
const NOBODY = `pods *, ingress isolates [nobody on nothing], ${OPEN_EGRESS}`;
const ALL_CLOSED = 'pods *, ingress isolates [], egress isolates []';

const ERRORS: readonly (readonly [string, string, string, string, string])[] = [
  [
    'an unknown field of the spec may be a misspelt direction',
    'spec: {egres: [{}]}',
    'np-unknown-field',
    'spec.egres',
    ALL_CLOSED,
  ],
  [
    'an unknown field of a rule',
    'spec: {ingress: [{form: [], ports: []}]}',
    'np-unknown-field',
    'spec.ingress[0].form',
    NOBODY,
  ],
  ['to in an ingress rule', 'spec: {ingress: [{to: []}]}', 'np-unknown-field', 'spec.ingress[0].to', NOBODY],
  [
    'an unknown field of a peer',
    'spec: {ingress: [{from: [{podSelector: {}, namespace: a}]}]}',
    'np-unknown-field',
    'spec.ingress[0].from[0].namespace',
    NOBODY,
  ],
  [
    'an unknown field of a port',
    'spec: {ingress: [{ports: [{ports: 80}]}]}',
    'np-unknown-field',
    'spec.ingress[0].ports[0].ports',
    NOBODY,
  ],
  [
    'labels written straight into a selector',
    'spec: {ingress: [{from: [{podSelector: {app: web}}]}]}',
    'np-unknown-field',
    'spec.ingress[0].from[0].podSelector.app',
    NOBODY,
  ],
  [
    'an unknown field named like an inherited one',
    'spec: {ingress: [{constructor: 1}]}',
    'np-unknown-field',
    'spec.ingress[0].constructor',
    NOBODY,
  ],
  [
    '__proto__ as a field',
    'spec: {ingress: [{__proto__: {ports: []}}]}',
    'np-unknown-field',
    'spec.ingress[0].__proto__',
    NOBODY,
  ],
  ['an unknown field of the object', 'specs: {}', 'np-unknown-field', 'specs', ALL_CLOSED],
  ['a spec that is a list', 'spec: []', 'np-wrong-type', 'spec', ALL_CLOSED],
  [
    'ingress that is a mapping',
    'spec: {ingress: {}}',
    'np-wrong-type',
    'spec.ingress',
    `pods *, ingress isolates [], ${OPEN_EGRESS}`,
  ],
  ['egress that is a mapping', 'spec: {egress: {}}', 'np-wrong-type', 'spec.egress', ALL_CLOSED],
  ['a rule that is text', 'spec: {ingress: [all]}', 'np-wrong-type', 'spec.ingress[0]', NOBODY],
  [
    'from that is a mapping',
    'spec: {ingress: [{from: {podSelector: {}}}]}',
    'np-wrong-type',
    'spec.ingress[0].from',
    NOBODY,
  ],
  [
    'a selector that is text',
    'spec: {ingress: [{from: [{podSelector: web}]}]}',
    'np-wrong-type',
    'spec.ingress[0].from[0].podSelector',
    NOBODY,
  ],
  [
    'a port that is a boolean',
    'spec: {ingress: [{ports: [{port: yes}]}]}',
    'np-wrong-type',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  ['policyTypes that is text', 'spec: {policyTypes: Ingress}', 'np-wrong-type', 'spec.policyTypes', ALL_CLOSED],
  [
    'a policyType in lower case',
    'spec: {policyTypes: [ingress]}',
    'np-policy-types',
    'spec.policyTypes[0]',
    ALL_CLOSED,
  ],
  [
    'three policyTypes',
    'spec: {policyTypes: [Ingress, Ingress, Ingress]}',
    'np-policy-types',
    'spec.policyTypes',
    `pods *, ingress isolates [], ${OPEN_EGRESS}`,
  ],
  ['an empty peer', 'spec: {ingress: [{from: [{}]}]}', 'np-peer-empty', 'spec.ingress[0].from[0]', NOBODY],
  [
    'a peer of nulls',
    'spec: {ingress: [{from: [{podSelector: null, ipBlock: null}]}]}',
    'np-peer-empty',
    'spec.ingress[0].from[0]',
    NOBODY,
  ],
  [
    'one bad peer closes the rule',
    'spec: {ingress: [{from: [{}, {podSelector: {}}]}]}',
    'np-peer-empty',
    'spec.ingress[0].from[0]',
    NOBODY,
  ],
  [
    'ipBlock beside a selector',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}',
    'np-peer-mixed',
    'spec.ingress[0].from[0]',
    NOBODY,
  ],
  [
    'an ipBlock without cidr',
    'spec: {ingress: [{from: [{ipBlock: {}}]}]}',
    'np-cidr',
    'spec.ingress[0].from[0].ipBlock.cidr',
    NOBODY,
  ],
  [
    'a bare address',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}',
    'np-cidr',
    'spec.ingress[0].from[0].ipBlock.cidr',
    NOBODY,
  ],
  [
    'a prefix that is too long',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}',
    'np-cidr',
    'spec.ingress[0].from[0].ipBlock.cidr',
    NOBODY,
  ],
  [
    'a cidr that is a number',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10}}]}]}',
    'np-cidr',
    'spec.ingress[0].from[0].ipBlock.cidr',
    NOBODY,
  ],
  [
    'an exception outside',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}',
    'np-except',
    'spec.ingress[0].from[0].ipBlock.except[0]',
    NOBODY,
  ],
  [
    'an exception as large as the block',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}',
    'np-except',
    'spec.ingress[0].from[0].ipBlock.except[0]',
    NOBODY,
  ],
  [
    'an exception of the other family',
    'spec: {ingress: [{from: [{ipBlock: {cidr: "::/0", except: [10.0.0.0/8]}}]}]}',
    'np-except',
    'spec.ingress[0].from[0].ipBlock.except[0]',
    NOBODY,
  ],
  [
    'an exception that is no list',
    'spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: 10.1.0.0/16}}]}]}',
    'np-wrong-type',
    'spec.ingress[0].from[0].ipBlock.except',
    NOBODY,
  ],
  [
    'a protocol in lower case',
    'spec: {ingress: [{ports: [{protocol: tcp}]}]}',
    'np-protocol',
    'spec.ingress[0].ports[0].protocol',
    NOBODY,
  ],
  [
    'a protocol of its own',
    'spec: {ingress: [{ports: [{protocol: ICMP}]}]}',
    'np-protocol',
    'spec.ingress[0].ports[0].protocol',
    NOBODY,
  ],
  ['port 0', 'spec: {ingress: [{ports: [{port: 0}]}]}', 'np-port-range', 'spec.ingress[0].ports[0].port', NOBODY],
  [
    'port 65536',
    'spec: {ingress: [{ports: [{port: 65536}]}]}',
    'np-port-range',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  [
    'half a port',
    'spec: {ingress: [{ports: [{port: 80.5}]}]}',
    'np-port-range',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  [
    'an endPort out of range',
    'spec: {ingress: [{ports: [{port: 80, endPort: 65536}]}]}',
    'np-port-range',
    'spec.ingress[0].ports[0].endPort',
    NOBODY,
  ],
  [
    'endPort below port',
    'spec: {ingress: [{ports: [{port: 80, endPort: 79}]}]}',
    'np-end-port',
    'spec.ingress[0].ports[0].endPort',
    NOBODY,
  ],
  [
    'endPort without port',
    'spec: {ingress: [{ports: [{endPort: 79}]}]}',
    'np-end-port',
    'spec.ingress[0].ports[0].endPort',
    NOBODY,
  ],
  [
    'endPort beside a name',
    'spec: {ingress: [{ports: [{port: http, endPort: 79}]}]}',
    'np-end-port',
    'spec.ingress[0].ports[0].endPort',
    NOBODY,
  ],
  [
    'endPort that is text',
    'spec: {ingress: [{ports: [{port: 80, endPort: "90"}]}]}',
    'np-wrong-type',
    'spec.ingress[0].ports[0].endPort',
    NOBODY,
  ],
  [
    'a number in quotes',
    'spec: {ingress: [{ports: [{port: "80"}]}]}',
    'np-port-name',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  [
    'a port name in capitals',
    'spec: {ingress: [{ports: [{port: HTTP}]}]}',
    'np-port-name',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  [
    'a port name that is too long',
    'spec: {ingress: [{ports: [{port: abcdefghijklmnop}]}]}',
    'np-port-name',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  [
    'a port name with two hyphens',
    'spec: {ingress: [{ports: [{port: a--b}]}]}',
    'np-port-name',
    'spec.ingress[0].ports[0].port',
    NOBODY,
  ],
  [
    'an unknown operator',
    'spec: {ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Gt, values: ["1"]}]}}]}]}',
    'np-selector-operator',
    'spec.ingress[0].from[0].podSelector.matchExpressions[0].operator',
    NOBODY,
  ],
  [
    'no operator',
    'spec: {ingress: [{from: [{podSelector: {matchExpressions: [{key: a}]}}]}]}',
    'np-selector-operator',
    'spec.ingress[0].from[0].podSelector.matchExpressions[0].operator',
    NOBODY,
  ],
  [
    'In without values',
    'spec: {ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}]}',
    'np-selector-values',
    'spec.ingress[0].from[0].podSelector.matchExpressions[0]',
    NOBODY,
  ],
  [
    'Exists with values',
    'spec: {ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}]}',
    'np-selector-values',
    'spec.ingress[0].from[0].podSelector.matchExpressions[0]',
    NOBODY,
  ],
  [
    'an expression without key',
    'spec: {ingress: [{from: [{podSelector: {matchExpressions: [{operator: Exists}]}}]}]}',
    'np-wrong-type',
    'spec.ingress[0].from[0].podSelector.matchExpressions[0].key',
    NOBODY,
  ],
  [
    'a bad label key',
    'spec: {ingress: [{from: [{podSelector: {matchLabels: {"a b": c}}}]}]}',
    'np-label-key',
    'spec.ingress[0].from[0].podSelector.matchLabels["a b"]',
    NOBODY,
  ],
  [
    'a bad label prefix',
    'spec: {ingress: [{from: [{podSelector: {matchLabels: {"A_/b": c}}}]}]}',
    'np-label-key',
    'spec.ingress[0].from[0].podSelector.matchLabels["A_/b"]',
    NOBODY,
  ],
  [
    'a label value that is a number',
    'spec: {ingress: [{from: [{podSelector: {matchLabels: {a: 1}}}]}]}',
    'np-label-value',
    'spec.ingress[0].from[0].podSelector.matchLabels.a',
    NOBODY,
  ],
  [
    'a label value that YAML reads as a boolean',
    'spec: {ingress: [{from: [{podSelector: {matchLabels: {a: on}}}]}]}',
    'np-label-value',
    'spec.ingress[0].from[0].podSelector.matchLabels.a',
    NOBODY,
  ],
  [
    'a bad label value',
    'spec: {ingress: [{from: [{podSelector: {matchLabels: {a: "b c"}}}]}]}',
    'np-label-value',
    'spec.ingress[0].from[0].podSelector.matchLabels.a',
    NOBODY,
  ],
  [
    'a bad value in an expression',
    'spec: {ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [-x]}]}}]}]}',
    'np-label-value',
    'spec.ingress[0].from[0].podSelector.matchExpressions[0].values[0]',
    NOBODY,
  ],
  [
    'a subject that can not be read isolates its namespace, and allows nobody',
    'spec: {podSelector: {matchLabels: {a: 1}}, ingress: [{}]}',
    'np-label-value',
    'spec.podSelector.matchLabels.a',
    NOBODY,
  ],
];

for (const [name, spec, code, path, meaning] of ERRORS) {
  test(`NetworkPolicy is refused, and never widens: ${name}`, () => {
    const { value, diagnostics } = lowerSpec(spec);
    const errors = diagnostics.filter(({ severity }) => severity === 'error');
    assert.deepEqual(
      errors.map((one) => [one.code, one.path]),
      [[code, path]],
    );
    for (const one of errors) {
      assert.equal(one.object, 'NetworkPolicy shop/web');
      assert.equal(one.file, 'web.yaml');
      assert.equal(one.line, 4);
      assert.ok(one.message !== '' && one.hint !== '');
    }
    assert.ok(value);
    assert.equal(sayPolicy(value), meaning);
  });
}

test('NetworkPolicy names every mistake at once, each on its line', () => {
  const { diagnostics } = lowerSpec(
    [
      'spec:',
      '  podSelector: {matchLabels: {app: 1}}',
      '  policyTypes: [Ingres]',
      '  ingress:',
      '    - from:',
      '        - ipBlock:',
      '            cidr: 10.0.0.0',
      '      ports:',
      '        - port: "80"',
      '        - protocol: tcp',
      '          port: 0',
    ].join('\n'),
  );
  const found = diagnostics.map(({ code, line }) => `${code} ${line}`);
  assert.deepEqual(found.sort(), [
    'np-cidr 10',
    'np-label-value 5',
    'np-policy-types 6',
    'np-port-name 12',
    'np-port-range 14',
    'np-protocol 13',
  ]);
});

test('NetworkPolicy suggests the field that was meant', () => {
  const hints = lowerSpec('spec: {ingres: []}').diagnostics.map(({ hint }) => hint);
  assert.deepEqual(hints, ['Did you mean "ingress"?']);
});

/** A policy for the egress of app=db to 100 times so many blocks. */
function blocks(hundreds: number): string {
  const peers = Array.from({ length: hundreds }, (_, index) => ({
    ipBlock: { cidr: `10.${index >> 8}.${index & 255}.0/24` },
  }));
  const to = Array.from({ length: 100 }, () => peers).flat();
  return JSON.stringify({ podSelector: { matchLabels: { app: 'db' } }, policyTypes: ['Egress'], egress: [{ to }] });
}

function rules(count: number): string {
  const egress = Array.from({ length: count }, () => ({ ports: [{ port: 80 }] }));
  return JSON.stringify({ podSelector: { matchLabels: { app: 'db' } }, policyTypes: ['Egress'], egress });
}

const LARGE: readonly (readonly [string, string, string, string, RegExp])[] = [
  ['of 4 MiB', blocks(1000), blocks(1200), 'spec', new RegExp(`${blocks(1200).length} characters .* 4194304`)],
  ['of 5 000 rules', rules(5000), rules(5001), 'spec.egress', /5001 rules, and may be 5000/],
];
for (const [what, fits, tooLarge, path, message] of LARGE) {
  test(`NetworkPolicy ${what} is read; a larger one isolates its subject in the directions that it declares`, () => {
    const { value, diagnostics } = lowerSpec(`spec: ${tooLarge}`);
    assert.ok(value);
    assert.deepEqual(
      diagnostics.map((one) => [one.code, one.severity, one.path, one.file, one.line]),
      [['np-too-large', 'error', path, 'web.yaml', 4]],
    );
    assert.match(diagnostics[0]?.message ?? '', message);
    assert.equal(sayPolicy(value), 'pods app In(db), ingress open [], egress isolates []');
    assert.deepEqual(lowerSpec(`spec: ${fits}`).diagnostics, []);
  });
}
