// Files that change under a watch: edits, saves of every style, mistakes, files that go and come back.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ManifestSet, type ManifestWatch, watchManifests } from './watch.ts';

const OPTIONS = { settleMs: 10, goneAfterMs: 300, pollMs: 5000 };
/** Longer than any test takes, on a machine that has other work. */
const MOMENT_MS = 600_000;
const LIMIT_MS = 20_000;

const pod = (name: string): string => `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\n`;

type Scene = { readonly directory: string; readonly watch: ManifestWatch; readonly changes: ManifestSet[] };

/** A watched directory with a.yaml and b.yaml in it. `goneAfterMs`: as of WatchOptions. */
function scene(t: TestContext, goneAfterMs = OPTIONS.goneAfterMs): Scene {
  const directory = mkdtempSync(join(tmpdir(), 'moat-watch-'));
  writeFileSync(join(directory, 'a.yaml'), pod('a'));
  writeFileSync(join(directory, 'b.yaml'), pod('b'));
  const changes: ManifestSet[] = [];
  const watch = watchManifests([directory], (set) => changes.push(set), { ...OPTIONS, goneAfterMs });
  t.after(() => {
    watch.close();
    rmSync(directory, { recursive: true, force: true });
  });
  assert.deepEqual(names(watch), ['a', 'b']);
  return { directory, watch, changes };
}

function names(watch: ManifestWatch): string[] {
  return watch.current().objects.map(({ name }) => name);
}

function codes(watch: ManifestWatch): string[] {
  return watch.current().diagnostics.map(({ code }) => code);
}

/** Waits until the watch shows these objects and findings. */
async function shows(watch: ManifestWatch, objects: readonly string[], found: readonly string[]): Promise<void> {
  const good = (): boolean => String([names(watch), codes(watch)]) === String([objects, found]);
  for (const end = performance.now() + LIMIT_MS; performance.now() < end && !good(); ) await sleep(10);
  assert.deepEqual([names(watch), codes(watch)], [objects, found]);
}

test('watch: an edit is seen, and only once', async (t) => {
  const { directory, watch, changes } = scene(t);
  writeFileSync(join(directory, 'a.yaml'), pod('edited'));
  await shows(watch, ['edited', 'b'], []);
  await sleep(100);
  assert.equal(changes.length, 1);
});

/** What a slip of the pen makes of a policy, and how it is named. */
const SLIPS: readonly (readonly [string, string, string])[] = [
  ['kind: NetworkPolicy', 'kind: NetworkPolicie', 'kind-unknown'],
  ['name: p', 'name: "p+"', 'object-name-unsafe'],
  ['namespace: shop', 'namespcae: shop', 'metadata-field'],
];

for (const [right, wrong, code] of SLIPS) {
  test(`watch: a policy with "${wrong}" stays in force as it was`, async (t) => {
    const { directory, watch } = scene(t);
    const policy =
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n';
    writeFileSync(join(directory, 'a.yaml'), policy);
    const kinds = (): string =>
      watch
        .current()
        .objects.map(({ kind, namespace }) => `${kind} ${namespace}`)
        .join(', ');
    await shows(watch, ['p', 'b'], []);
    writeFileSync(join(directory, 'a.yaml'), policy.replace(right, wrong));
    await shows(watch, ['p', 'b'], [code, 'file-stale']);
    assert.equal(kinds(), 'NetworkPolicy shop, Pod default');
    writeFileSync(join(directory, 'a.yaml'), policy);
    await shows(watch, ['p', 'b'], []);
  });
}

test('watch: a save by rename is an edit', async (t) => {
  const { directory, watch } = scene(t);
  writeFileSync(join(directory, '.a.yaml.swp'), pod('renamed'));
  renameSync(join(directory, '.a.yaml.swp'), join(directory, 'a.yaml'));
  await shows(watch, ['renamed', 'b'], []);
});

test('watch: new files and new directories are seen', async (t) => {
  const { directory, watch } = scene(t);
  mkdirSync(join(directory, 'sub'));
  await sleep(50);
  writeFileSync(join(directory, 'sub', 'c.yaml'), pod('c'));
  await shows(watch, ['a', 'b', 'c'], []);
});

test('watch: a file that does not parse keeps its last good objects, is named, and heals', async (t) => {
  const { directory, watch } = scene(t);
  writeFileSync(join(directory, 'a.yaml'), 'a: b: c\n');
  await shows(watch, ['a', 'b'], ['yaml-syntax', 'file-stale']);
  await sleep(OPTIONS.goneAfterMs * 1.5);
  await shows(watch, ['a', 'b'], ['yaml-syntax', 'file-stale']);
  writeFileSync(join(directory, 'a.yaml'), pod('healed'));
  await shows(watch, ['healed', 'b'], []);
});

test('watch: what can be read of a new file that is broken counts, until it can be read whole', async (t) => {
  const { directory, watch } = scene(t);
  writeFileSync(join(directory, 'c.yaml'), `a: b: c\n---\n${pod('c')}`);
  await shows(watch, ['a', 'b', 'c'], ['yaml-syntax']);
  writeFileSync(join(directory, 'c.yaml'), `a: b: c\n---\n${pod('d')}`);
  await shows(watch, ['a', 'b', 'd'], ['yaml-syntax']);
  writeFileSync(join(directory, 'c.yaml'), pod('e'));
  await shows(watch, ['a', 'b', 'e'], []);
});

test('watch: a policy without a name in a new file counts as one that isolates its namespace', async (t) => {
  const { directory, watch } = scene(t);
  const policy = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: shop}\nspec: {}\n';
  writeFileSync(join(directory, 'c.yaml'), policy);
  await shows(watch, ['a', 'b', 'not-understood-c-yaml-1'], ['object-header']);
});

test('watch: a file that is away for a moment keeps its objects', async (t) => {
  const { directory, watch, changes } = scene(t, MOMENT_MS);
  rmSync(join(directory, 'a.yaml'));
  await shows(watch, ['b', 'a'], ['file-stale']);
  writeFileSync(join(directory, 'a.yaml'), pod('back'));
  await shows(watch, ['back', 'b'], []);
  assert.ok(changes.every(({ objects }) => objects.length === 2));
});

test('watch: a file that is empty for a moment keeps its objects', async (t) => {
  const { directory, watch, changes } = scene(t, MOMENT_MS);
  writeFileSync(join(directory, 'a.yaml'), '');
  await shows(watch, ['a', 'b'], ['file-stale']);
  writeFileSync(join(directory, 'a.yaml'), pod('full'));
  await shows(watch, ['full', 'b'], []);
  assert.ok(changes.every(({ objects }) => objects.length === 2));
});

test('watch: a file that stays away takes its objects with it, and that is said', async (t) => {
  const { directory, watch, changes } = scene(t);
  rmSync(join(directory, 'a.yaml'));
  await shows(watch, ['b'], ['file-gone']);
  assert.match(changes.at(-1)?.diagnostics[0]?.message ?? '', /a\.yaml is gone, and the object that it held with it/);
  writeFileSync(join(directory, 'a.yaml'), pod('again'));
  await shows(watch, ['again', 'b'], []);
});

test('watch: a directory that goes and comes back', async (t) => {
  const { directory, watch } = scene(t);
  renameSync(directory, `${directory}-moved`);
  await shows(watch, [], ['file-unreadable', 'file-gone', 'file-gone']);
  renameSync(`${directory}-moved`, directory);
  await shows(watch, ['a', 'b'], []);
});

test('watch: nothing is said after close', async (t) => {
  const { directory, watch, changes } = scene(t);
  watch.close();
  writeFileSync(join(directory, 'a.yaml'), pod('late'));
  await sleep(100);
  assert.equal(changes.length, 0);
});
