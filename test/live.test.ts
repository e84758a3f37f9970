// Changes while packets flow: how fast an edit is felt, and what happens to connections that are open.
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadManifests } from '#cluster/load.ts';
import { UDP } from '#net/protocol.ts';
import type { SandboxEvent } from '#sandbox/api.ts';
import { clusterOf, podText, policyText, rowOf, TCP_80 } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';

const PODS = podText('web', { node: 'one' }) + podText('db', { node: 'two' }) + podText('near', { node: 'one' });
const OPEN = policyText('db', 'podSelector: {matchLabels: {app: db}}\ningress:\n- {}');
const CLOSED = policyText('db', 'podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]');
const UDP_90 = { protocol: UDP, port: 90 };

test('needs root: an edited file is felt within milliseconds, both ways, by packets at 1 kHz', needsRoot, async (t) => {
  const { sandbox, write } = await clusterOf(t, { 'pods.yaml': PODS, 'policy.yaml': OPEN });
  const stream = await sandbox.openStream({ from: 'shop/web', to: 'shop/db', port: UDP_90 });
  t.after(() => stream.close());
  const latencies: number[] = [];
  const steps = [
    [CLOSED, 'firstSilent'],
    [OPEN, 'firstAnswered'],
  ] as const;
  for (const [text, next] of [...steps, ...steps, ...steps]) {
    write('policy.yaml', text);
    const writtenMs = performance.now();
    const seenMs = await stream[next](writtenMs, 3000);
    assert.ok(seenMs !== null, `${next} was never seen (${JSON.stringify(stream.counts)})`);
    latencies.push(seenMs - writtenMs);
  }
  t.diagnostic(`file written to first packet judged by it, ms: ${latencies.map((ms) => ms.toFixed(1)).join(' ')}`);
  assert.ok(Math.max(...latencies) < 1000, `${latencies}`);
});

test(
  'needs root: a broken file keeps its last good policy; a file that is gone takes its policy along',
  needsRoot,
  async (t) => {
    const { sandbox, write, events, folder } = await clusterOf(t, { 'pods.yaml': PODS, 'policy.yaml': CLOSED });
    const heard = async (what: (event: SandboxEvent) => boolean): Promise<SandboxEvent> => {
      const limit = performance.now() + 5000;
      for (;;) {
        const found = events.find(what);
        if (found !== undefined) return found;
        assert.ok(performance.now() < limit, `never heard: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    const verdict = async (): Promise<string> => {
      return rowOf(await sandbox.probe({ ports: [TCP_80] }), 'shop/web', 'shop/db').verdict;
    };
    write('policy.yaml', `${CLOSED}\n: : {`);
    const named = (event: SandboxEvent): boolean =>
      event.kind === 'change' && event.change.diagnostics.some((one) => one.file === join(folder, 'policy.yaml'));
    await heard(named);
    assert.equal(await verdict(), 'deny');
    rmSync(join(folder, 'policy.yaml'));
    const gone = 'policy NetworkPolicy/shop/db removed';
    await heard((event) => event.kind === 'change' && event.change.changes.includes(gone));
    assert.equal(await verdict(), 'allow');
  },
);

test('needs root: an open connection is cut by an edit, and stays cut when it is taken back', needsRoot, async (t) => {
  const { sandbox, write } = await clusterOf(t, { 'pods.yaml': PODS, 'policy.yaml': OPEN });
  const cases = [
    { from: 'shop/web', to: 'shop/db' },
    { from: 'shop/db', to: 'shop/web' },
  ];
  for (const pair of cases) {
    const stream = await sandbox.openStream({ ...pair, port: TCP_80, intervalMs: 5 });
    const both = CLOSED.replace('[Ingress]', '[Ingress, Egress]');
    const startMs = performance.now();
    await sandbox.apply([write('policy.yaml', both)]);
    assert.ok((await stream.firstSilent(startMs, 2000)) !== null, `${pair.from}: cut`);
    const backMs = performance.now();
    await sandbox.apply([write('policy.yaml', OPEN)]);
    assert.equal(await stream.firstAnswered(backMs, 1500), null, `${pair.from}: stays cut`);
    await stream.close();
    const { rows, errors } = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual(errors, []);
    assert.ok(
      rows.every((row) => row.verdict === 'allow'),
      'new connections pass again',
    );
  }
});

test('needs root: pods come, change their labels and go while the sandbox is up', needsRoot, async (t) => {
  const { sandbox, write } = await clusterOf(t, { 'pods.yaml': PODS });
  const policy = policyText(
    'db',
    'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]',
  );
  const verdict = async (from: string): Promise<string> => {
    const result = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual(result.errors, []);
    return rowOf(result, from, 'shop/db').verdict;
  };
  await sandbox.apply([write('policy.yaml', policy)]);
  assert.equal(await verdict('shop/web'), 'deny');
  await sandbox.apply([write('new.yaml', podText('late', { node: 'one', labels: { role: 'client' } }))]);
  assert.equal(await verdict('shop/late'), 'allow');
  await sandbox.apply([write('new.yaml', podText('late', { node: 'one', labels: { role: 'other' } }))]);
  assert.equal(await verdict('shop/late'), 'deny');
  const objects = sandbox.objects.filter((object) => object.name !== 'late');
  await sandbox.setObjects(objects);
  const { pods } = await sandbox.status();
  assert.deepEqual(pods.map((pod) => pod.name).sort(), ['shop/db', 'shop/near', 'shop/web']);
});

test(
  'needs root: an address that moves to another pod on another node takes nothing of the old one along',
  needsRoot,
  async (t) => {
    const at = (name: string, node: string, ip: string): string => {
      const metadata = { namespace: 'shop', name, labels: { app: name } };
      const spec = { nodeName: node, containers: [{ name: 'main', image: 'none' }] };
      return `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec, status: { podIP: ip } })}\n`;
    };
    const policy = policyText(
      'db',
      'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: old}}}]}]',
    );
    const db = at('db', 'two', '10.7.0.1');
    const { sandbox, folder } = await clusterOf(
      t,
      { 'all.yaml': db + at('old', 'one', '10.7.0.9') + policy },
      { watch: false },
    );
    assert.equal(rowOf(await sandbox.probe({ ports: [TCP_80] }), 'shop/old', 'shop/db').verdict, 'allow');
    const path = join(folder, 'next.yaml');
    writeFileSync(path, db + at('new', 'two', '10.7.0.9') + policy);
    await sandbox.setObjects(loadManifests([path]).objects);
    const after = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual(after.errors, []);
    assert.deepEqual(after.rows.map((row) => `${row.from} ${row.to} ${row.verdict}`).sort(), [
      'shop/db shop/new allow',
      'shop/new shop/db deny',
    ]);
  },
);

test('needs root: a probe and an open connection share a port, and don’t disturb each other', needsRoot, async (t) => {
  const { sandbox } = await clusterOf(t, { 'pods.yaml': PODS });
  const stream = await sandbox.openStream({ from: 'shop/web', to: 'shop/db', port: TCP_80, intervalMs: 5 });
  t.after(() => stream.close());
  const startMs = performance.now();
  const results = await Promise.all([1, 2].map(() => sandbox.probe({ ports: [TCP_80, UDP_90] })));
  for (const { rows, errors } of results) assert.deepEqual([rows.length, errors], [12, []]);
  assert.equal(await stream.firstSilent(startMs, 200), null);
  assert.equal(stream.broken, null);
});

test(
  'needs root: nodes come and go with their pods, and a change waits for an agent that is away',
  needsRoot,
  async (t) => {
    const policy = policyText('db', 'podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]');
    const { sandbox, write } = await clusterOf(t, { 'pods.yaml': PODS }, { watch: false });
    await sandbox.apply([write('more.yaml', podText('far', { node: 'three' }))]);
    const more = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual([more.rows.length, more.errors], [12, []]);
    await sandbox.setObjects(sandbox.objects.filter((object) => object.name !== 'far'));
    const { nodes } = await sandbox.status();
    assert.deepEqual(nodes.map((node) => node.name).sort(), ['one', 'two']);
    for (const node of nodes) process.kill(node.agent?.pid ?? 0, 'SIGKILL');
    const change = await sandbox.apply([write('policy.yaml', policy)]);
    assert.deepEqual(Object.keys(change.nodeMs).sort(), ['one', 'two']);
    const after = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual(after.errors, []);
    assert.equal(rowOf(after, 'shop/web', 'shop/db').verdict, 'deny');
  },
);
