// Files as people and tools write them, and as an attacker writes them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf, type SourceObject } from '#policy/object.ts';
import { type ParsedFile, parseManifest } from './parse.ts';

const HEAD = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n';

function parse(text: string): ParsedFile {
  return parseManifest(text, 'f.yaml');
}

/** The content of the only object of a text without mistakes. */
function contentOf(text: string): Record<string, unknown> {
  const { objects, diagnostics } = parse(text);
  assert.deepEqual(diagnostics, []);
  assert.equal(objects.length, 1);
  return objects[0]?.content as Record<string, unknown>;
}

/** `Kind namespace/name` of each object. */
function names(objects: readonly SourceObject[]): string[] {
  return objects.map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`);
}

function check(name: string, text: string, expected: { objects?: readonly string[]; found?: readonly string[] }): void {
  test(`manifests: ${name}`, () => {
    const { objects, diagnostics } = parse(text);
    assert.deepEqual(names(objects), expected.objects ?? []);
    assert.deepEqual(
      diagnostics.map(({ code, line }) => `${code} ${line}`),
      expected.found ?? [],
    );
    for (const { message, hint, file } of diagnostics) assert.ok(message !== '' && hint !== '' && file === 'f.yaml');
  });
}

const POD = 'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n';

check('an empty file', '', {});
check('comments alone', '# a\n---\n# b\n---\n', {});
check('several documents', `${POD}---\n${POD}`, { objects: ['Pod default/a', 'Pod default/a'] });
check('rendered Helm output', `---\n# Source: shop/a.yaml\n---\n# Source: shop/b.yaml\n${POD}\n---\n`, {
  objects: ['Pod default/a'],
});
check('a document end', `${POD}...\n---\n${POD}`, { objects: ['Pod default/a', 'Pod default/a'] });
check('directives', `%YAML 1.2\n---\n${POD}---\n${POD}`, { objects: ['Pod default/a', 'Pod default/a'] });
check('a byte order mark and CRLF', `\uFEFF${POD.replaceAll('\n', '\r\n')}---\r\n${POD}`, {
  objects: ['Pod default/a', 'Pod default/a'],
});
check('JSON', '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}', {
  objects: ['Pod b/a'],
});
check('JSON with tabs', '{\n\t"apiVersion": "v1",\n\t"kind": "Pod",\n\t"metadata": {\n\t\t"name": "a"\n\t}\n}', {
  objects: ['Pod default/a'],
});
check(
  'a List',
  'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n',
  { objects: ['Pod default/a', 'Namespace /b'] },
);
check(
  'a PodList, whose items have no kind',
  'apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n',
  { objects: ['Pod default/a', 'Pod default/b'] },
);
check(
  'a list in a list',
  'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: PodList, items: [{metadata: {name: a}}]}\n',
  { objects: ['Pod default/a'] },
);
check('an empty list', 'apiVersion: v1\nkind: List\nitems: []\n', {});
check('a list whose items are misspelt', 'apiVersion: v1\nkind: PodList\nItems: []\n', { found: ['object-header 1'] });
check('a name that is generated', 'apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n', {
  objects: ['Pod default/a-0'],
});
check(
  'lone y and n, which most writers do not quote',
  'apiVersion: v1\nkind: Pod\nmetadata: {name: y, namespace: n}\n',
  { objects: ['Pod n/y'] },
);
check('values of a chart', 'replicas: 3\n', { found: ['not-an-object 1'] });
check('text', 'hello\n', { found: ['not-an-object 1'] });
check('a list at the top', '- a\n', { found: ['not-an-object 1'] });
check('no kind', 'apiVersion: v1\nmetadata: {name: a}\n', { found: ['object-header 1'] });
check('no version', 'kind: Pod\nmetadata: {name: a}\n', { found: ['object-header 1'] });
check('a kind that is no text', 'apiVersion: v1\nkind: [Pod]\nmetadata: {name: a}\n', { found: ['object-header 1'] });
check('no name', 'apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: b\n', { found: ['object-header 4'] });
check('a name that YAML reads as a number', 'apiVersion: v1\nkind: Pod\nmetadata:\n  name: 1\n', {
  found: ['object-header 4'],
});
check(
  'a namespace that YAML reads as a boolean',
  'apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: on\n',
  { found: ['object-header 5'] },
);
check('a syntax error does not hide the documents around it', `${POD}---\na: b: c\n---\n${POD}`, {
  objects: ['Pod default/a', 'Pod default/a'],
  found: ['yaml-syntax 5'],
});
check('a key twice', `${POD}spec: 1\nspec: 2\n`, { found: ['yaml-duplicate-key 5'] });
check('a key twice in JSON', '{"apiVersion": "v1", "apiVersion": "v1"}', { found: ['yaml-duplicate-key 1'] });
check('a template that is not rendered', `${POD}x: {{ .Values.x }}\n`, { found: ['yaml-key 4'] });
check('an empty key', `${POD}x: {~: 1}\n`, { found: ['yaml-key 4'] });
check('an alias without anchor', `${POD}x: *a\n`, { found: ['yaml-alias 4'] });
check('an anchor of the document before', `${POD}x: &a 1\n---\n${POD}x: *a\n`, {
  objects: ['Pod default/a'],
  found: ['yaml-alias 9'],
});
check('an alias inside its anchor', `${POD}x: &a [*a]\n`, { found: ['yaml-alias 4'] });
check('a merge of something else', `${POD}x: {<<: 1}\n`, { found: ['yaml-merge 4'] });
check('a tag that is not understood', `${POD}x: !Ref a\n`, { found: ['yaml-tag 4'] });
check('a tag that does not fit', `${POD}x: !!int a\n`, { found: ['yaml-tag 4'] });
check('a binary file', `${POD}x: \0\u0001\n`, { found: ['file-binary 4'] });
check('a file that is no UTF-8', Buffer.from([0x61, 0x3a, 0x20, 0xff, 0xfe]).toString('utf8'), {
  found: ['file-binary 1'],
});
check('deep nesting', `a: ${'['.repeat(100_000)}`, { found: ['yaml-syntax 1'] });

test('manifests: merge keys give what is missing, in place', () => {
  const content = contentOf(`${HEAD}x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}\nz: {<<: [*x, {a: 9, c: 4}], b: 5}\n`);
  assert.deepEqual(content.y, { a: 1, b: 3 });
  assert.deepEqual(content.z, { a: 1, b: 5, c: 4 });
});

test('manifests: a field named __proto__ is a field', () => {
  const content = contentOf(`${HEAD}__proto__: {polluted: 1}\nconstructor: 2\n`);
  assert.ok(Object.hasOwn(content, '__proto__'));
  assert.equal(content.polluted, undefined);
  assert.equal(Object.getPrototypeOf(content), Object.prototype);
});

test('manifests: tabs and unindented lines inside brackets and quotes are what kubectl reads', () => {
  const content = contentOf(`${HEAD}x:\n    a:\n      [\n\t"b",\nc\n      ]\n    d: 'e\nf'\n`);
  assert.deepEqual(content.x, { a: ['b', 'c'], d: 'e f' });
});

test('manifests: every field knows its line, in block, flow, list, alias and merge', () => {
  const text = [
    'apiVersion: v1 # 1',
    'kind: Pod',
    'metadata:',
    '  name: a',
    '  labels: {app.kubernetes.io/name: web,',
    '    tier: front}',
    'spec: &spec',
    '  containers:',
    '    -',
    '      name: c',
    '    - name: d',
    '      image: |',
    '        text',
    '      ports: []',
    'again: *spec',
    'merged:',
    '  <<: *spec',
    '  own: 1',
  ].join('\r\n');
  const { objects } = parse(`---\r\n# comment\r\n${text}\r\n`);
  const origin = objects[0]?.origin ?? null;
  const at = (path: string): number | null => (lineOf(origin, path) ?? 0) - 2;
  const found = {
    '': at(''),
    name: at('metadata.name'),
    dotted: at('metadata.labels["app.kubernetes.io/name"]'),
    tier: at('metadata.labels.tier'),
    first: at('spec.containers[0]'),
    second: at('spec.containers[1]'),
    ports: at('spec.containers[1].ports'),
    missing: at('spec.containers[1].env[3].name'),
    inherited: at('constructor.toString'),
    alias: at('again'),
    inAlias: at('again.containers[1].image'),
    inMerge: at('merged.containers'),
    own: at('merged.own'),
  };
  assert.deepEqual(found, {
    '': 1,
    name: 4,
    dotted: 5,
    tier: 6,
    first: 10,
    second: 11,
    ports: 14,
    missing: 11,
    inherited: 1,
    alias: 15,
    inAlias: 12,
    inMerge: 8,
    own: 18,
  });
});

test('manifests: an item of a List has its own paths', () => {
  const { objects } = parse(
    'apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: Pod\n    metadata:\n      name: a\n',
  );
  assert.equal(lineOf(objects[0]?.origin ?? null, 'metadata.name'), 7);
  assert.equal(lineOf(objects[0]?.origin ?? null, ''), 4);
});

const HOSTILE: readonly (readonly [string, () => string])[] = [
  [
    'aliases that double',
    () => `a: &a0 [x, x]\n${Array.from({ length: 40 }, (_, i) => `k${i}: &a${i + 1} [*a${i}, *a${i}]`).join('\n')}`,
  ],
  [
    '10 MB of nested aliases',
    () => `a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a]\nc:\n${'- [*b, *b, *b, *b, *b]\n'.repeat(430_000)}`,
  ],
  ['10 MB of merges', () => `a: &a {b: 1, c: 2, d: 3}\ne:\n${'- {<<: [*a, *a, *a, *a, *a, *a]}\n'.repeat(330_000)}`],
  ['10 MB of open brackets', () => '['.repeat(10_000_000)],
  ['10 MB of lines that are not indented', () => `a: {\n${'b: 1,\n'.repeat(1_600_000)}}`],
];

for (const [name, text] of HOSTILE) {
  test(`manifests: ${name} end in an error, in bounded time`, { timeout: 20_000 }, () => {
    const { objects, diagnostics } = parse(text());
    assert.deepEqual(objects, []);
    assert.equal(diagnostics[0]?.severity, 'error');
  });
}
