// Objects as an API gives them → world events.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress } from '#net/address.ts';
import type { ClusterEvent } from '#policy/world.ts';
import { KINDS, type ObjectKind, type Reading, readObject } from './kinds.ts';
import { LiveWorld } from './live-world.ts';

function kindOf(name: string): ObjectKind {
  const found = KINDS.find(({ kind }) => kind === name);
  assert.ok(found);
  return found;
}

function reading(kind: string, metadata: unknown, rest: object = {}): Reading {
  const found = readObject(kindOf(kind), { metadata, ...rest });
  assert.ok(found);
  return found;
}

function text(events: readonly ClusterEvent[]): readonly string[] {
  return events.map((event) => `${event.value === null ? '-' : '+'}${'key' in event ? event.key : event.name}`);
}

function live(): { readonly world: LiveWorld; readonly told: string[] } {
  const told: string[] = [];
  return { world: new LiveWorld((message) => void told.push(message)), told };
}

const [NAMESPACE, POD, POLICY] = ['Namespace', 'Pod', 'NetworkPolicy'].map(kindOf) as [
  ObjectKind,
  ObjectKind,
  ObjectKind,
];
const pod = (name: string, rest: object = {}): Reading => reading('Pod', { name, namespace: 'shop' }, rest);
const shop = reading('Namespace', { name: 'shop', labels: { team: 'a' } });

test('a pod has the addresses of its status, and none before; a finished one is nobody', () => {
  const before = pod('a').event;
  assert.ok(before?.kind === 'pod' && before.value !== null);
  assert.deepEqual([before.value.addresses, before.value.node], [[], '']);
  const status = {
    phase: 'Running',
    podIP: '10.0.0.1',
    podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }],
    hostIP: '192.0.2.1',
  };
  const now = pod('a', { spec: { nodeName: 'n' }, status }).event;
  assert.ok(now?.kind === 'pod' && now.value !== null);
  assert.deepEqual(now.value.addresses.map(formatAddress), ['10.0.0.1', 'fd00::1']);
  assert.deepEqual([now.value.node, now.value.hostNetwork, now.value.finished], ['n', false, false]);
  const over = pod('a', { status: { ...status, phase: 'Failed' } }).event;
  assert.ok(over?.kind === 'pod' && over.value?.finished);
});

test('a pod has the uid by which a runtime knows it: of one that stands for a static pod, that pod’s', () => {
  const uidOf = (annotations: object): string | undefined => {
    const { event } = reading('Pod', { name: 'a', namespace: 'shop', uid: 'the-api’s', annotations });
    assert.ok(event?.kind === 'pod' && event.value !== null);
    return event.value.uid;
  };
  assert.equal(uidOf({}), 'the-api’s');
  assert.equal(uidOf({ 'kubernetes.io/config.mirror': 'f00', 'kubernetes.io/config.hash': 'f00' }), 'f00');
  // Everybody may write this one on a pod of their own; the API lets nobody add the other one later.
  assert.equal(uidOf({ 'kubernetes.io/config.hash': 'f00' }), 'the-api’s');
});

test('a pod waits for its namespace, and its namespace goes after it', () => {
  const { world } = live();
  assert.deepEqual(text(world.list(POD, [pod('a'), pod('b')])), []);
  assert.deepEqual(text(world.list(NAMESPACE, [shop])), ['+shop', '+shop/a', '+shop/b']);
  assert.deepEqual(text(world.delete(NAMESPACE, shop.id)), []);
  assert.deepEqual(text(world.set(POD, pod('c'))), [], 'a new one waits again');
  assert.deepEqual(text(world.delete(POD, 'shop/a')), ['-shop/a']);
  assert.deepEqual(text(world.delete(POD, 'shop/c')), [], 'nobody was told of it');
  assert.deepEqual(text(world.delete(POD, 'shop/b')), ['-shop/b', '-shop']);
  assert.deepEqual(text(world.set(NAMESPACE, shop)), ['+shop']);
});

test('a namespace that is made again before its pods were gone stays', () => {
  const { world } = live();
  world.list(NAMESPACE, [shop]);
  world.list(POD, [pod('a')]);
  world.delete(NAMESPACE, shop.id);
  assert.deepEqual(text(world.set(NAMESPACE, shop)), ['+shop']);
  assert.deepEqual(text(world.delete(POD, 'shop/a')), ['-shop/a']);
});

test('a second list tells what is new, other or gone, and nothing else', () => {
  const { world } = live();
  world.list(NAMESPACE, [shop]);
  world.list(POD, [pod('a'), pod('b'), pod('c')]);
  const other = reading('Pod', { name: 'b', namespace: 'shop', labels: { app: 'x' } });
  const same = pod('a', { status: { message: 'something else' } });
  assert.deepEqual(text(world.list(POD, [same, other, pod('d')])), ['+shop/b', '+shop/d', '-shop/c']);
});

test('a policy that is not understood isolates and allows nothing, and is named by object and field until it is mended', () => {
  const { world, told } = live();
  const meta = { name: 'p', namespace: 'shop' };
  const bad = reading('NetworkPolicy', meta, {
    spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {}, serviceAccounts: {} }] }] },
  });
  const [event] = world.set(POLICY, bad);
  assert.ok(event?.kind === 'policy' && event.value !== null);
  assert.deepEqual(event.value.ingress[0]?.peers, { kind: 'these', peers: [] });
  assert.ok(event.value.isolates.ingress);
  assert.match(told.join('\n'), /^error: networkpolicy\/shop\/p spec\.ingress\[0\]\.from\[0\]\.serviceAccounts: /);
  assert.deepEqual([...world.findings()], told);
  world.set(POLICY, bad);
  assert.equal(told.length, 1, 'it is said once');
  // The opposite: understood, it lets its peers in.
  const [good] = world.set(
    POLICY,
    reading('NetworkPolicy', meta, { spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] } }),
  );
  assert.ok(good?.kind === 'policy' && good.value?.ingress[0]?.peers.kind === 'these');
  assert.equal(good.value.ingress[0].peers.peers.length, 1);
  assert.deepEqual([...world.findings()], []);
});

test('an object without a name is none', () => {
  for (const raw of [
    null,
    7,
    [],
    {},
    { metadata: {} },
    { metadata: { name: '' } },
    { metadata: { name: 'a', namespace: 7 } },
  ]) {
    assert.equal(readObject(POD, raw), null);
  }
});
