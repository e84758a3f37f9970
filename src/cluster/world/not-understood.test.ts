// A NetworkPolicy whose header can't be understood is not left out: it isolates its namespace (invariant 5).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Policy } from '#policy/model.ts';
import { EVERYTHING } from '#policy/selector.ts';
import { buildOf } from '#test/support/worlds.ts';

const SPEC = 'spec: {podSelector: {matchLabels: {app: a}}, ingress: [{}]}';

function policy(metadata: string, head = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy', spec = SPEC): string {
  return `---\n${head}\nmetadata: ${metadata}\n${spec}\n`;
}

function isClosed({ isolates, egress, ingress, subject }: Policy, namespace: string): boolean {
  const whole = subject.namespaces.kind === 'named' && subject.namespaces.name === namespace;
  const everyPod = subject.pods.requirements.length === EVERYTHING.requirements.length;
  return whole && everyPod && isolates.egress && isolates.ingress && egress.length + ingress.length === 0;
}

/** What is wrong, the input, the code, the namespace that is isolated, the name that the policy gets. */
const CLOSED: readonly (readonly [string, string, string, string, RegExp])[] = [
  ['an unsafe name', policy('{name: a+b, namespace: shop}'), 'object-name-unsafe', 'shop', /^not-understood-/],
  ['a name that is too long', policy(`{name: ${'a'.repeat(300)}}`), 'object-name-unsafe', 'default', /^not-under/],
  ['no name', policy('{namespace: shop}'), 'object-header', 'shop', /^not-understood-world-yaml-2$/],
  ['a name that is a number', policy('{name: 7, namespace: shop}'), 'object-header', 'shop', /^not-understood-/],
  ['metadata that is a list', policy('[]'), 'object-header', 'default', /^not-understood-/],
  [
    'a version that is gone',
    policy('{name: p, namespace: shop}', 'apiVersion: networking.k8s.io/v1beta1\nkind: NetworkPolicy'),
    'kind-unknown',
    'shop',
    /^p$/,
  ],
  [
    'a group that is gone, and an unsafe name',
    policy('{name: p/q, namespace: shop}', 'apiVersion: extensions/v1beta1\nkind: NetworkPolicy'),
    'kind-unknown',
    'shop',
    /^not-understood-/,
  ],
  ['no version', policy('{name: p, namespace: shop}', 'kind: NetworkPolicy'), 'object-header', 'shop', /^p$/],
  [
    'no kind in the group of NetworkPolicy',
    policy('{name: p, namespace: shop}', 'apiVersion: networking.k8s.io/v1'),
    'object-header',
    'shop',
    /^p$/,
  ],
  [
    'a misspelt kind',
    policy('{name: p, namespace: shop}', 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolcy'),
    'kind-unknown',
    'shop',
    /^p$/,
  ],
  [
    'the name of another one with other content',
    policy('{name: p, namespace: shop}') + policy('{name: p, namespace: shop}', undefined, 'spec: {podSelector: {}}'),
    'object-duplicate',
    'shop',
    /^p$/,
  ],
  [
    'the name of two others',
    policy('{name: p, namespace: shop}') +
      policy('{name: p, namespace: shop}', undefined, 'spec: {podSelector: {}}') +
      policy('{name: p, namespace: shop}'),
    'object-duplicate',
    'shop',
    /^p$/,
  ],
];

for (const [what, input, code, namespace, name] of CLOSED) {
  test(`a NetworkPolicy with ${what} isolates its namespace both ways, and says so`, () => {
    const { world, diagnostics } = buildOf(input);
    const [only, ...others] = world.policies.values();
    assert.ok(only);
    assert.deepEqual(others, []);
    assert.ok(isClosed(only, namespace), JSON.stringify(only));
    assert.match(only.source.name, name);
    assert.equal(only.source.file, 'world.yaml');
    assert.ok(diagnostics.length > 0 && diagnostics.every((one) => one.code === code && one.severity === 'error'));
    assert.match(diagnostics[0]?.hint ?? '', new RegExp(`the whole namespace ${namespace} is isolated in its place`));
  });
}

/** Documents that are no YAML, and the namespaces that are isolated for them. */
const BROKEN: readonly (readonly [string, string, readonly string[]])[] = [
  ['a key twice', policy('{name: p, namespace: shop}', undefined, `${SPEC}\n${SPEC}`), ['shop']],
  ['a syntax error', policy('{name: p, namespace: "shop"}', undefined, 'spec: {podSelector: ]'), ['shop']],
  ['no namespace', policy('{name: p}', undefined, 'spec: {{ .Values.spec }}'), ['default']],
  ['metadata in lines', policy('\n  name: p\n  namespace: shop # ours', undefined, 'spec: *x'), ['shop']],
  [
    'JSON of two namespaces',
    '{"items": [\n{"kind": "NetworkPolicy", "metadata": {"namespace": "a"}},\n{"metadata": {"namespace": "b"}, x: [}',
    ['a', 'b'],
  ],
  ['no policy in it', '---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec: *x\n', []],
];

for (const [what, input, namespaces] of BROKEN) {
  test(`a document that can't be read, with ${what}, isolates: ${namespaces.join(', ') || 'nothing'}`, () => {
    const { world, diagnostics } = buildOf(input);
    const policies = [...world.policies.values()];
    assert.deepEqual(policies.map(({ source }) => source.namespace).sort(), namespaces);
    assert.ok(policies.every((each) => isClosed(each, each.source.namespace)));
    assert.equal(diagnostics[0]?.severity, 'error');
    for (const each of namespaces)
      assert.match(diagnostics[0]?.hint ?? '', new RegExp(`namespace ${each} is isolated`));
  });
}

test('two NetworkPolicies of one name are closed whichever comes first', () => {
  const [a, b] = [policy('{name: p}'), policy('{name: p}', undefined, 'spec: {podSelector: {}, ingress: []}')];
  const policies = [a + b, b + a].map((input) => [...buildOf(input).world.policies.values()]);
  for (const [only] of policies) assert.ok(only !== undefined && isClosed(only, 'default'));
});

test('a NetworkPolicy that stands twice with the same content keeps it, and is named', () => {
  const { world, diagnostics } = buildOf(policy('{name: p}') + policy('{name: p}'));
  const [only] = world.policies.values();
  assert.equal(only?.ingress.length, 1);
  assert.deepEqual(
    diagnostics.map(({ code }) => code),
    ['object-duplicate'],
  );
});

/** Nothing can be isolated in the place of these. */
const NOWHERE: readonly (readonly [string, string])[] = [
  ['an unsafe namespace', policy('{name: p, namespace: a/b}')],
  ['a namespace that is a number', policy('{name: p, namespace: 7}')],
  [
    'the others in a list that is misspelt',
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nItems:\n- metadata: {name: p}\n',
  ],
  ['neither a name nor a safe namespace', policy('{namespace: ..}')],
];

for (const [what, input] of NOWHERE) {
  test(`a NetworkPolicy with ${what} isolates nothing, and says that loudly`, () => {
    const { world, diagnostics } = buildOf(input);
    assert.equal(world.policies.size, 0);
    assert.equal(diagnostics[0]?.severity, 'error');
    assert.match(diagnostics[0]?.hint ?? '', /until it is corrected, this policy protects nobody/);
  });
}

test("another system's NetworkPolicy, and other kinds, isolate nothing", () => {
  const calico = policy('{name: a+b}', 'apiVersion: projectcalico.org/v3\nkind: NetworkPolicy');
  const pods = '---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: shop}\n';
  assert.equal(buildOf(calico + pods).world.policies.size, 0);
});
