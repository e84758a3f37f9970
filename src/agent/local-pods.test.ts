// Whose policy an address gets, as the cluster's events and the CNI's attachments come in whatever order.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Compiler } from '#compile/compiler.ts';
import { type AddressKey, formatAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { type AttachmentId, attachmentId } from '#network/attachments.ts';
import { isServiceEvent } from '#policy/service.ts';
import {
  type ClusterEvent,
  type Pod,
  type PodKey,
  podKey,
  STANDARD_SEMANTICS,
  type WorldEvent,
} from '#policy/world.ts';
import { address } from '#test/support/pod-bed.ts';
import { LocalPods } from './local-pods.ts';

const WEB = podKey('shop', 'web');
const OLD = attachmentId('c-old', 'eth0');
const NEW = attachmentId('c-new', 'eth0');

/** A compiler behind the pods of node one, and what a claim's number is. */
class Bench {
  readonly told: string[] = [];
  readonly pods: LocalPods;
  readonly #compiler: Compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (pod) => pod.node === 'one' });
  readonly #local: Map<string, string> = new Map();
  #sequence = 0;

  constructor(strict = false) {
    this.pods = new LocalPods({ node: 'one', strict, tell: (problem) => void this.told.push(problem) });
    this.source(nodeEvent(['10.8.0.0/24']));
  }

  /** What a source says; returns how many steps follow from it. */
  source(...events: readonly ClusterEvent[]): number {
    return this.apply(this.pods.follow(events));
  }

  claim(id: AttachmentId, addresses: readonly string[], uid = ''): number {
    const pod = { namespace: 'shop', name: 'web', uid };
    this.#sequence++;
    return this.apply(this.pods.claim(id, { pod, addresses: addresses as AddressKey[], sequence: this.#sequence }));
  }

  release(id: AttachmentId): number {
    return this.apply(this.pods.release(id));
  }

  /** Local addresses that have a policy in force, each with its pod's labels. */
  get endpoints(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#local].sort());
  }

  apply(events: readonly ClusterEvent[]): number {
    const world = events.filter((event): event is WorldEvent => !isServiceEvent(event));
    const steps = this.#compiler.apply(world);
    for (const step of steps) {
      if (step.kind !== 'endpoint') continue;
      if (step.value === null) this.#local.delete(formatAddress(step.address));
      else this.#local.set(formatAddress(step.address), String(step.value.pod));
    }
    return steps.length;
  }
}

function nodeEvent(blocks: readonly string[], name = 'one'): ClusterEvent {
  const podCidrs = blocks.flatMap((text) => parseCidr(text)?.cidr ?? []);
  return { kind: 'node', name, value: { name, labels: {}, addresses: [address('192.0.2.1')], podCidrs } };
}

function podEvent(name: string, more: Partial<Pod> & { readonly at?: readonly string[] } = {}): ClusterEvent {
  const { at = [], ...fields } = more;
  const value: Pod = {
    ...{ key: podKey('shop', name), namespace: 'shop', name, labels: { app: name }, node: 'one', ports: [] },
    ...{ hostNetwork: false, finished: false, workload: { kind: 'Pod', namespace: 'shop', name } },
    ...{ addresses: at.map(address), ...fields },
  };
  return { kind: 'pod', key: value.key, value };
}

function gone(key: PodKey): ClusterEvent {
  return { kind: 'pod', key, value: null };
}

test('a pod that is known gets its policy with its attachment, before its status tells an address', () => {
  const bench = new Bench();
  bench.source(podEvent('web'));
  assert.deepEqual(bench.endpoints, {});
  bench.claim(NEW, ['10.8.0.2']);
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.2']);
  assert.ok(bench.pods.isCurrent(NEW));
});

test('an attachment that comes before its pod waits for it', () => {
  const bench = new Bench();
  assert.equal(bench.claim(NEW, ['10.8.0.2']), 0);
  assert.ok(!bench.pods.isCurrent(NEW));
  bench.source(podEvent('web', { node: 'two' }));
  assert.deepEqual(bench.endpoints, {}, 'it is not this node’s yet');
  bench.source(podEvent('web'));
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.2']);
});

test('a status that tells the same address changes nothing', () => {
  const bench = new Bench();
  bench.source(podEvent('web'));
  bench.claim(NEW, ['10.8.0.2']);
  assert.equal(bench.source(podEvent('web', { at: ['10.8.0.2'] })), 0);
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.2']);
});

test('a status that tells another address of the node’s blocks is not believed, whosever it is', () => {
  const bench = new Bench();
  bench.source(podEvent('web', { at: ['10.8.0.7'] }), podEvent('far', { node: 'two', at: ['10.8.0.2'] }));
  assert.deepEqual(bench.endpoints, {}, 'nobody gave it the address');
  bench.claim(NEW, ['10.8.0.2']);
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.2']);
  // Of two pods that claim an address, the first by name would have it.
  const before = bench.endpoints;
  bench.source(podEvent('aaa', { at: ['10.8.0.2'] }), podEvent('aab', { node: 'two', at: ['10.8.0.2'] }));
  assert.deepEqual(bench.endpoints, before);
});

test('addresses outside the node’s blocks are the status’s to tell: other nodes’ pods, and pods of another CNI', () => {
  const { pods } = new Bench();
  for (const at of [['10.9.0.2'], ['fd00::5']]) {
    const [event] = pods.follow([podEvent('far', { node: 'two', at })]);
    assert.deepEqual(event, podEvent('far', { node: 'two', at }));
    assert.deepEqual(pods.follow([podEvent('web', { at })]), [podEvent('web', { at })]);
  }
  const host = podEvent('host', { hostNetwork: true, at: ['10.8.0.1'] });
  assert.deepEqual(pods.follow([host]), [host]);
});

test('a pod of the same name made later gets the later attachment; the late end of the old one does not touch it', () => {
  const bench = new Bench();
  bench.source(podEvent('web', { uid: 'first' }));
  bench.claim(OLD, ['10.8.0.2'], 'first');
  bench.source(gone(WEB));
  assert.deepEqual(bench.endpoints, {}, 'closed with the pod');
  // The new sandbox is there before the new pod is known, and the old one still is.
  bench.claim(NEW, ['10.8.0.3'], 'second');
  assert.deepEqual(bench.endpoints, {});
  bench.source(podEvent('web', { uid: 'second', labels: { app: 'other' } }));
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.3']);
  assert.ok(bench.pods.isCurrent(NEW) && !bench.pods.isCurrent(OLD));
  assert.equal(bench.release(OLD), 0);
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.3']);
  bench.release(NEW);
  assert.deepEqual(bench.endpoints, {});
});

test('a new sandbox does not get the labels that the pod of before had', () => {
  const bench = new Bench();
  bench.source(podEvent('web', { uid: 'first' }));
  bench.claim(NEW, ['10.8.0.3'], 'second');
  assert.deepEqual(bench.endpoints, {}, 'the pod that is known is another one');
  bench.source(podEvent('web', { uid: 'second' }));
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.3']);
});

test('a sandbox of which no uid is said is nobody’s, where the pod has one', () => {
  const bench = new Bench();
  bench.source(podEvent('web', { uid: 'u' }));
  bench.claim(NEW, ['10.8.0.3']);
  assert.deepEqual(bench.endpoints, {});
  bench.source(podEvent('web'));
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.3'], 'a source without uids');
});

test('of two sandboxes of one pod the later one is it; when it fails, the one before is it again', () => {
  const bench = new Bench();
  bench.source(podEvent('web', { uid: 'u' }));
  bench.claim(OLD, ['10.8.0.2'], 'u');
  bench.claim(NEW, ['10.8.0.3'], 'u');
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.3']);
  bench.release(NEW);
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.2']);
});

test('an address that was given back is nobody’s, though a status still tells it', () => {
  const bench = new Bench();
  bench.source(podEvent('web'));
  bench.claim(NEW, ['10.8.0.2']);
  bench.source(podEvent('web', { at: ['10.8.0.2'] }));
  bench.release(NEW);
  assert.deepEqual(bench.endpoints, {});
});

test('pods that come before the node’s blocks are known are looked at again', () => {
  const pods = new LocalPods({ node: 'one', strict: false, tell: () => undefined });
  const far = podEvent('far', { node: 'two', at: ['10.8.0.2'] });
  assert.deepEqual(pods.follow([far, podEvent('web', { at: ['10.8.0.3'] })]), [
    far,
    podEvent('web', { at: ['10.8.0.3'] }),
  ]);
  const shown = pods.follow([nodeEvent(['10.8.0.0/24'])]);
  assert.deepEqual(shown.slice(1), [podEvent('far', { node: 'two' }), podEvent('web')]);
  // A node that is gone from the API for a while keeps its blocks.
  pods.follow([{ kind: 'node', name: 'one', value: null }]);
  assert.equal(pods.blocks.length, 1);
});

test('what only this side remembers is known to a source that lists again', () => {
  const bench = new Bench();
  bench.source(podEvent('web'), podEvent('far', { node: 'two' }));
  assert.deepEqual([...bench.pods.known()], [gone(WEB), gone(podKey('shop', 'far'))]);
  bench.source(gone(WEB));
  bench.source(gone(podKey('shop', 'far')));
  bench.claim(NEW, ['10.8.0.2']);
  assert.deepEqual([...bench.pods.known()], []);
  assert.deepEqual(bench.endpoints, {});
});

test('who starts afresh is told of everything again, with the addresses that the CNI gave', () => {
  const { pods } = new Bench();
  pods.follow([podEvent('web')]);
  pods.claim(NEW, {
    pod: { namespace: 'shop', name: 'web', uid: '' },
    addresses: ['10.8.0.2' as AddressKey],
    sequence: 1,
  });
  pods.startAfresh();
  assert.ok(!pods.isCurrent(NEW));
  assert.deepEqual(pods.follow([podEvent('web')]), [podEvent('web', { at: ['10.8.0.2'] })]);
});

/** Addresses that a pod of another node is shown with. */
function shownAt(events: readonly ClusterEvent[], name: string): readonly string[] | null {
  const last = events.findLast((event) => event.kind === 'pod' && event.key === podKey('shop', name));
  return last?.kind === 'pod' ? (last.value?.addresses.map(formatAddress) ?? null) : null;
}

test('blocks that change are others’ no more: who claims an address of the new ones has none, of the old ones one', () => {
  const bench = new Bench();
  const { pods } = bench;
  pods.follow([
    podEvent('old', { node: 'two', at: ['10.8.0.7'] }),
    podEvent('new', { node: 'two', at: ['10.88.0.7'] }),
  ]);
  bench.claim(NEW, ['10.8.0.2']);
  const events = pods.follow([nodeEvent(['10.88.0.0/24'])]);
  assert.deepEqual([shownAt(events, 'old'), shownAt(events, 'new')], [['10.8.0.7'], []]);
  assert.match(
    bench.told.join(),
    /podCIDRs are 10\.88\.0\.0\/24: 1 pods keep addresses outside of them, shop\/web among them/,
  );
  assert.deepEqual(pods.follow([nodeEvent(['10.88.0.0/24'])]).length, 1, 'the same blocks change nothing');
});

test('where Moat gives all addresses, another node’s pod has those in its node’s blocks and no others', () => {
  const { pods, told } = new Bench(true);
  pods.follow([nodeEvent(['10.9.0.0/24', 'fd09::/64'], 'two'), nodeEvent(['10.10.0.0/24'], 'three')]);
  const good = pods.follow([podEvent('far', { node: 'two', at: ['10.9.0.2', 'fd09::2'] })]);
  assert.deepEqual([shownAt(good, 'far'), told], [['10.9.0.2', 'fd09::2'], []]);
  // Pods of two, three and this node, and nobody's.
  const claimed = ['10.9.0.2', '10.10.0.2', '10.8.0.2', '192.0.2.77'];
  for (const node of ['two', 'three', 'one', 'nowhere', '']) {
    const shown = shownAt(pods.follow([podEvent(`thief-${node}`, { node, at: claimed })]), `thief-${node}`);
    assert.deepEqual(shown, node === 'two' ? ['10.9.0.2'] : node === 'three' ? ['10.10.0.2'] : [], node);
  }
  assert.deepEqual(
    told.map((text) => text.split(', that is in')[0]),
    [
      'shop/thief-two has an address in its status, 10.10.0.2',
      'shop/thief-three has an address in its status, 10.9.0.2',
      'shop/thief-one has an address in its status, 10.9.0.2',
    ],
  );
  pods.follow([podEvent('thief-two', { node: 'two', at: claimed, labels: {} })]);
  assert.equal(told.length, 3, 'once a pod');
});

test('another node’s pods are looked at again when its blocks are known, change, or go', () => {
  const { pods } = new Bench(true);
  const far = podEvent('far', { node: 'two', at: ['10.9.0.2'] });
  assert.deepEqual(shownAt(pods.follow([far]), 'far'), []);
  assert.deepEqual([...pods.known()], [gone(podKey('shop', 'far'))]);
  assert.deepEqual(shownAt(pods.follow([nodeEvent(['10.9.0.0/24'], 'two')]), 'far'), ['10.9.0.2']);
  assert.deepEqual([...pods.known()], []);
  assert.deepEqual(shownAt(pods.follow([nodeEvent(['10.99.0.0/24'], 'two')]), 'far'), []);
  assert.deepEqual(shownAt(pods.follow([nodeEvent(['10.9.0.0/24'], 'two')]), 'far'), ['10.9.0.2']);
  assert.deepEqual(shownAt(pods.follow([{ kind: 'node', name: 'two', value: null }]), 'far'), []);
  const host = podEvent('host', { node: 'two', hostNetwork: true, at: ['192.0.2.9'] });
  assert.deepEqual(pods.follow([host]), [host]);
});

test('where Moat gives all addresses, a pod of this node has what its attachment has, whatever its status says', () => {
  const bench = new Bench(true);
  bench.source(podEvent('web', { at: ['192.0.2.77'] }));
  assert.deepEqual(bench.endpoints, {});
  bench.claim(NEW, ['10.8.0.2']);
  assert.deepEqual(Object.keys(bench.endpoints), ['10.8.0.2']);
});

test('pods that run without an attachment are told of, and which of them had one that is over', () => {
  const bench = new Bench();
  const names = (): readonly string[] =>
    bench.pods.unattached.map(({ pod, over }) => `${pod.name}${over === null ? '' : ' (over)'}`).sort();
  bench.source(podEvent('web', { uid: 'u1' }), podEvent('away', { node: 'two', at: ['10.9.0.2'] }));
  assert.deepEqual(names(), [], 'it has no address yet');
  bench.source(podEvent('web', { uid: 'u1', at: ['10.8.0.2'] }), podEvent('apart', { at: ['10.7.0.2'] }));
  bench.source(podEvent('done', { at: ['10.8.0.9'], finished: true }));
  bench.source(podEvent('host', { at: ['192.0.2.1'], hostNetwork: true }));
  assert.deepEqual(names(), ['apart', 'web'], 'of this node’s block, and of others');
  bench.claim(NEW, ['10.8.0.2'], 'u1');
  assert.deepEqual(names(), ['apart']);
  bench.release(NEW);
  assert.deepEqual(names(), ['apart', 'web (over)'], 'it is about to end, or has another sandbox');
  bench.source(podEvent('web', { uid: 'u2', at: ['10.8.0.3'] }));
  assert.deepEqual(names(), ['apart', 'web'], 'another one of that name');
});
