// What people are told of a denied packet comes from the rule number in its kernel event, and from nowhere else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ARENA_RECORD, TABLE_ACTION } from '#datapath/ebpf/encode/abi.gen.ts';
import type { ProbeResult } from '#sandbox/probe.ts';
import { clusterOf, podText, policyText, rowOf, TCP_80 } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';
import { denyRules, editDenies } from '#test/support/sabotage.ts';

const PODS = podText('web', { node: 'one' }) + podText('db', { node: 'two' }) + podText('api', { node: 'two' });
const FILES = {
  'pods.yaml': PODS,
  'db.yaml': policyText('db-closed', 'podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]'),
  'api.yaml': `# One line more.\n${policyText('api-closed', 'podSelector: {matchLabels: {app: api}}\npolicyTypes: [Ingress]')}`,
};

/** Policy and place that the denial of `web → POD` names. */
function named(result: ProbeResult, pod: string): string {
  const { rule, verdict } = rowOf(result, 'shop/web', `shop/${pod}`);
  assert.equal(verdict, 'deny');
  const place = result.rules.find((one) => one.id === rule.ingress)?.places[0];
  return `${place?.object} ${place?.file?.split('/').at(-1)}:${place?.line}`;
}

test(
  'needs root: with two rule numbers exchanged in the kernel, each denial names the other line',
  needsRoot,
  async (t) => {
    const { sandbox } = await clusterOf(t, FILES);
    const db = 'NetworkPolicy shop/db-closed db.yaml:5';
    const api = 'NetworkPolicy shop/api-closed api.yaml:6';
    const before = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual([named(before, 'db'), named(before, 'api')], [db, api]);
    const [first, second, ...more] = denyRules(sandbox.name, 'two');
    assert.ok(first !== undefined && second !== undefined && more.length === 0);
    editDenies(sandbox.name, 'two', ({ record, rule }) => {
      record.writeUInt32LE(rule === first ? second : first, ARENA_RECORD.rule);
    });
    const after = await sandbox.probe({ ports: [TCP_80] });
    assert.deepEqual([named(after, 'db'), named(after, 'api')], [api, db]);
  },
);

test('needs root: a default that is flipped to allow shows as an allow', needsRoot, async (t) => {
  const { sandbox } = await clusterOf(t, FILES);
  const quick = { ports: [TCP_80], attemptsMs: [300] };
  editDenies(sandbox.name, 'two', ({ record }) => record.writeUInt32LE(TABLE_ACTION.ALLOW, ARENA_RECORD.action));
  const open = await sandbox.probe(quick);
  assert.deepEqual([open.errors.length, rowOf(open, 'shop/web', 'shop/db').verdict], [0, 'allow']);
});

test('needs root: a denial that has lost its rule number is an error, not a verdict', needsRoot, async (t) => {
  const { sandbox } = await clusterOf(t, FILES);
  editDenies(sandbox.name, 'two', ({ record }) => record.writeUInt32LE(0, ARENA_RECORD.rule));
  const { errors } = await sandbox.probe({ ports: [TCP_80], attemptsMs: [300] });
  const about = errors.filter((error) => error.from === 'shop/web').map((error) => `${error.to}: ${error.message}`);
  const fault = 'node two dropped it as table-error';
  assert.deepEqual(about, [`shop/api: ${fault}`, `shop/db: ${fault}`]);
});
