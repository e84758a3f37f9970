// More attacks over real veths by whole frames (wire.test.ts has the others): headers that hide ports or lead elsewhere,
// errors in pieces, connections begun from both ends, groups, and resets of a live connection. Needs root.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, beforeEach, describe, it } from 'node:test';
import { concat, type ExtensionHeader, icmpError, ip, type PortSpec, tcp, udp } from '#datapath/packets.ts';
import type { DropReason } from '#datapath/port.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { ICMP, ICMPV6, type Protocol, TCP, UDP } from '#net/protocol.ts';
import { Conversation, MOMENT_MS } from '#test/support/conversation.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, waitFor } from '#test/support/pod-bed.ts';
import {
  by,
  closeOn,
  controlPayload,
  marked,
  NODE,
  OUTSIDER,
  openOn,
  type Place,
  WireBed,
} from '#test/support/wire-bed.ts';
import type { EbpfDatapath } from './open.ts';

/** The port at which everybody may speak to the victim, by UDP and TCP. */
const OPEN_PORT = 53;
const CLOSED_PORT = 54;
const [HOP_BY_HOP, ROUTING, DESTINATION, MOBILITY] = [0, 43, 60, 135];
const [RECORD_ROUTE, TIMESTAMP, LOOSE_ROUTE, STRICT_ROUTE, ROUTER_ALERT] = [7, 68, 131, 137, 148];
/** Longer than what half-open and closing connections live, and far less than established ones do. */
const REST_SECONDS = 600;

type Family = 4 | 6;

/** What a pod sends that must not arrive, and the reason that is told. */
type Attack = {
  readonly name: string;
  readonly reason: DropReason;
  /** Told of some of the frames. */
  readonly also?: readonly DropReason[];
  readonly frames: () => readonly Uint8Array[];
  /** The kernel alone refuses it, too. */
  readonly kernelRefuses?: true;
};

describe('headers, errors and connections over real veths (root)', needsRoot, () => {
  let net: WireBed;
  let datapath: EbpfDatapath;

  before(() => {
    mountBpffs();
    net = new WireBed('wire-attacks', 3);
    // A node that follows source routes: what one could gain by them is seen where the hooks are off.
    for (const name of ['all', 'h1']) writeFileSync(`/proc/sys/net/ipv4/conf/${name}/accept_source_route`, '1');
    const { pods } = net.bed;
    datapath = openOn(net);
    const open = [TCP, UDP].map((protocol) => (protocol << 16) | OPEN_PORT);
    const allowed = open.map((port, index) => interval(port, port, 'allow', 10 + index));
    const peers = [...pods.flatMap(({ v4, v6 }) => [v4, v6]), ...NODE, OUTSIDER.v4, OUTSIDER.v6];
    datapath.apply([
      ...ground(),
      ...identitySteps(5, peers),
      ...isolatingSet(9, 90, new Map([[5, allowed]])),
      ...pods.flatMap((pod, index) =>
        pod.link.addresses.map((each) => endpointStep(each, index === 1 ? { ingress: 9 } : {}, pod.name)),
      ),
      { kind: 'node', node: 'node-a', value: NODE },
    ]);
  });

  after(() => closeOn(net, datapath));

  beforeEach(() => {
    datapath.poll();
    net.at(net.pod(1)).wire.received();
  });

  const attacker = (): Place => net.at(net.pod(0));
  const addressOf = (index: number, family: Family): Address => (family === 4 ? net.pod(index).v4 : net.pod(index).v6);
  const victim = (family: Family): Address => addressOf(1, family);
  const both = (make: (family: Family) => readonly Uint8Array[]): readonly Uint8Array[] => [...make(4), ...make(6)];
  const ends = (family: Family): { readonly from: Address; readonly to: Address } => ({
    from: addressOf(0, family),
    to: victim(family),
  });

  /** A datagram of the attacker to a port of the victim. */
  function datagram(family: Family, dport: number, change: Partial<PortSpec> = {}): Uint8Array {
    return udp({ ...by(attacker()), ...ends(family), sport: 4000, dport, payload: marked(40), ...change });
  }

  /** How many of these frames arrived at the victim. */
  function arrived(place: Place, from: Address, frames: readonly Uint8Array[]): number {
    for (const frame of frames) place.wire.send(frame);
    const last = { sport: 4000, dport: OPEN_PORT, payload: controlPayload() };
    const control = udp({ ...by(place), from, to: victim(from.family), ...last });
    return net.arrivals(net.pod(1), () => place.wire.send(control)).length;
  }

  function reasons(): readonly string[] {
    return [...new Set(datapath.poll().events.flatMap(({ kind, reason }) => (kind === 'drop' ? [reason] : [])))].sort();
  }

  /** A header of 8 bytes with nothing but padding in it. */
  const padded = (header: number): ExtensionHeader => ({ header, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) });
  const routing = (left: number, kind = 0): ExtensionHeader => ({
    header: ROUTING,
    body: concat([2, kind, left, 0, 0, 0, 0], new Uint8Array(16)),
  });
  const HARMLESS: readonly (readonly ExtensionHeader[])[] = [
    [padded(HOP_BY_HOP)],
    [padded(DESTINATION)],
    [routing(0)],
    [padded(HOP_BY_HOP), padded(DESTINATION), routing(0), padded(DESTINATION)],
  ];
  /** Their last bytes would be ports of the attacker's wish, were they read as UDP. */
  const OPTIONS: readonly Uint8Array[] = [
    Uint8Array.of(1, 1, 1, 0),
    Uint8Array.of(RECORD_ROUTE, 7, 4, 0, 0, 0, 0, 0),
    Uint8Array.of(TIMESTAMP, 8, 5, 0, 0, 0, OPEN_PORT, 0),
    Uint8Array.of(ROUTER_ALERT, 4, 0, 0),
  ];
  /** By way of the victim, whoever it is sent to. */
  const via = (route: number, pointer = 4): Uint8Array => concat([1, route, 7, pointer], Uint8Array.of(10, 9, 0, 2));

  /** The IP packet's payload, in two fragments. */
  function inPieces(family: Family, protocol: Protocol, payload: Uint8Array): readonly Uint8Array[] {
    const id = fragmentId++;
    const piece = (offset: number, bytes: Uint8Array): Uint8Array => {
      const fragment = { id, offset: offset / 8, more: offset === 0 };
      return ip({ ...by(attacker()), ...ends(family), fragment }, protocol, bytes);
    };
    return [piece(0, payload.subarray(0, 80)), piece(80, payload.subarray(80))];
  }

  /** An ICMP error about a datagram that the victim is said to have sent. */
  function error(family: Family, type: number, change: Partial<PortSpec> = {}): Uint8Array {
    const { from, to } = ends(family);
    const inner = udp({ from: to, to: from, sport: 7, dport: 9, payload: marked(120), ...change });
    return icmpError({ ...by(attacker()), from, to, type, inner });
  }

  /** The victim begins a connection with the attacker, whose answer is left to its kernel. */
  function beginAtVictim(family: Family, sport: number, dport: number): void {
    const { from, to } = ends(family);
    const place = net.at(net.pod(1));
    place.wire.send(tcp({ ...by(place), from: to, to: from, sport, dport }));
    const isIt = (frame: Uint8Array): boolean => segmentOf(frame, to)?.ports === `${sport} ${dport}`;
    assert.ok(
      waitFor(() => attacker().wire.received().some(isIt), 2000),
      'the victim’s SYN arrives',
    );
  }

  const attacks: readonly Attack[] = [
    {
      name: 'to a closed port behind extension headers that hide nothing',
      reason: 'policy',
      frames: () => HARMLESS.map((headers) => datagram(6, CLOSED_PORT, { headers })),
    },
    {
      name: 'to a closed port behind IPv4 options that hide nothing',
      reason: 'policy',
      frames: () => OPTIONS.map((options) => datagram(4, CLOSED_PORT, { options })),
    },
    {
      name: 'by a routing header with a way to go, of any kind',
      reason: 'extension-header',
      frames: () => [0, 2, 3, 4, 253].map((kind) => datagram(6, OPEN_PORT, { headers: [routing(1, kind)] })),
    },
    {
      name: 'behind headers that nobody understands, or more than are followed',
      reason: 'extension-header',
      frames: () => [
        datagram(6, OPEN_PORT, { headers: [padded(MOBILITY)] }),
        datagram(6, OPEN_PORT, { headers: [139, 140].map(padded) }),
        datagram(6, OPEN_PORT, { headers: [padded(HOP_BY_HOP), ...Array(20).fill(padded(DESTINATION))] }),
      ],
    },
    {
      name: 'in a fragment of a fragment',
      reason: 'extension-header',
      frames: () => {
        const outer = { header: 44, body: Uint8Array.of(0, 0, 1, 0, 0, 0, 99) };
        return [datagram(6, OPEN_PORT, { headers: [outer], fragment: { id: 98, offset: 0, more: true } })];
      },
    },
    {
      name: 'as a protocol that is none, or that policy does not name',
      reason: 'policy',
      frames: () => [59, 253].map((protocol) => ip({ ...by(attacker()), ...ends(6) }, protocol, marked(40))),
    },
    {
      name: 'as the rest of a datagram whose start nobody saw',
      reason: 'fragment-unknown',
      frames: () =>
        both((family) => [datagram(family, OPEN_PORT, { fragment: { id: fragmentId++, offset: 4, more: false } })]),
    },
    {
      name: 'to the node by a source route that goes on to a closed port of the victim',
      reason: 'malformed',
      frames: () => [datagram(4, CLOSED_PORT, { to: address('192.0.2.1'), options: via(LOOSE_ROUTE) })],
    },
    {
      name: 'by a source route that is at its end already',
      reason: 'malformed',
      frames: () => [LOOSE_ROUTE, STRICT_ROUTE].map((route) => datagram(4, OPEN_PORT, { options: via(route, 8) })),
    },
    {
      name: 'as an ICMP error about a datagram that was never sent',
      reason: 'icmp-unrelated',
      frames: () => [...[3, 11, 12].map((type) => error(4, type)), ...[1, 2, 3, 4].map((type) => error(6, type))],
    },
    {
      name: 'as an ICMP error about what cannot have been sent: cut, of a group, of another protocol',
      reason: 'icmp-unrelated',
      frames: () =>
        both((family) => [
          error(family, family === 4 ? 3 : 1, { to: family === 4 ? '224.0.0.1' : 'ff02::1' }),
          error(family, family === 4 ? 3 : 1, { from: family === 4 ? '127.0.0.1' : '::1' }),
          icmpError({ ...by(attacker()), ...ends(family), inner: concat(new Uint8Array(14), marked(24)) }),
        ]),
    },
    {
      name: 'as an ICMP error in pieces',
      reason: 'icmp-unrelated',
      also: ['policy'],
      frames: () =>
        both((family) => {
          const whole = error(family, family === 4 ? 3 : 1);
          return inPieces(family, family === 4 ? ICMP : ICMPV6, whole.subarray(family === 4 ? 34 : 54));
        }),
    },
    {
      name: 'as a SYN from both ends at once: the victim’s own gives the other none',
      reason: 'policy',
      frames: () =>
        both((family) => {
          beginAtVictim(family, CLOSED_PORT, 4100);
          const back = { sport: 4100, dport: CLOSED_PORT, payload: marked(30) };
          return [tcp({ ...by(attacker()), ...ends(family), ...back })];
        }),
    },
    {
      name: 'as a SYN on the ports of a connection that the victim began and that is over',
      reason: 'policy',
      frames: () =>
        both((family) => {
          const ports = { sport: 4200, dport: CLOSED_PORT };
          beginAtVictim(family, ports.dport, ports.sport);
          const spec = { ...by(attacker()), ...ends(family), ...ports };
          for (const flags of ['SA', 'FA']) attacker().wire.send(tcp({ ...spec, flags }));
          const place = net.at(net.pod(1));
          const own = { ...by(place), from: spec.to, to: spec.from, sport: ports.dport, dport: ports.sport };
          place.wire.send(tcp({ ...own, flags: 'FA', ack: 3 }));
          return [tcp({ ...spec, sequence: 100_000, payload: marked(30) })];
        }),
    },
    {
      name: 'to groups and to everybody',
      kernelRefuses: true,
      reason: 'multicast',
      frames: () => [
        ...['224.0.0.1', '239.255.255.250', '255.255.255.255'].map((to) => datagram(4, OPEN_PORT, { to })),
        ...['ff02::1', 'ff05::2', 'ff0e::1'].map((to) => datagram(6, OPEN_PORT, { to })),
      ],
    },
  ];

  for (const { name, reason, also = [], frames } of attacks) {
    it(`from a pod, ${name}: nothing arrives`, () => {
      assert.equal(arrived(attacker(), net.pod(0).v4, frames()), 0);
      assert.deepEqual(reasons(), [...also, reason].sort());
    });
  }

  it('without the hooks, all of them arrive but what the kernel alone refuses', () => {
    const links = [net.pod(0).link, net.pod(1).link];
    for (const link of links) datapath.detach(link.interfaceIndex);
    try {
      const wrong = attacks.flatMap(({ name, frames, kernelRefuses }) => {
        const sent = frames();
        const got = arrived(attacker(), net.pod(0).v4, sent);
        return got === (kernelRefuses ? 0 : sent.length) ? [] : [`${name}: ${got} of ${sent.length}`];
      });
      assert.deepEqual(wrong, []);
    } finally {
      for (const link of links) datapath.attach(link);
    }
  });

  it('what policy allows arrives behind the same headers and options', () => {
    const frames = [
      ...HARMLESS.map((headers) => datagram(6, OPEN_PORT, { headers })),
      ...OPTIONS.map((options) => datagram(4, OPEN_PORT, { options })),
    ];
    assert.equal(arrived(attacker(), net.pod(0).v4, frames), frames.length);
    assert.deepEqual(reasons(), []);
  });

  it('what is sent to groups at the pod’s own link does not arrive, and does without the hook', () => {
    const pod = net.pod(1);
    const place = net.hostSide(pod);
    const spec = { ...by(place), sport: 4000, dport: OPEN_PORT, payload: marked(40) };
    const frames = [
      ...['224.0.0.1', '255.255.255.255'].map((to) => udp({ ...spec, from: OUTSIDER.v4, to })),
      ...['ff02::1', 'ff0e::1'].map((to) => udp({ ...spec, from: OUTSIDER.v6, to })),
    ];
    try {
      // Who sends at this very interface is told of the drop.
      for (const each of frames) assert.throws(() => place.wire.send(each), { code: 'ENOBUFS' });
      assert.equal(arrived(place, OUTSIDER.v4, []), 0);
      assert.deepEqual(reasons(), ['multicast']);
      datapath.detach(pod.link.interfaceIndex);
      assert.equal(arrived(place, OUTSIDER.v4, frames), frames.length);
    } finally {
      datapath.attach(pod.link);
      place.wire.close();
    }
  });

  for (const family of [4, 6] as const) {
    it(`a live connection stands under resets that miss it or are not its peer’s, and ends by its own (IPv${family})`, () => {
      const from = family === 4 ? OUTSIDER.v4 : OUTSIDER.v6;
      const live = (): { readonly talk: Conversation; readonly reset: (flags: string, miss: number) => Uint8Array } => {
        net.at(net.pod(1)).wire.received();
        const at = { address: victim(family), port: OPEN_PORT };
        const files = { client: `/run/netns/${net.bed.prefix}-outside`, server: `/run/netns/${net.bed.prefix}-pod2` };
        const talk = new Conversation({ protocol: TCP, ...files, to: at, at });
        assert.ok(talk.exchange(3));
        const seen = net
          .at(net.pod(1))
          .wire.received()
          .flatMap((frame) => segmentOf(frame, from) ?? []);
        const last = seen.at(-1);
        assert.ok(last !== undefined);
        const [sport, dport] = [last.sport, OPEN_PORT];
        return {
          talk,
          reset: (flags, miss) =>
            tcp({ from, to: at.address, sport, dport, flags, sequence: (last.next + miss) >>> 0, ack: last.ack }),
        };
      };
      const send = (place: Place, frame: Uint8Array): void =>
        place.wire.send(concat(by(place).destinationMac ?? [], by(place).sourceMac ?? [], frame.subarray(12)));
      const { talk, reset } = live();
      for (const flags of ['R', 'RA']) {
        for (const miss of [-1, 1, 500, 1 << 21, 0x7fff_ffff]) send(net.outsider, reset(flags, miss));
        send(attacker(), reset(flags, 0));
      }
      assert.ok(talk.exchange(1), 'the peers go on');
      assert.deepEqual(reasons(), ['spoofed-source']);
      datapath.moveClock(REST_SECONDS);
      assert.ok(talk.exchange(1), 'nor does the datapath end it');
      talk.close();

      const other = live();
      send(net.outsider, other.reset('R', 0));
      assert.equal(other.talk.exchange(1, MOMENT_MS), false, 'by the peer');
      other.talk.close();

      const third = live();
      datapath.detach(net.pod(0).link.interfaceIndex);
      datapath.detach(net.pod(1).link.interfaceIndex);
      send(attacker(), third.reset('R', 0));
      for (const pod of [net.pod(0), net.pod(1)]) datapath.attach(pod.link);
      assert.equal(third.talk.exchange(1, MOMENT_MS), false, 'without hooks, by anybody');
      third.talk.close();
    });
  }
});

let fragmentId = 200;

type Seen = { readonly ports: string; readonly sport: number; readonly next: number; readonly ack: number };

/** A TCP segment of this sender, without IP options; `next`: the number after what it carries. */
function segmentOf(frame: Uint8Array, from: Address): Seen | null {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  const [type, protocol, source, start] = from.family === 4 ? [0x0800, 23, 26, 34] : [0x86dd, 20, 22, 54];
  if (frame.length < start + 20 || bytes.readUInt16BE(12) !== type || bytes[protocol] !== TCP) return null;
  if (from.words.some((word, index) => bytes.readUInt32BE(source + 4 * index) !== word)) return null;
  const end = from.family === 4 ? 14 + bytes.readUInt16BE(16) : 54 + bytes.readUInt16BE(18);
  const carried = end - start - (bytes.readUInt8(start + 12) >> 4) * 4;
  return {
    ports: `${bytes.readUInt16BE(start)} ${bytes.readUInt16BE(start + 2)}`,
    sport: bytes.readUInt16BE(start),
    next: bytes.readUInt32BE(start + 4) + carried,
    ack: bytes.readUInt32BE(start + 8),
  };
}
