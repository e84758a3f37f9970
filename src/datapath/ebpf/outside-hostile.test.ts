// What attacks by whole frames gain at a node port from outside, over real veths: nothing that is not an ordinary packet of
// an outsider to a Service enters a pod, and what does is that packet, for its backend. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import type { PlanService } from '#compile/plan.ts';
import { concat, type ExtensionHeader, ethernet, icmpError, ip, type PortSpec, tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type Protocol, TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { arbitraryBending, bend } from '#test/support/mutate-frame.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address } from '#test/support/pod-bed.ts';
import { samples } from '#test/support/property.ts';
import { REMOTE, UplinkBed } from '#test/support/uplink-bed.ts';
import { by, controlPayload, MARK, marked } from '#test/support/wire-bed.ts';

type Family = 4 | 6;
type Spec = PortSpec & { readonly flags?: string };

const FAMILIES = [4, 6] as const;
const NODE = { 4: address('198.51.100.1'), 6: address('2001:db8::1') };
/** Served by a pod that speaks to everybody, and by one that speaks to nobody. */
const OPEN_PORT = 53;
const SHUT_PORT = 54;
const LISTENS = 80;
/** More than the bed's tables have places. */
const FLOOD = 8000;
const FLAGS = [...'FSRPAU'];
const TPID = { 'a VLAN': [0x8100], QinQ: [0x88a8, 0x8100] };
const [IPIP, GRE, IPV6_IN_IP] = [4, 47, 41];

for (const attach of ATTACH_MODES) {
  describe(`hostile frames at a node port, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: UplinkBed;

    before(() => {
      mountBpffs();
      bed = new UplinkBed('outhostile', attach);
      for (const family of FAMILIES) {
        serve(family, OPEN_PORT, bed.own(0, family));
        serve(family, SHUT_PORT, bed.own(2, family));
      }
    });
    after(() => bed.destroy());
    beforeEach(() => bed.next());

    function serve(family: Family, port: number, by: Address): void {
      const backends = [{ address: by, port: LISTENS }];
      for (const protocol of [TCP, UDP]) {
        const at = { address: NODE[family], protocol, port, scope: 'outside' } as const;
        const value: PlanService = { ...at, backends, places: maglevPlaces(backends) };
        bed.datapath.apply([{ kind: 'service', at, value }]);
      }
    }

    let port = 20_000;
    /** Of an outsider to a node port, each by a flow of its own. */
    function spec(family: Family, more: Partial<Spec> = {}): Spec {
      const ends = { from: REMOTE[family], to: NODE[family], sport: port++, dport: OPEN_PORT };
      return { ...ends, ...by(bed.net.outsider), payload: marked(40), ...more };
    }
    const both = (family: Family, more: Partial<Spec> = {}): readonly Uint8Array[] => [
      tcp(spec(family, more)),
      udp(spec(family, more)),
    ];

    /** Those of the frames that some pod got, once an ordinary datagram sent last has arrived. */
    function entered(family: Family, frames: readonly Uint8Array[]): readonly Uint8Array[] {
      const { net } = bed;
      const { wire } = net.outsider;
      const others = [1, 2].map((pod) => bed.at(pod).wire);
      for (const each of [bed.at(0).wire, ...others]) each.received();
      for (const frame of frames) wire.send(frame);
      const control = udp(spec(family, { payload: controlPayload() }));
      const found = net.arrivals(net.pod(0), () => wire.send(control));
      const elsewhere = others.flatMap((each) => each.received().filter(isMarked));
      return [...found, ...elsewhere].filter((frame) => !isFromNode(frame, family));
    }

    /** The node's own stack tells whoever is said to have sent what it refuses. */
    function isFromNode(frame: Uint8Array, family: Family): boolean {
      return (
        addressAt(frame, family === 4 ? 26 : 22, NODE[family]) && [1, 58].includes(frame[family === 4 ? 23 : 20] ?? 0)
      );
    }

    const nothing = (family: Family, frames: readonly Uint8Array[]): void => {
      assert.ok(frames.length > 0);
      assert.deepEqual(
        entered(family, frames).map((each) => Buffer.from(each).toString('hex')),
        [],
      );
    };

    for (const family of FAMILIES) {
      const start = 14 + (family === 4 ? 20 : 40);
      const over = `over IPv${family}`;

      it(`${over} an ordinary packet enters, one for a pod that lets nobody in does not`, () => {
        assert.equal(entered(family, both(family)).length, 2);
        nothing(family, both(family, { dport: SHUT_PORT }));
      });

      it(`${over} of all flags of TCP a SYN alone opens a connection, whatever else is said with it`, () => {
        const opens: string[] = [];
        for (let bits = 0; bits < 1 << FLAGS.length; bits++) {
          const flags = FLAGS.filter((_, index) => bits & (1 << index)).join('');
          if (entered(family, [tcp(spec(family, { flags }))]).length > 0) opens.push(flags);
        }
        assert.deepEqual(opens.sort(), ['S', 'SP', 'SPU', 'SU'].sort());
      });

      it(`${over} what is cut short enters nowhere, wherever it is cut`, () => {
        const cut = both(family).flatMap((frame) =>
          Array.from({ length: frame.length - 14 }, (_, at) => frame.subarray(0, 14 + at)),
        );
        nothing(family, cut);
      });

      it(`${over} lengths that contradict each other enter nowhere`, () => {
        const [segment, datagram] = both(family);
        assert.ok(segment && datagram);
        const length = family === 4 ? 16 : 18;
        const set = (frame: Uint8Array, at: number, value: number): Uint8Array => frame.with(at, value);
        nothing(family, [
          // Of the datagram, under its header's: one beyond the packet is its receiver's to refuse.
          ...[1, 7].map((value) => set(datagram, start + 5, value)),
          // Of the segment's header: under five words, beyond the packet.
          set(tcp(spec(family, { payload: marked(30) })), start + 12, 0xf0),
          ...[0, 4].map((words) => set(segment, start + 12, words << 4)),
          // Of the packet: beyond the frame, and none at all.
          set(datagram, length, 0xff),
          set(segment, length, 0xff),
          ...(family === 4
            ? [0x44, 0x4f, 0x55, 0x65].map((value) => set(datagram, 14, value))
            : [set(segment, 14, 0x40)]),
        ]);
      });

      it(`${over} options and extension headers enter nowhere`, () => {
        const padded = (header: number): ExtensionHeader => ({ header, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) });
        const more: readonly Partial<Spec>[] =
          family === 4
            ? [
                [1, 1, 1, 0],
                [7, 7, 4, 0, 0, 0, 0, 0],
                [131, 7, 4, 10, 9, 0, 1, 0],
                [148, 4, 0, 0],
              ].map((each) => ({
                options: Uint8Array.from(each),
              }))
            : [[0], [60], [43], [135], [0, 60, 43], [60, 60, 60, 60, 60, 60, 60, 60, 60]].map((chain) => ({
                headers: chain.map(padded),
              }));
        nothing(
          family,
          more.flatMap((each) => both(family, each)),
        );
      });

      it(`${over} fragments enter nowhere: tiny, out of order, over one another, alone`, () => {
        const pieces = ([TCP, UDP] as const).flatMap((protocol, index) => {
          const whole = both(family)[index]?.subarray(start) ?? new Uint8Array();
          const piece = (offset: number, bytes: Uint8Array, isLast = false, id = 7): Uint8Array => {
            const { from, to, sourceMac, destinationMac } = spec(family);
            const place = { id: id + index, offset: offset / 8, more: !isLast };
            return ip({ from, to, sourceMac, destinationMac, fragment: place } as Spec, protocol as Protocol, bytes);
          };
          return [
            piece(8, whole.subarray(8), true),
            piece(0, whole.subarray(0, 8)),
            piece(0, whole.subarray(0, 32), false, 17),
            piece(16, whole.subarray(16), true, 17),
            piece(0, whole, true, 27),
            piece(0, whole, false, 37),
          ];
        });
        // An atomic one is whole: no fragment, but no ordinary packet either over IPv6.
        const whole = pieces.filter((_, index) => index % 6 !== 4 || family === 6);
        nothing(family, whole);
      });

      it(`${over} who says to be a pod, the node, or nobody at all enters nowhere`, () => {
        const liars: readonly (string | Address)[] = [
          ...[0, 1, 2].map((pod) => bed.own(pod, family)),
          NODE[family],
          ...(family === 4
            ? ['127.0.0.1', '0.0.0.0', '255.255.255.255', '224.0.0.1', '192.0.2.1']
            : ['::1', '::', 'ff02::1', 'fd00::1', `::ffff:${formatAddress(REMOTE[4])}`]),
        ];
        nothing(
          family,
          liars.flatMap((from) => both(family, { from })),
        );
      });

      it(`${over} what was not sent to the node alone, or is about to die, enters nowhere`, () => {
        const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
        const macs = [new Uint8Array(6).fill(0xff), group, Uint8Array.of(2, 9, 9, 9, 9, 9)];
        nothing(family, [
          ...macs.flatMap((destinationMac) => both(family, { destinationMac })),
          ...[0, 1].flatMap((hopLimit) => both(family, { hopLimit })),
          ...(family === 4 ? ['198.51.100.255', '255.255.255.255'] : ['ff02::1']).flatMap((to) => both(family, { to })),
        ]);
      });

      it(`${over} tags and tunnels are not looked into`, () => {
        const inner = both(family);
        const { sourceMac: source, destinationMac: destination } = by(bed.net.outsider);
        assert.ok(source && destination);
        const tagged = Object.values(TPID).flatMap((types) =>
          inner.map((frame) =>
            concat(frame.subarray(0, 12), ...types.map((type) => [type >> 8, type & 255, 0, 5]), frame.subarray(12)),
          ),
        );
        const spare = { sourceMac: source, destinationMac: destination };
        const outer = { from: REMOTE[family], to: NODE[family], ...spare };
        const packets = inner.map((frame) => frame.subarray(14));
        nothing(family, [
          ...tagged,
          ...packets.map((packet) => ip(outer, (family === 4 ? IPIP : IPV6_IN_IP) as Protocol, packet)),
          ...packets.map((packet) =>
            ip(outer, GRE as Protocol, concat(family === 4 ? [0, 0, 8, 0] : [0, 0, 0x86, 0xdd], packet)),
          ),
          ...[0x0806, 0x88cc, 0x9000].map((type) =>
            ethernet({ source, destination, type }, packets[0] ?? new Uint8Array()),
          ),
        ]);
      });

      it(`${over} errors about a flow to the Service enter nowhere, by whichever of its ends they name it`, () => {
        // But for who knows the pod's own end: that is an error as about any flow of the pod's.
        const asked = spec(family);
        assert.equal(entered(family, [udp(asked)]).length, 1);
        const answers = [
          { from: NODE[family], sport: OPEN_PORT },
          { from: bed.own(0, family), sport: LISTENS },
        ].map((end) => udp({ ...asked, ...end, to: REMOTE[family], dport: asked.sport }));
        const asks = [
          { to: NODE[family], dport: OPEN_PORT },
          { to: bed.own(0, family), dport: LISTENS },
        ].map((end) => udp({ ...asked, ...end }));
        const types = family === 4 ? [3, 5, 11, 12] : [1, 2, 3, 4, 137];
        nothing(
          family,
          types.flatMap((type) =>
            [...answers, ...asks].flatMap((inner) =>
              [NODE[family], bed.own(0, family)]
                .filter((to) => to === NODE[family] || inner !== answers[1])
                .map((to) => icmpError({ from: REMOTE[family], to, ...by(bed.net.outsider), type, inner })),
            ),
          ),
        );
      });

      it(`${over} what is bent at random enters as an ordinary packet to its backend, or not at all`, (context) => {
        let [sent, came] = [0, 0];
        for (const bendings of samples(context, fc.array(arbitraryBending, { minLength: 50, maxLength: 50 }), 20)) {
          const frames = bendings.map((each, index) => bend(both(family)[index % 2] ?? new Uint8Array(), each));
          sent += frames.length;
          for (const frame of entered(family, frames)) {
            came++;
            assert.equal(problemOf(frame, family), null, Buffer.from(frame).toString('hex'));
          }
        }
        context.diagnostic(`${came} of ${sent} entered`);
        assert.ok(came > sent / 100 && came < sent);
      });
    }

    for (const [name, make] of [
      ['SYNs', tcp],
      ['datagrams', udp],
    ] as const) {
      it(`a flood of ${name} from many outside takes room from their backend alone, and no open connection`, () => {
        const end = (pod: number, sport: number): Spec => {
          const ends = { from: bed.own(pod, 4), to: REMOTE[4], sport, dport: 80 };
          return { ...ends, ...by(bed.at(pod)) };
        };
        const opens = (sport: number): boolean => {
          const back = { from: REMOTE[4], to: bed.own(1, 4), sport: 80, dport: sport, ...by(bed.net.outsider) };
          bed.port = sport;
          return (
            bed.send(tcp(end(1, sport)), bed.at(1), bed.net.outsider).length === 1 &&
            bed.send(tcp({ ...back, flags: 'SA' }), bed.net.outsider, bed.at(1)).length === 1 &&
            bed.send(tcp({ ...end(1, sport), flags: 'A' }), bed.at(1), bed.net.outsider).length === 1
          );
        };
        const client = spec(4, { sport: 1000 });
        const asks = (flags: string): boolean => {
          bed.port = 1000;
          return bed.sendIn(tcp({ ...client, flags })).length === 1;
        };
        const answers = (flags: string): boolean => {
          bed.port = 1000;
          return bed.sendOut(tcp({ ...end(0, LISTENS), dport: 1000, flags })).length === 1;
        };
        assert.ok(asks('S') && answers('SA') && asks('A'));
        assert.ok(opens(1001));
        const before = bed.datapath.counters().evicted;
        for (let n = 0; n < FLOOD; n++) {
          const more = { from: `10.10.0.${10 + (n % 200)}`, sport: 2000 + Math.trunc(n / 200) };
          bed.net.outsider.wire.send(make(spec(4, more)));
        }
        const evicted = bed.datapath.counters().evicted - before;
        assert.ok(evicted > FLOOD / 4, `${evicted} gave way`);
        assert.ok(asks('PA') && answers('PA'), 'who was connected from outside');
        bed.port = 1001;
        assert.equal(bed.send(tcp({ ...end(1, 1001), flags: 'PA' }), bed.at(1), bed.net.outsider).length, 1);
        assert.ok(opens(1002), 'another pod finds room');
        assert.ok(answers('R'));
      });
    }

    /** Null where a frame in a pod is one for the open pod's port, plainly, from somebody who may be outside. */
    function problemOf(frame: Uint8Array, family: Family): string | null {
      const view = Buffer.from(frame);
      const header = family === 4 ? 20 : 40;
      const transport = 14 + header;
      if (view.readUInt16BE(12) !== (family === 4 ? 0x0800 : 0x86dd)) return 'another type';
      if (family === 4 && (view[14] !== 0x45 || (view.readUInt16BE(20) & 0x3fff) !== 0)) return 'options or a fragment';
      const [from, to] = family === 4 ? [26, 30] : [22, 38];
      if (!addressAt(frame, to, bed.own(0, family))) return 'to somebody else';
      const here = [...[0, 1, 2].map((pod) => bed.own(pod, family)), NODE[family]];
      if (here.some((each) => addressAt(frame, from, each))) return 'from who is here';
      const protocol = view[family === 4 ? 23 : 20];
      if (protocol !== TCP && protocol !== UDP) return 'another protocol';
      if (view.readUInt16BE(transport + 2) !== LISTENS) return 'to another port';
      const length = family === 4 ? view.readUInt16BE(16) : view.readUInt16BE(18) + 40;
      return length + 14 > frame.length ? 'longer than its frame' : null;
    }
  });
}

/** Whether the bytes there are this address. */
function addressAt(frame: Uint8Array, at: number, { words }: Address): boolean {
  const bytes = Buffer.alloc(4 * words.length);
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word >>> 0, 4 * index);
  return bytes.equals(frame.subarray(at, at + bytes.length));
}

function isMarked(frame: Uint8Array): boolean {
  return Buffer.from(frame).includes(Buffer.from(MARK));
}
