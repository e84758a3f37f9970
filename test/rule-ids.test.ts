// What people are told of a denied packet comes from the rule number in its kernel event, and from nowhere else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ARENA_RECORD, TABLE_ACTION } from '#datapath/ebpf/encode/abi.gen.ts';
import { closeObject, getPinned, lookupElement, updateBatch } from '#kernel/bpf.ts';
import type { ProbeResult } from '#sandbox/probe.ts';
import { clusterOf, podText, policyText, rowOf, TCP_80 } from '#test/support/cluster.ts';
import { needsRoot } from '#test/support/needs.ts';

const PODS = podText('web', { node: 'one' }) + podText('db', { node: 'two' }) + podText('api', { node: 'two' });
const FILES = {
  'pods.yaml': PODS,
  'db.yaml': policyText('db-closed', 'podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]'),
  'api.yaml': `# One line more.\n${policyText('api-closed', 'podSelector: {matchLabels: {app: api}}\npolicyTypes: [Ingress]')}`,
};

type Deny = { readonly key: Buffer; readonly record: Buffer; readonly rule: number };

/** Edits a node's two deny rules in the kernel's own table: `edit` gets each record, and the number of the other rule. */
function editDenies(instance: string, node: string, edit: (deny: Deny, other: number) => void): void {
  const arena = getPinned(`/sys/fs/bpf/moat/${instance}/${node}/arena`);
  assert.ok(arena !== null);
  const denies: Deny[] = [];
  for (let index = 0; index < 512; index++) {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(index);
    const record = Buffer.alloc(ARENA_RECORD.size);
    assert.ok(lookupElement(arena, key, record));
    const rule = record.readUInt32LE(ARENA_RECORD.rule);
    if (rule !== 0 && record.readUInt32LE(ARENA_RECORD.action) === TABLE_ACTION.DENY)
      denies.push({ key, record, rule });
  }
  const [first, second, ...more] = [...new Set(denies.map((deny) => deny.rule))];
  assert.ok(first !== undefined && second !== undefined && more.length === 0);
  for (const deny of denies) {
    edit(deny, deny.rule === first ? second : first);
    updateBatch(arena, deny.key, deny.record, 1);
  }
  closeObject(arena);
}

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
    editDenies(sandbox.name, 'two', ({ record }, other) => record.writeUInt32LE(other, ARENA_RECORD.rule));
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
  assert.deepEqual(about, ['shop/api: node two dropped it by no rule', 'shop/db: node two dropped it by no rule']);
});
