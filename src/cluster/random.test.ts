// Reading by chance: what any value written as YAML or JSON comes back as, and texts that somebody's editor broke.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dump } from 'js-yaml';
import { parseDocuments } from '#cluster/manifests/documents.ts';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { holds } from '#test/support/property.ts';
import { buildWorld } from './world/build.ts';

// What no YAML text can hold, or what the binary check refuses, is left out.
const text = fc
  .string({ unit: 'grapheme', maxLength: 12 })
  .filter((one) => !/[\p{C}\ufffd\u2028\u2029\ufeff]/u.test(one));
const key = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', '<', '80', 'on', '~', '- a', 'a: b', '"'));
const leaf = fc.oneof(
  fc.boolean(),
  fc.constant(null),
  fc.integer(),
  text,
  fc.constantFrom('yes', 'on', '012', '1e3', '', '|', '# x', 'a: b', '---'),
);
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(key, tie('value'), { maxKeys: 4 }),
  ),
}));

/** JSON.parse makes own fields of every key, as the reader must. */
function plain(one: unknown): unknown {
  return JSON.parse(JSON.stringify(one));
}

const WRITERS: readonly (readonly [string, (one: unknown) => string])[] = [
  ['JSON', (one) => JSON.stringify(one)],
  ['JSON with tabs', (one) => JSON.stringify(one, null, '\t')],
  ['YAML in blocks', (one) => dump(one, { forceQuotes: true, lineWidth: -1 })],
  ['YAML with folded lines', (one) => dump(one, { forceQuotes: true, lineWidth: 20 })],
  ['YAML in flows', (one) => dump(one, { forceQuotes: true, flowLevel: 1 })],
];

for (const [name, write] of WRITERS) {
  test(`a value comes back from ${name}`, (t) => {
    const check = fc.property(fc.dictionary(key, value, { maxKeys: 5 }), (one) => {
      const wanted = plain(one);
      const { trees, errors } = parseDocuments(write(wanted));
      assert.deepEqual(errors, []);
      assert.deepEqual(
        trees.map((tree) => tree.value),
        [wanted],
      );
    });
    holds(t, check, 500);
  });
}

const SAMPLE = `# Source: shop/templates/web.yaml
apiVersion: apps/v1
kind: Deployment
metadata: &all
  name: web
  namespace: shop
  labels: {app: web, "a.b/c": 'd'}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: c
          command:
            - |
              text: here
          args: ["a", 'b',
            c]
          ports: [{name: http, containerPort: 80, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: &meta {name: np, namespace: shop}
again: {<<: *meta}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {namespaceSelector: {}}]
      ports: [{port: http}, {port: 80, endPort: 90}]
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDRs: [10.2.0.0/24]}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: p, ownerReferences: [{kind: Job, name: j}]}, status: {podIP: 10.2.0.9}}
`;

const PIECES = [
  '',
  ' ',
  '\n',
  '\t',
  '\r\n',
  ':',
  '- ',
  '{',
  '}',
  '[',
  ']',
  '&a ',
  '*a',
  '*meta',
  '<<: ',
  '!!int ',
  '"',
  "'",
  '|',
  '>',
  '#',
  '---\n',
  '...\n',
  '~',
  '\0',
  '\ufffd',
  '%YAML',
  '1e999',
  '__proto__: ',
  '-1',
  '@',
];
const edit = fc.record({ at: fc.nat(SAMPLE.length), remove: fc.nat(6), insert: fc.constantFrom(...PIECES) });

test('a text that an editor broke is read or refused, and never throws', (t) => {
  let runs = 0;
  let refused = 0;
  let read = 0;
  const check = fc.property(fc.array(edit, { minLength: 1, maxLength: 5 }), (edits) => {
    let broken = SAMPLE;
    for (const { at, remove, insert } of edits) broken = broken.slice(0, at) + insert + broken.slice(at + remove);
    const { objects, diagnostics } = parseManifest(broken, 'f.yaml');
    const built = buildWorld(objects);
    // A carriage return alone ends a line, too (YAML 1.2, 5.4).
    const lines = broken.split(/\r\n?|\n/).length;
    for (const { line, code } of [...diagnostics, ...built.diagnostics]) {
      assert.ok(line !== null && line >= 1 && line <= lines, `${code} on line ${line} of ${lines}`);
    }
    runs++;
    if (diagnostics.some(({ severity }) => severity === 'error')) refused++;
    read += objects.length;
  });
  holds(t, check, 3000);
  assert.ok(refused > runs / 6 && refused < runs && read > runs, `${refused} of ${runs} refused, ${read} objects read`);
});
