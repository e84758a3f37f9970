// Attacks over real veths, by whole frames: what BPF_PROG_TEST_RUN can't carry, and what the kernel makes of packets
// on their way to the hooks. The victim is listened to below IP and must see nothing but the control. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { arp, BROADCAST_MAC, concat, icmpError, ip, neighbour, type PortSpec, tcp, udp } from '#datapath/packets.ts';
import type { DropReason } from '#datapath/port.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsFirewall, needsRoot } from '#test/support/needs.ts';
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

/** The port at which everybody may speak to the victim. */
const OPEN_PORT = 53;
const CLOSED_PORT = 54;
const ALLOWED = 10;
const PEERS = 5;

describe('attacks over real veths (root)', needsRoot, () => {
  let net: WireBed;
  let datapath: EbpfDatapath;

  before(() => {
    mountBpffs();
    net = new WireBed('wire', 3);
    const { pods } = net.bed;
    datapath = openOn(net);
    const open = (UDP << 16) | OPEN_PORT;
    // The victim: whoever speaks to it speaks UDP to one port.
    const victim = isolatingSet(9, 90, new Map([[PEERS, [interval(open, open, 'allow', ALLOWED)]]]));
    const peers = [...pods.flatMap(({ v4, v6 }) => [v4, v6]), ...NODE, OUTSIDER.v4, OUTSIDER.v6];
    datapath.apply([
      ...ground(),
      ...identitySteps(PEERS, peers),
      ...victim,
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

  /** The victim's address of the family. */
  function victim(family: 4 | 6): Address {
    return family === 4 ? net.pod(1).v4 : net.pod(1).v6;
  }

  type Sender = { readonly v4: Address; readonly v6: Address };

  /** How many of these frames arrived at the victim. */
  function arrived(place: Place, from: Sender, frames: readonly Uint8Array[]): number {
    return arrivals(place, from, frames).length;
  }

  /** Those of these frames that arrived at the victim, as they did. */
  function arrivals(place: Place, from: Sender, frames: readonly Uint8Array[]): readonly Uint8Array[] {
    for (const frame of frames) place.wire.send(frame);
    const control = udp({ ...by(place), from: from.v4, to: victim(4), ...ports(OPEN_PORT), payload: controlPayload() });
    return net.arrivals(net.pod(1), () => place.wire.send(control));
  }

  /** What the datapath dropped since the test began. */
  function reasons(): readonly string[] {
    return [...new Set(datapath.poll().events.flatMap(({ kind, reason }) => (kind === 'drop' ? [reason] : [])))].sort();
  }

  /** What a pod sends that must not arrive, and the reason that is told. */
  type Attack = {
    readonly name: string;
    readonly reason: DropReason;
    readonly frames: () => readonly Uint8Array[];
    /** The kernel alone refuses it, too. */
    readonly kernelRefuses?: true;
  };

  const both = (make: (family: 4 | 6) => readonly Uint8Array[]): readonly Uint8Array[] =>
    [4, 6].flatMap((family) => make(family === 4 ? 4 : 6));

  /** A datagram of the attacker to the victim's open port: allowed, but for what is changed in it. */
  function allowed(family: 4 | 6, change: Partial<PortSpec> = {}): Uint8Array {
    const attacker = net.pod(0);
    const from = family === 4 ? attacker.v4 : attacker.v6;
    return udp({
      ...by(net.at(attacker)),
      from,
      to: victim(family),
      ...ports(OPEN_PORT),
      payload: marked(40),
      ...change,
    });
  }

  /** The frame with tags between its MACs and its type. */
  function tagged(frame: Uint8Array, ...tags: readonly number[]): Uint8Array {
    return concat(frame.subarray(0, 12), tags, frame.subarray(12));
  }

  /** Priority alone: the kernel takes the tag for none. */
  const TAGS_OF_0 = [
    [0x81, 0, 0, 0],
    [0x81, 0, 0xe0, 0],
  ];

  /** Of networks that the node's end of the veth is not in. */
  const TAGS = [
    [0x81, 0, 0, 5],
    [0x88, 0xa8, 0, 5],
    [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6],
    [0x81, 0, 0, 5, 0x81, 0, 0, 6],
  ];

  const other = (family: 4 | 6): Address => (family === 4 ? net.pod(2).v4 : net.pod(2).v6);

  const attacks: readonly Attack[] = [
    {
      name: 'with VLAN tags, which the kernel takes out of the frame before the hook, and forgets where they say 0',
      reason: 'ethertype',
      frames: () => both((family) => TAGS_OF_0.map((tags) => tagged(allowed(family), ...tags))),
    },
    {
      name: 'with VLAN tags of a network that nobody is in',
      kernelRefuses: true,
      reason: 'ethertype',
      frames: () => both((family) => TAGS.map((tags) => tagged(allowed(family), ...tags))),
    },
    {
      name: 'with another pod’s, the node’s or an outsider’s address',
      reason: 'spoofed-source',
      frames: () => [
        ...both((family) => [allowed(family, { from: other(family) })]),
        ...[...NODE.filter((each) => each.family === 6), OUTSIDER.v4, OUTSIDER.v6].map((from) =>
          allowed(from.family, { from }),
        ),
      ],
    },
    {
      name: 'with the node’s IPv4 address, which the node itself refuses from elsewhere',
      kernelRefuses: true,
      reason: 'spoofed-source',
      frames: () => NODE.filter((each) => each.family === 4).map((from) => allowed(4, { from })),
    },
    {
      name: 'with another pod’s MAC',
      reason: 'spoofed-source',
      frames: () => both((family) => [allowed(family, { sourceMac: net.pod(2).link.mac })]),
    },
    {
      name: 'to everybody’s MAC',
      kernelRefuses: true,
      reason: 'multicast',
      frames: () => both((family) => [allowed(family, { destinationMac: BROADCAST_MAC })]),
    },
    {
      name: 'cut off anywhere, shorter than any IP header too',
      kernelRefuses: true,
      reason: 'malformed',
      frames: () =>
        both((family) => {
          const frame = allowed(family);
          return Array.from({ length: frame.length - 14 }, (_, index) => frame.subarray(0, 14 + index));
        }),
    },
    {
      name: 'by a source route',
      kernelRefuses: true,
      reason: 'malformed',
      frames: () => [131, 137].map((route) => allowed(4, { options: Uint8Array.of(route, 7, 4, 10, 9, 0, 3, 0) })),
    },
    {
      name: 'in a TCP fragment that rewrites the flags of the first',
      reason: 'fragment-tiny',
      frames: () =>
        both((family) => {
          const { from, to } = endsOf(family);
          return [
            ip({ ...by(net.at(net.pod(0))), from, to, fragment: { id: 77, offset: 1, more: false } }, TCP, marked(40)),
          ];
        }),
    },
    {
      name: 'in tunnels that policy does not name',
      reason: 'policy',
      frames: () =>
        both((family) =>
          [4, 41, 47, 50, 51].map((protocol) =>
            ip({ ...by(net.at(net.pod(0))), ...endsOf(family) }, protocol, allowed(family).subarray(14)),
          ),
        ),
    },
    {
      name: 'as a segment that nobody waits for',
      reason: 'mid-flow',
      frames: () =>
        both((family) =>
          ['A', 'SA', 'R', 'RA', 'FA', 'PA', 'FPU', ''].map((flags) =>
            tcp({ ...by(net.at(net.pod(0))), ...endsOf(family), ...ports(OPEN_PORT), flags, payload: marked(30) }),
          ),
        ),
    },
    {
      name: 'as a segment that opens and ends',
      reason: 'malformed',
      frames: () =>
        both((family) =>
          ['SF', 'SR', 'SFA', 'SFRPAU'].map((flags) =>
            tcp({ ...by(net.at(net.pod(0))), ...endsOf(family), ...ports(OPEN_PORT), flags, payload: marked(30) }),
          ),
        ),
    },
    {
      name: 'as an ICMP error about somebody else’s datagram',
      reason: 'icmp-unrelated',
      frames: () =>
        both((family) => {
          const { from, to } = endsOf(family);
          const inner = udp({ from: to, to: other(family), ...ports(OPEN_PORT), payload: marked(30) });
          return [icmpError({ ...by(net.at(net.pod(0))), from, to, inner })];
        }),
    },
    {
      name: 'from an IPv6 address that is an IPv4 one',
      reason: 'v4-mapped',
      frames: () => [allowed(6, { from: '::ffff:10.9.0.1' })],
    },
    {
      name: 'to a loopback address',
      kernelRefuses: true,
      reason: 'malformed',
      frames: () => [allowed(4, { to: '127.0.0.1' }), allowed(6, { to: '::1' }), allowed(4, { to: '0.0.0.0' })],
    },
  ];

  function endsOf(family: 4 | 6): { readonly from: Address; readonly to: Address } {
    return { from: family === 4 ? net.pod(0).v4 : net.pod(0).v6, to: victim(family) };
  }

  for (const { name, reason, frames } of attacks) {
    it(`from a pod, ${name}: nothing arrives`, () => {
      assert.equal(arrived(net.at(net.pod(0)), net.pod(0), frames()), 0);
      assert.ok(reasons().includes(reason));
    });
  }

  it('without the hooks, what the kernel alone does not refuse arrives', () => {
    const ends = [net.pod(0), net.pod(1)];
    for (const { link } of ends) datapath.detach(link.interfaceIndex);
    try {
      const wrong = attacks.flatMap(({ name, frames, kernelRefuses }) => {
        const sent = frames();
        const got = arrived(net.at(net.pod(0)), net.pod(0), sent);
        return got === (kernelRefuses ? 0 : sent.length) ? [] : [`${name}: ${got} of ${sent.length}`];
      });
      assert.deepEqual(wrong, []);
    } finally {
      for (const { link } of ends) datapath.attach(link);
    }
  });

  for (const family of [4, 6] as const) {
    it(`a first fragment to an open port speaks for no other that overlaps its ports (IPv${family})`, () => {
      const pieces = (): readonly Uint8Array[] => {
        const id = fragmentId++;
        const piece = (dport: number, more: boolean): Uint8Array =>
          allowed(family, { dport, payload: marked(32), fragment: { id, offset: 0, more } });
        // Offsets are in units of 8 bytes, and ports lie in the first 4: nothing at another offset overlaps these.
        return [piece(OPEN_PORT, true), piece(CLOSED_PORT, true), piece(CLOSED_PORT, false)];
      };
      assert.deepEqual(portsOf(family, arrivals(net.at(net.pod(0)), net.pod(0), pieces())), [OPEN_PORT]);
      assert.deepEqual(reasons(), ['policy']);
      const links = [net.pod(0).link, net.pod(1).link];
      for (const { interfaceIndex } of links) datapath.detach(interfaceIndex);
      try {
        assert.deepEqual(portsOf(family, arrivals(net.at(net.pod(0)), net.pod(0), pieces())), [
          OPEN_PORT,
          CLOSED_PORT,
          CLOSED_PORT,
        ]);
      } finally {
        for (const link of links) datapath.attach(link);
      }
    });
  }

  it('a pod’s datagram of the same kind arrives, with padding behind it too', () => {
    const frames = both((family) => [allowed(family), concat(allowed(family), new Uint8Array(20))]);
    assert.equal(arrived(net.at(net.pod(0)), net.pod(0), frames), frames.length);
    assert.deepEqual(reasons(), []);
  });

  it('an outsider with the address of a pod of this node, or of nobody, reaches nobody', () => {
    const from = [...net.pod(2).link.addresses, ...['224.0.0.1', '127.0.0.1', 'ff02::1'].map(address)];
    const frames = from.map((each) =>
      udp({ ...by(net.outsider), from: each, to: victim(each.family), ...ports(OPEN_PORT), payload: marked(40) }),
    );
    assert.equal(arrived(net.outsider, OUTSIDER, frames), 0);
    assert.deepEqual(
      reasons().filter((reason) => reason !== 'malformed'),
      ['spoofed-source'],
    );
    const honest = [OUTSIDER.v4, OUTSIDER.v6].map((each) =>
      udp({ ...by(net.outsider), from: each, to: victim(each.family), ...ports(OPEN_PORT), payload: marked(40) }),
    );
    assert.equal(arrived(net.outsider, OUTSIDER, honest), 2);
  });

  it('nobody is believed to be another’s neighbour', () => {
    const [attacker, third] = [net.pod(0), net.pod(2)];
    const place = net.at(attacker);
    const neighbours = (): string => net.onNode('ip', 'neigh', 'show');
    const claims = [third.v4, victim(4)].flatMap((sender) =>
      [1, 2].map((operation) =>
        arp({ operation, senderMac: attacker.link.mac, sender, target: address('169.254.1.1') }),
      ),
    );
    const advertised = [third.v6, victim(6), address('fe80::1')].map((target) =>
      neighbour({ ...by(place), type: 'advertisement', from: attacker.v6, to: 'fd00::1', target, option: place.mac }),
    );
    assert.equal(arrived(place, attacker, [...claims, ...advertised]), 0);
    assert.deepEqual(reasons(), ['spoofed-neighbour']);
    const own = Buffer.from(attacker.link.mac).toString('hex').match(/../g)?.join(':') ?? '';
    const lines = neighbours()
      .split('\n')
      .filter((line) => line.includes(own));
    assert.ok(lines.length > 0 && lines.every((line) => line.includes(' dev h1 ')), lines.join('; '));
    for (const { v4, v6 } of [third, net.pod(1)]) {
      assert.ok(!lines.some((line) => [v4, v6].some((each) => line.startsWith(`${formatAddress(each)} `))));
    }
  });

  describe('a node that puts datagrams together, as conntrack does', needsFirewall, () => {
    before(() => {
      const rule = ['-A', 'FORWARD', '-m', 'conntrack', '--ctstate', 'INVALID', '-j', 'DROP'];
      for (const program of ['iptables', 'ip6tables']) net.onNode(program, ...rule);
    });

    after(() => {
      for (const program of ['iptables', 'ip6tables']) net.onNode(program, '-F');
    });

    /**
     * A datagram in two fragments. `wide`: the first has a header before its fragment header that the second lacks, so
     * that the node must copy, and can't reuse, what it got.
     */
    function fragments(from: Address, port: number, shape: 'plain' | 'wide'): readonly Uint8Array[] {
      const to = victim(from.family);
      const spec = { ...by(net.outsider), from, to };
      const datagram = udp({ ...spec, ...ports(port), payload: marked(1592) }).subarray(from.family === 4 ? 34 : 54);
      const headers = shape === 'wide' ? [{ header: 60, body: concat([30], new Uint8Array(246)) }] : [];
      const place = (offset: number) => ({ id: fragmentId++ >> 1, offset: offset / 8, more: offset === 0 });
      return [
        ip({ ...spec, headers, fragment: place(0) }, UDP, datagram.subarray(0, 800)),
        ip({ ...spec, fragment: place(800) }, UDP, datagram.subarray(800)),
      ];
    }

    for (const shape of ['plain', 'wide'] as const) {
      it(`does not take for its own what comes with its address in fragments (${shape})`, () => {
        for (const from of NODE.filter(({ family }) => family === 6)) {
          assert.equal(arrived(net.outsider, OUTSIDER, fragments(from, CLOSED_PORT, shape)), 0);
          assert.ok(reasons().includes('policy'));
        }
      });

      it(`lets through what policy allows in fragments (${shape})`, () => {
        for (const from of [OUTSIDER.v4, OUTSIDER.v6]) {
          if (from.family === 4 && shape === 'wide') continue;
          assert.ok(arrived(net.outsider, OUTSIDER, fragments(from, OPEN_PORT, shape)) > 0);
          assert.deepEqual(reasons(), []);
        }
      });
    }

    it('knows its own datagrams in fragments', () => {
      for (const family of [4, 6] as const) {
        const socket = sockets.openSocket(family, 'datagram');
        const own = NODE.find((each) => each.family === family);
        assert.ok(own);
        sockets.bindSocket(socket, own, 0);
        const payload = marked(3000);
        sockets.sendSocket(socket, payload, { address: victim(family), port: CLOSED_PORT });
        const seen: Uint8Array[] = [];
        waitFor(() => seen.push(...net.at(net.pod(1)).wire.received()) >= 3, 500);
        assert.ok(seen.length >= 3, `${seen.length} fragments of the node's own arrived`);
        sockets.closeSocket(socket);
      }
      assert.deepEqual(reasons(), []);
    });
  });
});

let fragmentId = 200;

function ports(dport: number): { readonly sport: number; readonly dport: number } {
  return { sport: 4000, dport };
}

/** The ports that UDP fragments at offset 0 are sent to. IPv4 without options; IPv6 with a fragment header alone. */
function portsOf(family: 4 | 6, frames: readonly Uint8Array[]): readonly number[] {
  const at = 14 + (family === 4 ? 20 : 40 + 8) + 2;
  return frames.map((frame) => ((frame[at] ?? 0) << 8) | (frame[at + 1] ?? 0));
}
