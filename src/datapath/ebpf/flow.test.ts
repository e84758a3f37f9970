// The kernel programs, frame by frame (BPF_PROG_TEST_RUN): one test for each hole that datapath.md closes. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Interval, Step } from '#compile/plan.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { ICMP, ICMPV6, SCTP, TCP, UDP } from '#net/protocol.ts';
import { ethernet, type FrameFields, frame, ipPacket } from '#test/support/frames.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet, prefixStep } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { type Injected, type Injection, inject } from './test-run.ts';

const OUTSIDE = address('203.0.113.9');
const OUTSIDE6 = address('2001:db8::9');
const NODE = address('192.0.2.1');
const FRIEND = 5;

describe('kernel programs (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let a: BedPod;
  let b: BedPod;
  let port = 1000;

  before(() => {
    mountBpffs();
    bed = new PodBed('flow', 2);
    [a, b] = [bed.pod(0), bed.pod(1)];
    datapath = openDatapath({
      instance: bed.prefix,
      node: 'node-a',
      sizes: { ct_map: 512, arena: 65536 },
      knobs: { timeoutTombstone: 400_000_000n, dropWindow: 0n, dropRate: 1_000_000n, timeoutUdp: 300_000_000n },
    });
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), { kind: 'node', node: 'node-a', value: [NODE] }]);
    datapath.apply(identitySteps(FRIEND, [a.v4, a.v6]));
    datapath.apply(isolatingSet(9, 90));
    datapath.apply(isolatingSet(8, 80, new Map([[FRIEND, [interval(0, 0xff_ffff, 'allow', 8)]]])));
  });

  beforeEach(() => {
    port += 10;
    datapath.apply([...open(a), ...open(b)]);
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  function open(pod: BedPod, sets: { egress?: number; ingress?: number } = {}): Step[] {
    return pod.link.addresses.map((each) => endpointStep(each, sets, pod.name));
  }

  function from(pod: BedPod, fields: Omit<FrameFields, 'source'> & { source?: Address }): Injected {
    const source = fields.source ?? (fields.destination.family === 4 ? pod.v4 : pod.v6);
    const bytes = frame({ sourceMac: pod.link.mac, ...fields, source });
    return inject(datapath, { frame: bytes, hook: 'from-pod', interfaceIndex: pod.link.interfaceIndex });
  }

  function to(
    pod: BedPod,
    fields: Omit<FrameFields, 'destination'>,
    options: Pick<Injection, 'sender' | 'mark'> = {},
  ): Injected {
    const destination = fields.source.family === 4 ? pod.v4 : pod.v6;
    const bytes = frame({ ...fields, destination });
    return inject(datapath, { frame: bytes, hook: 'to-pod', interfaceIndex: pod.link.interfaceIndex, ...options });
  }

  function passes(result: Injected): void {
    assert.notEqual(result.verdict, 'drop', `dropped: ${result.events.map((event) => event.reason).join()}`);
  }

  function drops(result: Injected, reason: string): void {
    assert.equal(result.verdict, 'drop');
    assert.deepEqual(
      result.events.filter((event) => event.kind === 'drop').map((event) => event.reason),
      [reason],
    );
  }

  const tcp = (flags: string, more: Partial<FrameFields> = {}): Omit<FrameFields, 'source' | 'destination'> => ({
    protocol: TCP,
    flags,
    sourcePort: port,
    destinationPort: 80,
    ...more,
  });
  const back = (flags: string): Omit<FrameFields, 'source' | 'destination'> =>
    tcp(flags, { sourcePort: 80, destinationPort: port });
  const udp = (more: Partial<FrameFields> = {}): Omit<FrameFields, 'source' | 'destination'> => ({
    protocol: UDP,
    sourcePort: port,
    destinationPort: 53,
    ...more,
  });
  const udpBack = (): Omit<FrameFields, 'source' | 'destination'> => udp({ sourcePort: 53, destinationPort: port });

  function handshake(): void {
    passes(from(a, { ...tcp('S'), destination: b.v4 }));
    passes(from(b, { ...back('SA'), destination: a.v4 }));
    passes(from(a, { ...tcp('A'), destination: b.v4 }));
  }

  it('opens a TCP connection by SYN alone', () => {
    drops(from(a, { ...tcp('A'), destination: b.v4 }), 'mid-flow');
    drops(from(a, { ...tcp('SA'), destination: b.v4 }), 'mid-flow');
    handshake();
    passes(from(b, { ...back('A'), destination: a.v4 }));
  });

  it('redirects to a neighbour as a router would: MACs, TTL and checksum', () => {
    const result = from(a, { ...tcp('S'), destination: b.v4 });
    assert.equal(result.verdict, 'redirect');
    assert.deepEqual(result.frame.subarray(0, 6), Buffer.from(b.link.mac));
    assert.equal(result.frame[14 + 8], 63);
    assert.deepEqual([...result.frame.subarray(14 + 10, 14 + 12)], [1, 0]);
    assert.equal(
      from(a, { ...tcp('S', { ttl: 1 }), destination: b.v4 }).verdict,
      'pass',
      'the stack answers for TTL 1',
    );
  });

  it('cuts an open connection at its next packet, both ways, for good', () => {
    handshake();
    datapath.apply(open(b, { ingress: 9 }));
    const cut = from(a, { ...tcp('A'), destination: b.v4 });
    drops(cut, 'policy');
    assert.deepEqual(
      cut.events.map((event) => [event.leg, event.ingressRule]),
      [['ingress', 90]],
    );
    const after = from(b, { ...back('A'), destination: a.v4 });
    drops(after, 'denied-earlier');
    assert.deepEqual(
      after.events.map((event) => event.ingressRule),
      [90],
    );
    datapath.apply(open(b));
    drops(from(a, { ...tcp('A'), destination: b.v4 }), 'denied-earlier');
    passes(from(a, { ...tcp('S'), destination: b.v4 }));
  });

  it('judges a reply as its initiator’s connection: the other way round it would be allowed', () => {
    passes(from(a, { ...udp(), destination: b.v4 }));
    datapath.apply(open(b, { ingress: 9 }));
    drops(from(b, { ...udpBack(), destination: a.v4 }), 'policy');
    drops(from(b, { ...udpBack(), destination: a.v4 }), 'denied-earlier');
    drops(from(a, { ...udp(), destination: b.v4 }), 'denied-earlier');
  });

  it('lets a cut datagram flow live again when newer policy allows it', () => {
    passes(from(a, { ...udp(), destination: b.v4 }));
    datapath.apply(open(b, { ingress: 9 }));
    drops(from(a, { ...udp(), destination: b.v4 }), 'policy');
    datapath.apply(open(b));
    passes(from(b, { ...udpBack(), destination: a.v4 }));
  });

  it('judges flows again when their set’s epoch passes', () => {
    const closed: Interval[] = [interval(0, 0xff_ffff, 'deny', 41)];
    datapath.apply([
      { kind: 'table', table: 4000, value: [interval(0, 0xff_ffff, 'allow', 40)] },
      { kind: 'layer', layer: 40, value: { base: 4000 } },
      { kind: 'set', set: 40, value: { layers: [40] } },
      ...open(b, { ingress: 40 }),
    ]);
    handshake();
    datapath.apply([
      { kind: 'table', table: 4001, value: closed },
      { kind: 'layer', layer: 40, value: { base: 4001 } },
      { kind: 'epoch', sets: [40], peers: [] },
      { kind: 'table', table: 4000, value: null },
    ]);
    drops(from(a, { ...tcp('A'), destination: b.v4 }), 'policy');
  });

  it('judges flows with a relabelled peer again, and no others', () => {
    datapath.apply(open(b, { ingress: 8 }));
    handshake();
    datapath.apply([...identitySteps(6, [a.v4]), { kind: 'epoch', sets: [], peers: [a.v4] }]);
    drops(from(a, { ...tcp('A'), destination: b.v4 }), 'policy');
    datapath.apply([...identitySteps(FRIEND, [a.v4]), { kind: 'epoch', sets: [], peers: [a.v4] }]);
    passes(from(a, { ...tcp('S'), destination: b.v4 }));
  });

  it('gives a new pod at an old address none of its flows', () => {
    handshake();
    passes(from(a, { ...udp(), destination: b.v4 }));
    datapath.apply(b.link.addresses.map((each) => endpointStep(each, {}, 'newcomer')));
    drops(from(a, { ...tcp('A'), destination: b.v4 }), 'mid-flow');
    drops(from(b, { ...back('A'), destination: a.v4 }), 'mid-flow');
    datapath.apply(open(b));
  });

  it('takes a SYN on a closing connection for a new one, and judges it', () => {
    handshake();
    // Either frame carries 8 bytes.
    passes(from(a, { ...tcp('FA'), destination: b.v4 }));
    passes(from(b, { ...back('FA'), ack: 11, destination: a.v4 }));
    const closing = from(a, { ...tcp('A'), ack: 11, destination: b.v4 });
    assert.deepEqual(
      closing.events.map((event) => event.kind),
      ['close'],
    );
    const again = from(a, { ...tcp('S'), destination: b.v4 });
    assert.deepEqual(
      again.events.map((event) => event.kind),
      ['new'],
    );
  });

  it('judges a SYN against the direction of an open connection by its own direction', () => {
    datapath.apply(open(a, { ingress: 9 }));
    handshake();
    drops(from(b, { ...back('S'), destination: a.v4 }), 'policy');
    passes(from(b, { ...back('A'), destination: a.v4 }));
  });

  it('refuses new connections, and never evicts open ones, when the table is full', () => {
    datapath.apply(open(b));
    let refused = 0;
    const [first] = [port];
    handshake();
    for (let each = 0; each < 300; each++) {
      const ports = { sourcePort: 20_000 + each, destinationPort: 81 };
      passes(from(a, { ...tcp('S', ports), destination: b.v4 }));
      passes(from(b, { ...tcp('SA', { sourcePort: 81, destinationPort: 20_000 + each }), destination: a.v4 }));
      const acknowledged = from(a, { ...tcp('A', ports), destination: b.v4 });
      if (acknowledged.verdict === 'drop') {
        drops(acknowledged, 'conntrack-full');
        refused++;
      }
    }
    assert.ok(refused >= 40, `${refused} refused`);
    port = first;
    passes(from(b, { ...back('A'), destination: a.v4 }));
    for (let each = 0; each < 300; each++) {
      from(a, { ...tcp('R', { sourcePort: 20_000 + each, destinationPort: 81 }), destination: b.v4 });
    }
  });

  it('passes what its own node sends, and the replies; not what the node forwards or proxies', () => {
    datapath.apply(open(b, { ingress: 9, egress: 9 }));
    const probe = { source: NODE, ...tcp('S') };
    drops(to(b, probe), 'policy');
    drops(to(b, probe, { sender: 'own-node', mark: 0x4d000001 }), 'policy');
    passes(to(b, probe, { sender: 'own-node' }));
    passes(from(b, { ...back('SA'), destination: NODE }));
    drops(to(b, { source: NODE, ...tcp('A') }), 'mid-flow');
    drops(to(b, { source: OUTSIDE, ...tcp('S') }, { sender: 'own-node' }), 'policy');
  });

  it('refuses what is not the pod’s own: address, MAC, v4-mapped, multicast, VLAN', () => {
    drops(from(a, { ...udp(), source: b.v4, destination: OUTSIDE }), 'spoofed-source');
    drops(from(a, { ...udp(), sourceMac: b.link.mac, destination: b.v4 }), 'spoofed-source');
    drops(from(a, { ...udp(), destination: address('::ffff:10.9.0.2') }), 'v4-mapped');
    drops(from(a, { ...udp(), destination: address('224.0.0.1') }), 'multicast');
    drops(from(a, { ...udp(), destination: address('255.255.255.255') }), 'multicast');
    drops(from(a, { ...udp(), destination: address('ff02::1') }), 'multicast');
    drops(raw(a, 0x8100, Buffer.alloc(50)), 'ethertype');
    drops(raw(a, 0x88cc, Buffer.alloc(50)), 'ethertype');
  });

  function raw(pod: BedPod, type: number, packet: Uint8Array): Injected {
    const bytes = ethernet(type, packet, pod.link.mac);
    return inject(datapath, { frame: bytes, hook: 'from-pod', interfaceIndex: pod.link.interfaceIndex });
  }

  it('lets a pod speak to itself, whatever its policy', () => {
    datapath.apply(open(a, { egress: 9, ingress: 9 }));
    passes(from(a, { ...udp(), destination: a.v4 }));
    drops(from(a, { ...udp(), destination: OUTSIDE }), 'policy');
  });

  it('says peer-unknown for a pod address not yet learnt, and passes at the next packet once it is', () => {
    datapath.apply([...identitySteps(12, [], true), prefixStep('10.9.0.0/16', 12), ...open(b, { ingress: 8 })]);
    const stranger = { source: address('10.9.7.7'), ...udp() };
    drops(to(b, stranger), 'peer-unknown');
    datapath.apply(identitySteps(FRIEND, [address('10.9.7.7')]));
    passes(to(b, stranger));
    datapath.apply([{ kind: 'address', address: address('10.9.7.7'), value: null }, prefixStep('10.9.0.0/16', null)]);
  });

  it('denies a peer without any identity', () => {
    datapath.apply([prefixStep('::/0', null)]);
    drops(from(a, { ...udp(), destination: OUTSIDE6 }), 'no-identity');
    datapath.apply([prefixStep('::/0', 1)]);
    passes(from(a, { ...udp(), destination: OUTSIDE6 }));
  });

  it('passes ICMP errors of a live connection alone', () => {
    passes(from(a, { ...udp(), destination: b.v4 }));
    const about = (fields: FrameFields): Uint8Array => ipPacket(fields).subarray(0, 28);
    const live = about({ ...udp(), source: a.v4, destination: b.v4 });
    const error = (body: Uint8Array): Omit<FrameFields, 'source' | 'destination'> => ({
      protocol: ICMP,
      icmp: { type: 3, code: 3, body },
    });
    passes(from(b, { ...error(live), destination: a.v4 }));
    passes(to(a, { source: OUTSIDE, ...error(live) }));
    const dead = about({ ...udp({ destinationPort: 54 }), source: a.v4, destination: b.v4 });
    drops(from(b, { ...error(dead), destination: a.v4 }), 'icmp-unrelated');
    const foreign = about({ ...udp(), source: a.v4, destination: OUTSIDE });
    drops(from(b, { ...error(foreign), destination: a.v4 }), 'icmp-unrelated');
    drops(from(b, { ...error(live), destination: OUTSIDE }), 'icmp-unrelated');
  });

  it('takes echo replies only for requests, under the requester’s direction', () => {
    const echo = (type: number): Omit<FrameFields, 'source' | 'destination'> => ({
      protocol: ICMP,
      icmp: { type, id: port },
    });
    drops(from(a, { ...echo(0), destination: b.v4 }), 'mid-flow');
    passes(from(a, { ...echo(8), destination: b.v4 }));
    passes(from(b, { ...echo(0), destination: a.v4 }));
    datapath.apply(open(b, { egress: 9 }));
    passes(from(b, { ...echo(0), destination: a.v4 }));
    drops(from(b, { ...echo(8), destination: a.v4 }), 'policy');
    passes(from(a, { protocol: ICMPV6, icmp: { type: 128, id: port }, destination: b.v6 }));
  });

  it('gives later fragments the verdict of the first, and needs one verdict for all ports without it', () => {
    const fragment = (offset: number, id: number): Partial<FrameFields> => ({
      fragment: { id, offset, more: true },
      payload: offset === 0 ? ipPacket({ ...udp(), source: a.v4, destination: b.v4 }).subarray(20) : Buffer.alloc(16),
    });
    for (const [destination, id] of [
      [b.v4, 1],
      [b.v6, 2],
    ] as const) {
      datapath.apply([...portSet(30), ...open(b, { ingress: 30 })]);
      drops(from(a, { ...udp(fragment(10, id)), destination }), 'fragment-unknown');
      passes(from(a, { ...udp(fragment(0, id)), destination }));
      passes(from(a, { ...udp(fragment(10, id)), destination }));
      drops(from(a, { ...udp(fragment(10, id + 50)), destination }), 'fragment-unknown');
      datapath.apply(open(b, { ingress: 8 }));
      passes(from(a, { ...udp(fragment(10, id + 60)), destination }));
      datapath.apply(open(b, { ingress: 9 }));
      drops(from(a, { ...udp(fragment(10, id + 60)), destination }), 'policy');
      drops(from(a, { ...tcp('S', fragment(1, id + 70)), destination }), 'fragment-tiny');
    }
    const short = { fragment: { id: 9, offset: 0, more: true }, payload: Buffer.alloc(8) };
    drops(from(a, { ...tcp('S', short), destination: b.v4 }), 'fragment-tiny');
  });

  /** Allows UDP 53 to everybody, denies the rest. */
  function portSet(number: number): Step[] {
    const at = (UDP << 16) | 53;
    const table = [
      interval(0, at - 1, 'deny', 300),
      interval(at, at, 'allow', 301),
      interval(at + 1, 0xff_ffff, 'deny', 302),
    ];
    return [
      { kind: 'table', table: number * 100, value: table },
      { kind: 'layer', layer: number, value: { base: number * 100 } },
      { kind: 'set', set: number, value: { layers: [number] } },
    ];
  }

  it('looks behind IPv6 extension headers, and refuses what would change the destination', () => {
    datapath.apply([...portSet(31), ...open(b, { ingress: 31 })]);
    const options = Buffer.alloc(8);
    options[0] = UDP;
    const hop = { extensions: { nextHeader: 60, bytes: options } };
    passes(from(a, { ...udp(hop), destination: b.v6 }));
    drops(from(a, { ...udp({ ...hop, destinationPort: 54 }), destination: b.v6 }), 'policy');
    const routing = Buffer.from([UDP, 0, 0, 1, 0, 0, 0, 0]);
    drops(
      from(a, { ...udp({ extensions: { nextHeader: 43, bytes: routing } }), destination: b.v6 }),
      'extension-header',
    );
    const chain = Buffer.alloc(64);
    for (let each = 0; each < 8; each++) chain[each * 8] = each === 7 ? UDP : 60;
    drops(from(a, { ...udp({ extensions: { nextHeader: 60, bytes: chain } }), destination: b.v6 }), 'extension-header');
    const source = Buffer.from([131, 7, 4, 10, 9, 0, 2, 0]);
    drops(from(a, { ...udp({ options: source }), destination: b.v4 }), 'malformed');
  });

  it('refuses packets that contradict themselves', () => {
    const bytes = Buffer.from(frame({ ...udp(), sourceMac: a.link.mac, source: a.v4, destination: b.v4 }));
    const changed = (at: number, value: number): Injected => {
      const copy = Buffer.from(bytes);
      copy[at] = value;
      return inject(datapath, { frame: copy, hook: 'from-pod', interfaceIndex: a.link.interfaceIndex });
    };
    drops(changed(14, 0x55), 'malformed');
    drops(changed(14, 0x44), 'malformed');
    drops(changed(16, 0xff), 'malformed');
    drops(changed(17, 10), 'malformed');
    drops(from(a, { ...tcp('SF'), destination: b.v4 }), 'malformed');
    drops(from(a, { ...tcp('S', { payload: Buffer.alloc(8) }), destination: b.v4 }), 'malformed');
  });

  it('lets ARP and NDP claim the pod’s own addresses alone', () => {
    const arp = (sender: Address, mac: Uint8Array): Uint8Array => {
      const bytes = Buffer.from([0, 1, 8, 0, 6, 4, 0, 2, ...mac, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9, 169, 254, 1, 1]);
      bytes.writeUInt32BE(sender.words[0] ?? 0, 14);
      return bytes;
    };
    passes(raw(a, 0x0806, arp(a.v4, a.link.mac)));
    drops(raw(a, 0x0806, arp(b.v4, a.link.mac)), 'spoofed-neighbour');
    drops(raw(a, 0x0806, arp(a.v4, b.link.mac)), 'spoofed-neighbour');
    const advert = (target: Address, mac: Uint8Array): Uint8Array => {
      const body = Buffer.alloc(24);
      for (const [index, word] of target.words.entries()) body.writeUInt32BE(word, 4 * index);
      body.set([2, 1, ...mac], 16);
      return body;
    };
    const neighbour = (body: Uint8Array, ttl = 255): Injected =>
      from(a, { protocol: ICMPV6, ttl, icmp: { type: 136, body }, destination: address('ff02::1') });
    passes(neighbour(advert(a.v6, a.link.mac)));
    drops(neighbour(advert(b.v6, a.link.mac)), 'spoofed-neighbour');
    drops(neighbour(advert(a.v6, b.link.mac)), 'spoofed-neighbour');
    drops(neighbour(advert(a.v6, a.link.mac), 64), 'spoofed-neighbour');
    const router = { type: 134, body: Buffer.alloc(8) };
    drops(from(a, { protocol: ICMPV6, ttl: 255, icmp: router, destination: address('ff02::1') }), 'spoofed-neighbour');
  });

  it('judges SCTP and protocols without ports by their places on the axis', () => {
    passes(from(a, { protocol: SCTP, sourcePort: port, destinationPort: 90, destination: b.v4 }));
    passes(from(a, { protocol: 47, destination: b.v4 }));
    datapath.apply([...portSet(32), ...open(b, { ingress: 32 })]);
    drops(from(a, { protocol: SCTP, sourcePort: port + 1, destinationPort: 53, destination: b.v4 }), 'policy');
    drops(from(a, { protocol: 50, destination: b.v4 }), 'policy');
  });

  it('denies on an interface whose endpoint is gone', () => {
    datapath.apply(b.link.addresses.map((each): Step => ({ kind: 'endpoint', address: each, value: null })));
    drops(from(a, { ...udp(), destination: b.v4 }), 'no-endpoint');
    drops(from(b, { ...udp(), destination: a.v4 }), 'no-endpoint');
    drops(to(b, { source: OUTSIDE, ...udp() }), 'no-endpoint');
  });
});
