// The whole way at its thinnest: a manifest on disk, a packet that the kernel drops, and the line that made it so.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clusterOf, flowsOf, podText, policyText, rowOf, TCP_80 } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';

const PODS = podText('web', { node: 'one' }) + podText('db', { node: 'two' });
const DENY_DB = policyText('db-closed', 'podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]');

test('needs root: a deny policy in a file drops a packet, and the drop names file and line', needsRoot, async (t) => {
  const { sandbox, events, folder } = await clusterOf(t, { 'pods.yaml': PODS, 'policy.yaml': DENY_DB });
  const result = await sandbox.probe({ ports: [TCP_80] });
  assert.deepEqual(result.errors, []);
  const denied = rowOf(result, 'shop/web', 'shop/db');
  assert.equal(denied.verdict, 'deny');
  assert.equal(denied.decidedBy, 'ingress');
  assert.equal(denied.rule.ingress, 'default-deny/default/ingress/NetworkPolicy/shop/db-closed');
  const drop = flowsOf(events).find((flow) => flow.kind === 'drop');
  assert.equal(drop?.node, 'two');
  assert.deepEqual(drop.ingress?.places, [
    { object: 'NetworkPolicy shop/db-closed', path: 'spec', file: `${folder}/policy.yaml`, line: 5 },
  ]);
  assert.equal(rowOf(result, 'shop/db', 'shop/web').verdict, 'allow');
});

test('needs root: without the policy the same packet arrives', needsRoot, async (t) => {
  const { sandbox } = await clusterOf(t, { 'pods.yaml': PODS });
  const result = await sandbox.probe({ ports: [TCP_80] });
  assert.deepEqual(result.errors, []);
  assert.equal(rowOf(result, 'shop/web', 'shop/db').verdict, 'allow');
});

test(
  'needs root: with the hooks taken off, the denied packet arrives: it is the hooks that deny',
  needsRoot,
  async (t) => {
    const { sandbox } = await clusterOf(t, { 'pods.yaml': PODS, 'policy.yaml': DENY_DB });
    await sandbox.detachHooks();
    const result = await sandbox.probe({ ports: [TCP_80], attemptsMs: [300] });
    const said = result.errors.map((error) => `${error.from} ${error.message.split(',')[0]}`);
    assert.deepEqual(said, ['shop/db an answer', 'shop/web an answer']);
  },
);
