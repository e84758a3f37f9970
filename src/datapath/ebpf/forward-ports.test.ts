// The ports by which this node asks for clients outside, as they come and go. Frames over a real veth. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { CT_KEY } from '#datapath/ebpf/encode/abi.gen.ts';
import { type PortSpec, tcp, udp } from '#datapath/packets.ts';
import { allKeys, closeObject, deleteElement, getPinned, handleOf } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { flowHash } from '#net/hash.ts';
import { type Protocol, TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, waitFor } from '#test/support/pod-bed.ts';
import { REMOTE, UplinkBed } from '#test/support/uplink-bed.ts';
import { by } from '#test/support/wire-bed.ts';
import { tablesPath } from './generations.ts';

const FAMILIES = [4, 6] as const;
const PROTOCOLS = [
  ['TCP', TCP],
  ['UDP', UDP],
] as const;
const NODE = { 4: address('198.51.100.1'), 6: address('2001:db8::1') };
const EXTERNAL = { 4: address('203.0.113.5'), 6: address('2001:db8:5::5') };
/** The first of the node's addresses: by this one it speaks. */
const SELF = { 4: address('192.0.2.1'), 6: address('fd00::1') };
const CLIENT = { 4: address('198.18.0.50'), 6: address('2001:db8:c::50') };
const clients = (family: 4 | 6): readonly Address[] =>
  [50, 51, 52].map((each) => address(family === 4 ? `198.18.0.${each}` : `2001:db8:c::${each}`));
const PORT = 30053;
const LISTENS = 80;
const SELF_PORTS = 61_000;
const SELF_PORT_COUNT = 4536;
const TRIED = 16;
/** Somewhat more than the kernel programs' `assured_after`. */
const ASSURED_SECONDS = 3;
const WAIT_MS = 60;

type Spec = Omit<PortSpec, 'from' | 'to' | 'sport' | 'dport'> & { readonly flags?: string; readonly hopLimit?: number };
type Ends = { readonly from: Address; readonly to: Address; readonly sport: number; readonly dport: number };

for (const attach of ATTACH_MODES) {
  describe(`ports of clients outside at backends of other nodes, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: UplinkBed;
    let count = 0;

    before(() => {
      mountBpffs();
      bed = new UplinkBed('forwardports', attach);
      bed.net.onNode('ip', 'route', 'add', '198.18.0.0/24', 'via', '198.51.100.2');
      bed.net.onNode('ip', 'route', 'add', '2001:db8:c::/64', 'via', '2001:db8::2');
    });
    after(() => bed.destroy());
    beforeEach(() => {
      bed.next();
      for (const family of FAMILIES) {
        for (const at of [NODE[family], EXTERNAL[family]]) serve(at, [REMOTE[family]]);
      }
    });

    function serve(to: Address, backends: readonly Address[], more: object = {}): void {
      for (const [, protocol] of PROTOCOLS) {
        const at = { address: to, protocol, port: PORT, scope: 'outside' } as const;
        const who = backends.map((each) => ({ address: each, port: LISTENS }));
        bed.datapath.apply([
          { kind: 'service', at, value: { ...at, ...more, backends: who, places: maglevPlaces(who) } },
        ]);
      }
    }

    const frame = (protocol: number, { from, to, ...ports }: Ends, more: Spec): Uint8Array =>
      (protocol === TCP ? tcp : udp)({
        ...{ from: formatAddress(from), to: formatAddress(to), ...ports },
        ...by(bed.net.outsider),
        ...more,
      });

    /** What comes out at the uplink of a frame that came in there; each frame has a text of its own. */
    function send(protocol: number, ends: Ends, more: Spec = {}): readonly { frame: Buffer; payload: Buffer }[] {
      const { wire } = bed.net.outsider;
      const payload = Buffer.from(`frame ${++count} of this test`);
      wire.received();
      wire.send(frame(protocol, ends, { ...more, payload }));
      const found: { frame: Buffer; payload: Buffer }[] = [];
      waitFor(() => {
        for (const each of wire.received().map((bytes) => Buffer.from(bytes))) {
          // And no ICMP error that quotes it.
          const isOwn = each[ends.to.family === 4 ? 23 : 20] === protocol;
          if (isOwn && each.includes(payload)) found.push({ frame: each, payload });
        }
        return found.length > 0;
      }, WAIT_MS);
      return found;
    }

    const ask = (family: 4 | 6, to = NODE[family], sport = bed.port): Ends => ({
      ...{ from: CLIENT[family], to, sport, dport: PORT },
    });
    const portOf = (family: 4 | 6, { frame: bytes }: { frame: Buffer }): number =>
      bytes.readUInt16BE(14 + (family === 4 ? 20 : 40));

    /** The one frame that came out is this one, but for MACs and `hopLimit`. */
    function same(protocol: number, found: ReturnType<typeof send>, ends: Ends, more: Spec): void {
      assert.equal(found.length, 1);
      const expected = frame(protocol, ends, { ...more, payload: found[0]?.payload ?? Buffer.alloc(0), hopLimit: 63 });
      assert.equal(found[0]?.frame.subarray(14).toString('hex'), Buffer.from(expected.subarray(14)).toString('hex'));
    }

    /** Sends the first packet on; the port by which the node asks. */
    function open(family: 4 | 6, protocol: number, ends = ask(family), backend = REMOTE[family]): number {
      const more = protocol === TCP ? { flags: 'S' } : {};
      const found = send(protocol, ends, more);
      assert.equal(found.length, 1, 'the first packet goes on');
      const sport = portOf(family, found[0] as { frame: Buffer });
      same(protocol, found, { from: SELF[family], to: backend, sport, dport: LISTENS }, more);
      assert.ok(sport >= SELF_PORTS);
      return sport;
    }

    const reply = (family: 4 | 6, dport: number, from = REMOTE[family]): Ends => ({
      ...{ from, to: SELF[family], sport: LISTENS, dport },
    });

    /** The handshake of a connection that is at its first packet. */
    function shake(family: 4 | 6, self: number, ends = ask(family)): void {
      assert.equal(send(TCP, reply(family, self), { flags: 'SA' }).length, 1);
      assert.equal(send(TCP, ends, { flags: 'A' }).length, 1);
    }

    /** Ports of two clients for whom the node would ask by the same one. */
    const sameWindow = (family: 4 | 6, protocol: Protocol): readonly [number, number] => {
      const first = new Map<number, number>();
      for (let sport = 2000; ; sport++) {
        const { from, to, dport } = ask(family, NODE[family], sport);
        const hash = flowHash({
          ...{ source: from, sourcePort: sport, destination: to, destinationPort: dport, protocol },
        });
        const before = first.get(hash % SELF_PORT_COUNT);
        if (before !== undefined) return [before, sport];
        first.set(hash % SELF_PORT_COUNT, sport);
      }
    };

    for (const family of FAMILIES) {
      it(`over IPv${family} a connection outlives what is left of its client's earlier one, by another port`, () => {
        const [other, mine] = sameWindow(family, TCP).map((sport) => ask(family, NODE[family], sport)) as [Ends, Ends];
        const near = open(family, TCP, other);
        const earlier = open(family, TCP, mine);
        assert.equal(earlier, near === 65_535 ? SELF_PORTS : near + 1);
        for (const [self, ends] of [
          [near, other],
          [earlier, mine],
        ] as const) {
          shake(family, self, ends);
          assert.equal(send(TCP, reply(family, self), { flags: 'R' }).length, 1);
          // The first one is over before.
          bed.datapath.moveClock(30);
        }
        bed.datapath.moveClock(5);
        bed.datapath.sweep();
        bed.datapath.moveClock(27);
        const now = open(family, TCP, mine);
        assert.equal(now, near);
        shake(family, now, mine);
        bed.datapath.sweep();
        const forth = { from: SELF[family], to: REMOTE[family], sport: now, dport: LISTENS };
        same(TCP, send(TCP, mine, { flags: 'PA' }), forth, { flags: 'PA' });
      });

      it(`over IPv${family} nobody speaks in another one's flow, though his own was lost`, () => {
        const [other, mine] = sameWindow(family, UDP).map((sport) => ask(family, NODE[family], sport)) as [Ends, Ends];
        const self = open(family, UDP, mine);
        lose(self);
        const to = { from: NODE[family], to: CLIENT[family], sport: PORT, dport: other.sport };
        assert.equal(open(family, UDP, other), self, 'the port is free');
        assert.notEqual(open(family, UDP, mine), self, 'and not his any more');
        same(UDP, send(UDP, reply(family, self)), to, {});
      });
    }

    for (const family of FAMILIES) {
      /** So many clients for whom the node would begin with the same port. */
      const alike = (protocol: Protocol, many: number): readonly Ends[] => {
        const starts = new Map<number, Ends[]>();
        for (let sport = 1024; ; sport++) {
          for (const from of clients(family)) {
            const ends = { ...ask(family, NODE[family], sport), from };
            const { to, dport } = ends;
            const at = flowHash({ source: from, sourcePort: sport, destination: to, destinationPort: dport, protocol });
            const start = starts.get(at % SELF_PORT_COUNT) ?? [];
            starts.set(at % SELF_PORT_COUNT, start);
            if (start.push(ends) === many) return start;
          }
        }
      };

      it(`over IPv${family} where all ports are taken, the one that is silent for longest gives way`, () => {
        bed.datapath.moveClock(500);
        const asked = alike(UDP, TRIED + 1);
        const [first, second] = asked as [Ends, Ends];
        const given = asked.slice(0, TRIED).map((ends) => {
          bed.datapath.moveClock(1);
          return open(family, UDP, ends);
        });
        assert.equal(new Set(given).size, TRIED);
        assert.equal(open(family, UDP, first), given[0]);
        bed.datapath.moveClock(ASSURED_SECONDS);
        assert.equal(open(family, UDP, asked[TRIED]), given[1], 'the second one was silent for longest');
        const back = { from: NODE[family], to: asked[TRIED]?.from ?? first.from, sport: PORT };
        const dport = asked[TRIED]?.sport ?? 0;
        same(UDP, send(UDP, reply(family, given[1] ?? 0)), { ...back, dport }, {});
        assert.equal(open(family, UDP, second), given[2], 'who speaks again takes the next one');
      });

      it(`over IPv${family} what begins takes no port of an open connection, but one that nobody answers`, () => {
        bed.datapath.moveClock(500);
        const asked = alike(TCP, TRIED + 2);
        const open16 = asked.slice(0, TRIED).map((ends, index) => {
          const self = open(family, TCP, ends);
          if (index > 0) shake(family, self, ends);
          return self;
        });
        assert.deepEqual(send(TCP, asked[TRIED] ?? ask(family), { flags: 'S' }), [], 'it may be answered yet');
        bed.datapath.moveClock(ASSURED_SECONDS);
        assert.equal(open(family, TCP, asked[TRIED]), open16[0]);
        shake(family, open16[0] ?? 0, asked[TRIED]);
        assert.deepEqual(send(TCP, asked[TRIED + 1] ?? ask(family), { flags: 'S' }), []);
        for (const [index, self] of open16.entries()) {
          const ends = asked[index === 0 ? TRIED : index] ?? ask(family);
          const forth = { from: SELF[family], to: REMOTE[family], sport: self, dport: LISTENS };
          same(TCP, send(TCP, ends, { flags: 'PA' }), forth, { flags: 'PA' });
        }
      });
    }

    it("an uplink's share stands while the uplink does, though nobody speaks", () => {
      const held = (): boolean => share(bed.indexOf('u1'));
      open(4, UDP);
      assert.ok(held());
      bed.datapath.moveClock(500);
      for (let each = 0; each < 2; each++) bed.datapath.sweep();
      assert.ok(held(), 'packets of now may be about to take a place of it');
    });

    /** Whether there is one of this interface. */
    function share(index: number): boolean {
      const fd = getPinned(`${tablesPath(bed.net.bed.prefix, 'node-a')}/share_map`);
      assert.ok(fd !== null);
      try {
        return [...allKeys(handleOf(fd))].some((key) => Buffer.from(key).readUInt32LE() === index);
      } finally {
        closeObject(fd);
      }
    }

    /** Takes away the flow of this port, and leaves its translation: as where CPUs meet. */
    function lose(self: number): void {
      const fd = getPinned(`${tablesPath(bed.net.bed.prefix, 'node-a')}/ct_map`);
      assert.ok(fd !== null);
      const flows = handleOf(fd);
      const lost = [...allKeys(flows)].filter((key) => {
        const bytes = Buffer.from(key);
        const ports = [0, 2].map((at) => bytes.readUInt16LE(CT_KEY.port + at));
        return bytes.readUInt8(CT_KEY.protocol) === UDP && ports.includes(self);
      });
      assert.equal(lost.length, 1);
      for (const key of lost) deleteElement(flows, key);
      closeObject(fd);
    }
  });
}
