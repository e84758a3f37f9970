// Manifests written to hurt their reader: texts of megabytes, files without end, and characters that drive a terminal.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readFiles } from '#cluster/files.ts';
import { isInvalid, loadManifests } from '#cluster/load.ts';

import { parseManifest } from '#cluster/manifests/parse.ts';
import { buildWorld } from '#cluster/world/build.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { renderDiagnostic } from '#policy/render.ts';

const MEGABYTES = 10 << 20;
/** What of it a spec may have: more is not read. */
const SPEC_MEGABYTES = 3 << 20;
const IN_RULES: readonly string[] = ['np-cidr', 'np-port-range', 'np-port-name'];
/** Twenty times what it takes here. */
const LIMIT_MS = 15_000;
/** No valid object makes a longer message. */
const LONGEST = 4000;

const folder = mkdtempSync(join(tmpdir(), 'moat-hostile-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const policy = (metadata: string, spec: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {${metadata}}\nspec: {${spec}}\n`;
const pod = (metadata: string, spec = 'containers: []'): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: {${metadata}}\nspec: {${spec}}\nstatus: {podIP: 10.0.0.1}\n`;

type Read = ReturnType<typeof buildWorld> & { readonly found: readonly Diagnostic[] };

function read(text: string): Read {
  const parsed = parseManifest(text, 'hostile.yaml');
  const built = buildWorld(parsed.objects);
  return { ...built, found: [...parsed.diagnostics, ...built.diagnostics] };
}

const PEER = 'podSelector: {}, ingress: [{from: [';
const LONG: readonly (readonly [string, (long: string) => string, string])[] = [
  ['a name', (long) => policy(`name: ${long}`, 'podSelector: {}'), 'object-name-unsafe'],
  ['a name of dashes', (long) => policy(`name: ${long.replaceAll('xx', 'x-')}!`, ''), 'object-name-unsafe'],
  ['a namespace', (long) => policy(`name: p, namespace: ${long}`, 'podSelector: {}'), 'object-name-unsafe'],
  ['a kind', (long) => policy('name: p', '').replace('NetworkPolicy', long), 'kind-unknown'],
  ['a foreign kind', (long) => pod('name: p').replace('Pod', long), 'kind-not-understood'],
  ['an API version', (long) => policy('name: p', '').replace('networking.k8s.io/v1', long), 'kind-unknown'],
  ['a field', (long) => policy('name: p', `podSelector: {}, ${long}: 1`), 'np-unknown-field'],
  ['a field of metadata', (long) => policy(`name: p, ${long}: 1`, 'podSelector: {}'), 'metadata-field'],
  ['a key twice', (long) => `{a: {${long}: 1, ${long}: 2}}`, 'yaml-duplicate-key'],
  ['an anchor', (long) => `a: *${long}`, 'yaml-alias'],
  ['a tag', (long) => `a: !${long} b`, 'yaml-too-large'],
  ['a label key', (long) => policy('name: p', `podSelector: {matchLabels: {${long}: v}}`), 'np-label-key'],
  ['a label value', (long) => policy('name: p', `podSelector: {matchLabels: {k: ${long}}}`), 'np-label-value'],
  ['a policy type', (long) => policy('name: p', `podSelector: {}, policyTypes: [${long}]`), 'np-policy-types'],
  ['a CIDR', (long) => policy('name: p', `${PEER}{ipBlock: {cidr: "${long}"}}]}]`), 'np-cidr'],
  [
    'a CIDR of zeros',
    (long) => policy('name: p', `${PEER}{ipBlock: {cidr: "${long.replaceAll('x', '0')}"}}]}]`),
    'np-cidr',
  ],
  [
    'a CIDR of colons',
    (long) => policy('name: p', `${PEER}{ipBlock: {cidr: "${':'.repeat(long.length)}"}}]}]`),
    'np-cidr',
  ],
  ['a CIDR beyond what is read', (long) => policy('name: p', `${PEER}{ipBlock: {cidr: "${long}"}}]}]`), 'np-too-large'],
  [
    'a port',
    (long) => policy('name: p', `podSelector: {}, ingress: [{ports: [{port: ${long.replaceAll('x', '1')}}]}]`),
    'np-port-range',
  ],
  [
    'the name of a port',
    (long) => policy('name: p', `podSelector: {}, ingress: [{ports: [{port: ${long}}]}]`),
    'np-port-name',
  ],
  [
    'an annotation',
    (long) => policy(`name: p, annotations: {moat.network/mode: ${long}}`, 'podSelector: {}'),
    'annotation-unheard',
  ],
  ["a pod's label", (long) => pod(`name: p, labels: {k: ${long}}`), 'object-field'],
  ["a pod's node", (long) => pod('name: p', `nodeName: ${long}, containers: []`), 'object-field'],
];

for (const [what, make, code] of LONG) {
  const size = IN_RULES.includes(code) ? SPEC_MEGABYTES : MEGABYTES;
  test(`${what} of ${size >> 20} megabytes is refused in a short message, in seconds`, () => {
    const started = performance.now();
    const { found } = read(make('x'.repeat(size)));
    const took = performance.now() - started;
    assert.ok(
      found.some((one) => one.code === code),
      `${code} is among ${found.map((one) => one.code)}`,
    );
    for (const one of found) {
      assert.ok(JSON.stringify(one).length < LONGEST, one.code);
      assert.ok(renderDiagnostic(one).length < LONGEST, one.code);
    }
    assert.ok(took < LIMIT_MS, `${Math.round(took)} ms`);
  });
}

test('a text that names a hundred thousand namespaces isolates them, in a short message', () => {
  const named = Array.from({ length: 100_000 }, (_, index) => `namespace: n${index}`).join('\n');
  const { found, world } = read(`kind: NetworkPolicy\n${named}\n  : [`);
  assert.equal(world.policies.size, 100_000);
  assert.ok(renderDiagnostic(found[0] as Diagnostic).length < LONGEST);
});

test('aliases of a long text are too large, as aliases of many values are', () => {
  const list = Array.from({ length: 1000 }, () => '*a').join(', ');
  assert.deepEqual(
    read(`a: &a ${'x'.repeat(1 << 20)}\nb: [${list}]`).found.map(({ code }) => code),
    ['yaml-too-large'],
  );
  assert.deepEqual(
    read(`a: &a ${'x'.repeat(100)}\nb: [${list}]`).found.map(({ code }) => code),
    ['not-an-object'],
  );
});

/** Characters that a terminal obeys, hides, or turns round: escape, bell, C1, bidi, invisible ones, a tag. */
const DRIVING = '\\e]0;x\\a\\x9b31m\\u202e\\u2066\\u200f\\u061c\\u200b\\ufeff\\u2028\\U000e0041\\r\\n\\t';
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it looks for.
const OBEYED = /[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\u{e0041}/u;

const PLACES: readonly (readonly [string, string])[] = [
  ['a name', policy(`name: "${DRIVING}"`, 'podSelector: {}')],
  ['a namespace', policy(`name: p, namespace: "${DRIVING}"`, 'podSelector: {}')],
  ['a kind', policy('name: p', '').replace('NetworkPolicy', `"${DRIVING}"`)],
  ['a field', policy('name: p', `podSelector: {}, "${DRIVING}": 1`)],
  ['a label key', policy('name: p', `podSelector: {matchLabels: {"${DRIVING}": v}}`)],
  ['a label value', policy('name: p', `podSelector: {matchLabels: {k: "${DRIVING}"}}`)],
  ['a CIDR', policy('name: p', `${PEER}{ipBlock: {cidr: "${DRIVING}"}}]}]`)],
  ['a port', policy('name: p', `podSelector: {}, ingress: [{ports: [{port: "${DRIVING}"}]}]`)],
  ["a pod's label", pod(`name: p, labels: {k: "${DRIVING}"}`)],
  ["a pod's label key", pod(`name: p, labels: {"${DRIVING}": v}`)],
  ["a namespace's label", `apiVersion: v1\nkind: Namespace\nmetadata: {name: n, labels: {k: "${DRIVING}"}}\n`],
  ["a pod's node", pod('name: p', `nodeName: "${DRIVING}", containers: []`)],
  ["a pod's owner", pod(`name: p, ownerReferences: [{kind: Job, name: "${DRIVING}"}]`)],
  ["the kind of a pod's owner", pod(`name: p, ownerReferences: [{kind: "${DRIVING}", name: j}]`)],
];

for (const [where, text] of PLACES) {
  test(`${where} with characters that drive a terminal reaches none`, () => {
    const { found, world } = read(text);
    for (const one of found) {
      for (const line of renderDiagnostic(one).split('\n')) assert.doesNotMatch(line, OBEYED);
    }
    assert.doesNotMatch(JSON.stringify([...world.pods, ...world.nodes, ...world.namespaces]), OBEYED);
    assert.doesNotMatch(JSON.stringify([...world.pods, ...world.nodes, ...world.namespaces]), /\\u00/);
  });
}

test('a file of gigabytes, and one without end, are refused before they are in memory', () => {
  const sparse = join(folder, 'sparse.yaml');
  writeFileSync(sparse, '');
  truncateSync(sparse, 3 * 1024 ** 3);
  const before = process.resourceUsage().maxRSS;
  const { files, diagnostics } = readFiles([sparse, '/dev/zero']);
  assert.deepEqual(files, []);
  assert.deepEqual(
    diagnostics.map(({ code, message }) => `${code}: ${message}`),
    [sparse, '/dev/zero'].map((name) => `file-unreadable: ${name} can't be read: it is larger than 64 MiB`),
  );
  assert.ok(process.resourceUsage().maxRSS - before < 400 * 1024, 'KiB');
});

test('a pipe in a folder of manifests holds nobody up', () => {
  const base = mkdtempSync(join(folder, 'pipe-'));
  assert.equal(spawnSync('mkfifo', [join(base, 'a.yaml')]).status, 0);
  writeFileSync(join(base, 'b.yaml'), '# nothing\n');
  const { files, diagnostics } = readFiles([base]);
  assert.deepEqual(
    files.map(({ name }) => name),
    [join(base, 'b.yaml')],
  );
  assert.match(diagnostics[0]?.message ?? '', /no regular file/);
});

test('keys that every JavaScript object inherits are fields like others', () => {
  const { found, world } = read(
    policy('name: p', 'podSelector: {matchLabels: {constructor: a, toString: b}}, __proto__: {ingress: [{}]}'),
  );
  assert.ok(isInvalid(found));
  assert.deepEqual(
    found.map(({ code, path }) => `${code} ${path}`),
    ['np-unknown-field spec.__proto__'],
  );
  const [only] = world.policies.values();
  assert.deepEqual(only?.ingress, []);
  assert.deepEqual(only?.isolates, { egress: true, ingress: true });
  assert.equal(({} as Record<string, unknown>).ingress, undefined);
});

for (const [text, value] of [
  ['9007199254740993', '9007199254740992'],
  ['1e3', null],
  ['0x50', null],
  ['012', null],
  ['1_0', null],
  ['-1', '-1'],
  ['1.5', '1.5'],
  ['1e999', 'Infinity'],
  ['.nan', 'NaN'],
] as const) {
  test(`port ${text} is ${value === null ? 'the number that kubectl reads' : 'refused'}`, () => {
    const { found } = read(policy('name: p', `podSelector: {}, ingress: [{ports: [{port: ${text}}]}]`));
    const expected = value === null ? [] : [`np-port-range: ${value} is no port number`];
    assert.deepEqual(
      found.map(({ code, message }) => `${code}: ${message}`),
      expected,
    );
  });
}

test('an object of a hundred thousand errors has twenty findings, and says how many more', () => {
  const bad = Array.from({ length: 100_000 }, (_, index) => `{port: ${70_000 + index}}`).join(', ');
  const { found } = read(policy('name: p', `podSelector: {}, ingress: [{ports: [${bad}]}]`));
  assert.equal(found.length, 21);
  assert.deepEqual(
    found.slice(-1).map(({ code, object, message }) => [code, object, message]),
    [['more-errors', 'NetworkPolicy default/p', '99980 more errors, not shown']],
  );
});

test('errors after many warnings still make an input invalid', () => {
  const warnings = Array.from({ length: 30 }, () => '{ipBlock: {cidr: 10.0.0.1/8}}').join(', ');
  const text = policy('name: p', `${PEER}${warnings}, {ipBlock: {cidr: nonsense}}]}]`);
  const { found } = read(text);
  assert.deepEqual(
    found.slice(20).map(({ code, message }) => `${code}: ${message}`),
    ['more-errors: 1 more error, not shown', 'more-warnings: 10 more warnings, not shown'],
  );
  assert.ok(isInvalid(found));
});

test('a file of 10 000 broken objects is refused in a text that can be read, and it counts them all', () => {
  const path = join(folder, 'broken.yaml');
  const broken = (index: number): string =>
    policy(`name: p${index}`, 'podSelector: {}, ingress: [{ports: [{port: 99999}, {port: 0}]}]');
  writeFileSync(path, Array.from({ length: 10_000 }, (_, index) => broken(index)).join('---\n'));
  const { diagnostics } = loadManifests([path]);
  assert.equal(diagnostics.length, 501);
  assert.equal(diagnostics.at(-1)?.message, '19500 more errors, not shown');
  const main = join(import.meta.dirname, '../src/main/moat.ts');
  const told = spawnSync(process.execPath, [main, 'reach', '-f', path], { encoding: 'utf8', maxBuffer: 64 << 20 });
  assert.equal(told.status, 2);
  assert.ok(told.stderr.length < 200_000, `${told.stderr.length} characters`);
  assert.match(told.stderr, /more than 501 errors, no result/);
});
