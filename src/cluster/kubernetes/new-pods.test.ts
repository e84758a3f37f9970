// Which pods wait for the policies that were there before them, and what is told of them meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Pod, podKey, type WorldEvent } from '#policy/world.ts';
import { NewPods } from './new-pods.ts';

function podEvent(name: string, more: Partial<Pod> = {}): WorldEvent & { readonly value: Pod } {
  const value: Pod = {
    ...{ key: podKey('shop', name), namespace: 'shop', name, uid: 'u', labels: {}, node: 'one', ports: [] },
    ...{ hostNetwork: false, finished: false, workload: { kind: 'Pod', namespace: 'shop', name } },
    ...{ addresses: [], ...more },
  };
  return { kind: 'pod', key: value.key, value };
}

function gone(name: string): WorldEvent {
  return { kind: 'pod', key: podKey('shop', name), value: null };
}

function keeping(): NewPods {
  const pods = new NewPods('one');
  pods.keep();
  return pods;
}

test('a pod of this node waits, in its latest form, until it is admitted; then it is told of as it changes', () => {
  const pods = keeping();
  assert.deepEqual(pods.follow(podEvent('a')), []);
  const latest = podEvent('a', { labels: { app: 'x' } });
  assert.deepEqual(pods.follow(latest), []);
  assert.deepEqual([...pods.namespaces], ['shop']);
  assert.deepEqual(pods.waitingIn('other'), []);
  assert.deepEqual(pods.admit(pods.waitingIn('shop')), [latest]);
  assert.deepEqual([...pods.namespaces], []);
  const next = podEvent('a', { labels: { app: 'y' } });
  assert.deepEqual(pods.follow(next), [next]);
  assert.deepEqual(pods.follow(gone('a')), [gone('a')]);
  assert.deepEqual(pods.follow(next), [], 'made again it waits again');
});

test('who was admitted, and is another pod or none by then, is not told of', () => {
  const pods = keeping();
  pods.follow(podEvent('a'));
  const looked = pods.waitingIn('shop');
  pods.follow(podEvent('a', { uid: 'v' }));
  assert.deepEqual(pods.admit(looked), []);
  assert.equal(pods.waitingIn('shop').length, 1);
  pods.follow(gone('a'));
  assert.deepEqual(pods.admit(looked), []);
  assert.deepEqual(pods.waitingIn('shop'), []);
});

test('a pod whose name another one has by now is gone at once, though nobody said so', () => {
  const pods = keeping();
  pods.follow(podEvent('a'));
  pods.admit(pods.waitingIn('shop'));
  assert.deepEqual(pods.follow(podEvent('a', { uid: 'v' })), [gone('a')]);
});

test('nobody else waits: pods of other nodes or none, of the node’s network, finished, or from before', () => {
  const pods = new NewPods('one');
  const before = podEvent('before');
  assert.deepEqual(pods.follow(before), [before]);
  pods.keep();
  for (const event of [
    before,
    podEvent('far', { node: 'two' }),
    podEvent('unplaced', { node: '' }),
    podEvent('host', { hostNetwork: true }),
    podEvent('over', { finished: true }),
    { kind: 'namespace', name: 'shop', value: null } as const,
  ]) {
    assert.deepEqual(pods.follow(event), [event]);
  }
  assert.deepEqual(pods.follow(podEvent('unplaced')), [], 'it has come to this node');
});
