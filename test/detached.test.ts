// A sandbox without a terminal: started, asked from elsewhere, changed, ended; and what it refuses.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connectSandbox, downSandbox } from '#sandbox/client.ts';
import { startDetached } from '#sandbox/detached.ts';
import { InvalidInputError } from '#sandbox/error.ts';
import { listNetns } from '#sandbox/network.ts';
import { startSandbox } from '#sandbox/sandbox.ts';
import { instanceName, podText, policyText, rowOf, TCP_80 } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';

const PODS = podText('web', { node: 'one' }) + podText('db', { node: 'two' });
const CLOSED = policyText('db', 'podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]');

test('needs root: a detached sandbox answers over its socket until it is taken down', needsRoot, async (t) => {
  const name = instanceName();
  const folder = mkdtempSync(join(tmpdir(), 'moat-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  t.after(() => downSandbox(name));
  writeFileSync(join(folder, 'pods.yaml'), PODS);
  const client = await startDetached({ name, paths: [folder] });
  const flows = Promise.withResolvers<string>();
  client.onEvent((event) => {
    const drop = event.kind === 'flows' ? event.events.find((flow) => flow.kind === 'drop') : undefined;
    if (drop !== undefined) flows.resolve(drop.ingress?.id ?? 'no rule');
  });
  assert.equal(rowOf(await client.probe({ ports: [TCP_80] }), 'shop/web', 'shop/db').verdict, 'allow');
  writeFileSync(join(folder, 'extra.txt'), CLOSED);
  const change = await client.apply([join(folder, 'extra.txt')]);
  assert.deepEqual(change.changes, ['policy NetworkPolicy/shop/db added']);
  const seen: number[] = [];
  const progress = (done: number): void => void seen.push(done);
  assert.equal(rowOf(await client.probe({ ports: [TCP_80], progress }), 'shop/web', 'shop/db').verdict, 'deny');
  assert.equal(await flows.promise, 'default-deny/default/ingress/NetworkPolicy/shop/db');
  assert.deepEqual(seen, [2]);
  client.close();
  assert.deepEqual(await downSandbox(name), { kind: 'down' });
  assert.deepEqual([await listNetns(name), existsSync(`/run/moat/${name}`)], [[], false]);
  await assert.rejects(connectSandbox(name), /no sandbox .* is up/);
});

test('needs root: invalid manifests are refused with every diagnostic, and nothing is made', needsRoot, async (t) => {
  const name = instanceName();
  const folder = mkdtempSync(join(tmpdir(), 'moat-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(
    join(folder, 'bad.yaml'),
    policyText('bad', 'podSelector: {}\ningress: [{ports: [{port: "80", protocol: XYZ}]}]'),
  );
  for (const start of [startSandbox, startDetached]) {
    await assert.rejects(start({ name, paths: [folder] }), (error) => {
      assert.ok(error instanceof InvalidInputError);
      return error.diagnostics.some((one) => one.file === join(folder, 'bad.yaml') && one.severity === 'error');
    });
    assert.deepEqual([await listNetns(name), existsSync(`/run/moat/${name}`)], [[], false]);
  }
});

test('needs root: a name that could be taken for another sandbox’s is refused', needsRoot, async () => {
  for (const name of ['', 'a-b', 'A', '../x', 'a'.repeat(17)]) {
    await assert.rejects(startSandbox({ name, paths: [] }), /can't name a sandbox/);
  }
});

test(
  'needs root: node names that the sandbox keeps for itself are refused, and nothing is left',
  needsRoot,
  async (t) => {
    const name = instanceName();
    const folder = mkdtempSync(join(tmpdir(), 'moat-test-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    writeFileSync(join(folder, 'pods.yaml'), podText('web', { node: 'p0' }));
    await assert.rejects(startSandbox({ name, paths: [folder] }), /keeps for itself/);
    assert.deepEqual([await listNetns(name), existsSync(`/run/moat/${name}`)], [[], false]);
  },
);
