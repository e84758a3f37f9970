// Packets of open flows take a short way (bpf/hit.h), by records that the flow's entry names: what ends that way at
// once, and what it refuses. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { tcp, udp } from '#datapath/packets.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { type Injected, type Injection, inject } from './test-run.ts';

const SIZES = { ct_map: 1280, arena: 65_536 };
const KNOBS = { dropWindow: 0n, dropRate: 1_000_000n };
const OUTSIDE = address('203.0.113.9');
const CLOSED_SET = 9;

describe('packets of open flows (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let a: BedPod;
  let b: BedPod;
  let port = 1000;

  const open = (): EbpfDatapath => {
    return openDatapath({ instance: bed.prefix, node: 'node-a', sizes: SIZES, knobs: KNOBS });
  };

  before(() => {
    mountBpffs();
    bed = new PodBed('follow', 2);
    [a, b] = [bed.pod(0), bed.pod(1)];
    datapath = open();
  });

  beforeEach(() => {
    port += 10;
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), ...isolatingSet(CLOSED_SET, 90), ...policyOf(a), ...policyOf(b)]);
    datapath.settle();
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  function policyOf(pod: BedPod, sets: { egress?: number; ingress?: number } = {}): Step[] {
    return pod.link.addresses.map((each) => endpointStep(each, sets, pod.name));
  }

  /** What `a` sends on the connection of this test. */
  function segment(flags: string, to = b.v4): Uint8Array {
    return tcp({ from: a.v4, to, sport: port, dport: 80, sourceMac: a.link.mac, flags });
  }

  function answer(flags: string, from = b.v4, pod: BedPod | null = b): Uint8Array {
    const macs = pod === null ? {} : { sourceMac: pod.link.mac };
    return tcp({ from, to: a.v4, sport: 80, dport: port, ...macs, flags });
  }

  function at(pod: BedPod, frame: Uint8Array, more: Partial<Injection> = {}): Injected {
    return inject(datapath, { frame, hook: 'from-pod', interfaceIndex: pod.link.interfaceIndex, ...more });
  }

  function passes(result: Injected): void {
    assert.notEqual(result.verdict, 'drop', `dropped: ${result.events.map(({ reason }) => reason).join()}`);
  }

  function drops(result: Injected, reason: string): void {
    assert.equal(result.verdict, 'drop');
    assert.deepEqual(
      result.events.filter(({ kind }) => kind === 'drop').map((event) => event.reason),
      [reason],
    );
  }

  function connect(): void {
    passes(at(a, segment('S')));
    passes(at(b, answer('SA')));
    for (const _ of [1, 2]) passes(at(a, segment('A')));
    passes(at(b, answer('A')));
  }

  function connectOutside(): void {
    passes(at(a, segment('S', OUTSIDE)));
    passes(at(a, answer('SA', OUTSIDE, null), { hook: 'to-pod' }));
    for (const _ of [1, 2]) passes(at(a, segment('A', OUTSIDE)));
    passes(at(a, answer('A', OUTSIDE, null), { hook: 'to-pod' }));
  }

  it('are refused at once where an end is taken away', () => {
    connect();
    datapath.detach(a.link.interfaceIndex);
    drops(at(a, segment('A')), 'no-endpoint');
    datapath.attach(a.link);
    connect();
    datapath.attach({ ...a.link, addresses: [a.v6] });
    drops(at(a, segment('A')), 'spoofed-source');
  });

  it('are refused at once where an end has no policy any more', () => {
    connect();
    datapath.apply(b.link.addresses.map((each): Step => ({ kind: 'endpoint', address: each, value: null })));
    drops(at(a, segment('A')), 'no-endpoint');
    datapath.apply(policyOf(b));
    passes(at(a, segment('A')));
    datapath.apply(a.link.addresses.map((each): Step => ({ kind: 'endpoint', address: each, value: null })));
    drops(at(a, segment('A')), 'no-endpoint');
  });

  it('do not go on where an address moves to another interface', () => {
    connect();
    const taken: EndpointLink = { ...b.link, addresses: [...b.link.addresses, a.v4] };
    datapath.attach({ ...a.link, addresses: [a.v6] });
    datapath.attach(taken);
    drops(at(a, segment('A')), 'spoofed-source');
    drops(at(b, segment('A')), 'spoofed-source');
  });

  it('do not go on to a remote address that becomes a pod of this node', () => {
    connectOutside();
    datapath.attach({ ...b.link, addresses: [...b.link.addresses, OUTSIDE] });
    datapath.apply([endpointStep(OUTSIDE, {}, b.name)]);
    drops(at(a, segment('A', OUTSIDE)), 'mid-flow');
    datapath.attach(b.link);
    datapath.apply([{ kind: 'endpoint', address: OUTSIDE, value: null }]);
  });

  it('are judged again, once, when policy changes, and go on the short way', () => {
    connect();
    datapath.apply(policyOf(b, { ingress: CLOSED_SET }));
    drops(at(a, segment('A')), 'policy');
    drops(at(b, answer('A')), 'denied-earlier');
    port += 1;
    datapath.apply(policyOf(b));
    connect();
    datapath.apply([{ kind: 'epoch', sets: [], peers: [a.v4] }]);
    passes(at(a, segment('A')));
    connectOutside();
    datapath.apply(policyOf(a, { egress: CLOSED_SET }));
    drops(at(a, segment('A', OUTSIDE)), 'policy');
  });

  it('are refused after a takeover that does not name their end', () => {
    connect();
    datapath.close();
    datapath = open();
    datapath.attach(a.link);
    datapath.apply([...ground(), ...policyOf(a)]);
    passes(at(a, segment('A')));
    datapath.settle();
    drops(at(b, answer('A')), 'no-endpoint');
  });

  it('are refused after a takeover in which their end is closed', () => {
    connect();
    datapath.close();
    datapath = open();
    for (const pod of bed.pods) datapath.attach(pod.link);
    const closed = [...isolatingSet(CLOSED_SET, 90), ...policyOf(a, { egress: CLOSED_SET })];
    datapath.apply([...ground(), ...closed, ...policyOf(b)]);
    datapath.settle();
    drops(at(a, segment('A')), 'policy');
  });

  it('come by their own interface, from their own MAC', () => {
    connect();
    drops(at(b, segment('A')), 'spoofed-source');
    const forged = tcp({ from: a.v4, to: b.v4, sport: port, dport: 80, sourceMac: b.link.mac, flags: 'A' });
    drops(at(a, forged), 'spoofed-source');
    const group = segment('A');
    group[0] = 0x01;
    drops(at(a, group), 'multicast');
  });

  it('reach a pod by its own interface, and not by one that their sender is not behind', () => {
    connect();
    const { interfaceIndex } = a.link;
    passes(at(b, segment('A'), { hook: 'to-pod', sender: interfaceIndex }));
    drops(at(b, segment('A'), { hook: 'to-pod' }), 'spoofed-source');
    drops(at(b, segment('A'), { hook: 'to-pod', sender: 'own-node' }), 'spoofed-source');
    drops(at(a, segment('A'), { hook: 'to-pod', sender: interfaceIndex }), 'no-endpoint');
  });

  it('are whole', () => {
    connect();
    const cut = segment('A');
    new DataView(cut.buffer, cut.byteOffset).setUint16(16, 200);
    drops(at(a, cut), 'malformed');
    const short = segment('A');
    short[14 + 20 + 12] = 0x40;
    drops(at(a, short), 'malformed');
    const long = segment('A');
    long[14 + 20 + 12] = 0xf0;
    drops(at(a, long), 'malformed');
    const datagram = udp({ from: a.v4, to: b.v4, sport: port, dport: 53, sourceMac: a.link.mac });
    for (const _ of [1, 2]) passes(at(a, datagram));
    new DataView(datagram.buffer, datagram.byteOffset).setUint16(14 + 20 + 4, 7);
    drops(at(a, datagram), 'malformed');
  });
});
