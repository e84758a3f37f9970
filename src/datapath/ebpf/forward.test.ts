// Clients outside whose backend is at another node: this node asks in their place and answers them as the Service. Frames over a
// real veth, byte by byte. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { type PortSpec, tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, waitFor } from '#test/support/pod-bed.ts';
import { REMOTE, UplinkBed } from '#test/support/uplink-bed.ts';
import { by, NODE as NODES } from '#test/support/wire-bed.ts';

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
const OTHER = { 4: address('10.10.0.8'), 6: address('fd10::8') };
const PORT = 30053;
const LISTENS = 80;
const SELF_PORTS = 61_000;
const TRIED = 16;
const WAIT_MS = 60;
/** Of the bed's connection table. */
const ENTRIES = 5120;

type Spec = Omit<PortSpec, 'from' | 'to' | 'sport' | 'dport'> & { readonly flags?: string; readonly hopLimit?: number };
type Ends = { readonly from: Address; readonly to: Address; readonly sport: number; readonly dport: number };

for (const attach of ATTACH_MODES) {
  describe(`clients outside at backends of other nodes, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: UplinkBed;
    let count = 0;

    before(() => {
      mountBpffs();
      bed = new UplinkBed('forward', attach);
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

    const drops = (reason: 'no-backend' | 'mid-flow'): bigint => bed.datapath.counters().drops.get(reason) ?? 0n;

    for (const family of FAMILIES) {
      for (const [name, protocol] of PROTOCOLS) {
        it(`${name} over IPv${family} goes to the backend as the node's, and back as the Service's`, () => {
          for (const to of [NODE[family], EXTERNAL[family]]) {
            bed.next();
            const before = bed.datapath.counters().forwarded;
            const self = open(family, protocol, ask(family, to));
            const turns = protocol === TCP ? ['SA', 'A', 'PA', 'PA', 'FA', 'FA', 'A'] : ['', '', '', ''];
            for (const [turn, flags] of turns.entries()) {
              const more = protocol === TCP ? { flags } : {};
              if (turn % 2 === 0) {
                const back = { from: to, to: CLIENT[family], sport: PORT, dport: bed.port };
                same(protocol, send(protocol, reply(family, self), more), back, more);
              } else {
                const forth = { from: SELF[family], to: REMOTE[family], sport: self, dport: LISTENS };
                same(protocol, send(protocol, ask(family, to), more), forth, more);
              }
            }
            assert.equal(bed.datapath.counters().forwarded - before, BigInt(1 + turns.length));
          }
        });

        it(`${name} over IPv${family}: only that backend answers, from that port, and to that one`, () => {
          const self = open(family, protocol);
          const more = protocol === TCP ? { flags: 'SA' } : {};
          const to = { ...reply(family, self) };
          for (const wrong of [
            { ...to, from: OTHER[family] },
            { ...to, sport: LISTENS + 1 },
            { ...to, dport: self === 65_535 ? self - 1 : self + 1 },
            { ...to, to: EXTERNAL[family] },
          ]) {
            assert.deepEqual(send(protocol, wrong, more), []);
          }
          assert.equal(send(protocol, to, more).length, 1);
        });

        it(`${name} over IPv${family}: each client has a port of its own, and who finds none is dropped`, () => {
          const seen = new Map<number, number>();
          const first = bed.port;
          for (let client = 0; client < 64; client++) {
            const sport = 2000 + 64 * (first % 64) + client;
            seen.set(open(family, protocol, ask(family, NODE[family], sport)), sport);
          }
          assert.equal(seen.size, 64);
          for (const [self, sport] of seen) {
            const more = protocol === TCP ? { flags: 'SA' } : {};
            const back = { from: NODE[family], to: CLIENT[family], sport: PORT, dport: sport };
            same(protocol, send(protocol, reply(family, self), more), back, more);
          }
        });
      }

      it(`over IPv${family} what is no first packet, of no connection, is not sent on`, () => {
        for (const flags of ['A', 'SA', 'PA', 'FA', 'R']) assert.deepEqual(send(TCP, ask(family), { flags }), []);
        const self = open(family, TCP);
        shake(family, self);
        assert.deepEqual(send(TCP, reply(family, self), { flags: 'S' }), [], 'the backend begins nothing here');
      });

      it(`over IPv${family} what can't go past the stack is dropped both ways, and the node resets nothing`, () => {
        const self = open(family, TCP);
        shake(family, self);
        const datagrams = open(family, UDP);
        const before = drops('no-backend');
        assert.deepEqual(send(TCP, ask(family), { flags: 'PA', hopLimit: 1 }), []);
        assert.deepEqual(send(TCP, reply(family, self), { flags: 'PA', hopLimit: 1 }), []);
        const { wire } = bed.net.outsider;
        wire.received();
        wire.send(frame(TCP, reply(family, self), { flags: 'PA', fragment: { id: 7, offset: 0, more: true } } as Spec));
        wire.send(frame(UDP, reply(family, datagrams), { hopLimit: 1 }));
        waitFor(() => false, WAIT_MS);
        const ports = [self, datagrams].map((port) => Buffer.from([port >> 8, port & 255]));
        const told = wire.received().filter((each) => ports.some((port) => Buffer.from(each).includes(port)));
        assert.deepEqual(
          told.map((each) => Buffer.from(each).toString('hex')),
          [],
          'nobody is told anything',
        );
        assert.ok(drops('no-backend') > before);
        assert.equal(send(TCP, ask(family), { flags: 'PA' }).length, 1, 'it is still open');
      });

      it(`over IPv${family} a connection stays with its backend; datagrams and what begins go elsewhere`, () => {
        const self = open(family, TCP);
        shake(family, self);
        const datagrams = open(family, UDP);
        serve(NODE[family], [OTHER[family]]);
        const forth = { from: SELF[family], to: REMOTE[family], sport: self, dport: LISTENS };
        same(TCP, send(TCP, ask(family), { flags: 'PA' }), forth, { flags: 'PA' });
        // Whoever says that it begins anew: the backend need not believe it.
        same(TCP, send(TCP, ask(family), { flags: 'S' }), forth, { flags: 'S' });
        const found = send(UDP, ask(family));
        const sport = portOf(family, found[0] as { frame: Buffer });
        same(UDP, found, { ...forth, to: OTHER[family], sport }, {});
        assert.equal(send(UDP, reply(family, datagrams)).length, 1, 'who answers late is heard');
        bed.next();
        open(family, TCP, ask(family), OTHER[family]);
      });

      it(`over IPv${family} pods of other nodes are clients as well`, () => {
        serve(NODE[family], [OTHER[family]]);
        const ends = { ...ask(family), from: REMOTE[family] };
        for (const [, protocol] of PROTOCOLS) {
          const self = open(family, protocol, ends, OTHER[family]);
          const more = protocol === TCP ? { flags: 'SA' } : {};
          const back = { from: NODE[family], to: REMOTE[family], sport: PORT, dport: bed.port };
          same(protocol, send(protocol, reply(family, self, OTHER[family]), more), back, more);
        }
      });

      it(`over IPv${family} endpoints of the node itself see their client`, () => {
        serve(NODE[family], [bed.own(0, family)]);
        const more = { flags: 'S' };
        const there = tcp({
          ...{ from: formatAddress(CLIENT[family]), to: formatAddress(bed.own(0, family)) },
          ...{ sport: bed.port, dport: LISTENS, hopLimit: 63, ...more, ...by(bed.net.outsider) },
        });
        const plain = frame(TCP, ask(family), more);
        const found = bed.sendIn(plain);
        assert.deepEqual(
          found.map((each) => each.slice(28)),
          [Buffer.from(there.subarray(14)).toString('hex')],
        );
      });

      it(`over IPv${family} nobody speaks for a pod of this node, for the node, or for who is elsewhere than he says`, () => {
        for (const from of [bed.own(1, family), NODE[family], address(family === 4 ? '127.0.0.1' : '::1')]) {
          assert.deepEqual(send(TCP, { ...ask(family), from }, { flags: 'S' }), []);
        }
        bed.net.onNode('ip', 'route', 'add', 'blackhole', family === 4 ? '198.18.0.50/32' : '2001:db8:c::50/128');
        try {
          assert.deepEqual(send(TCP, ask(family), { flags: 'S' }), []);
        } finally {
          bed.net.onNode('ip', 'route', 'del', 'blackhole', family === 4 ? '198.18.0.50/32' : '2001:db8:c::50/128');
        }
        assert.equal(send(TCP, ask(family), { flags: 'S' }).length, 1);
      });

      it(`over IPv${family} nothing goes on while the uplink's hook is off, or where the node has no address to speak by`, () => {
        bed.byStack(() => assert.deepEqual(send(UDP, ask(family)), []));
        bed.datapath.apply([{ kind: 'node', node: 'node-a', value: NODES.filter((each) => each.family !== family) }]);
        try {
          assert.deepEqual(send(TCP, ask(family, EXTERNAL[family]), { flags: 'S' }), []);
        } finally {
          bed.datapath.apply([{ kind: 'node', node: 'node-a', value: NODES }]);
        }
        assert.equal(send(UDP, ask(family)).length, 1);
      });

      it(`over IPv${family} a closed connection's port is another client's in the end, and its way back with it`, () => {
        const self = open(family, TCP);
        shake(family, self);
        assert.equal(send(TCP, reply(family, self), { flags: 'R' }).length, 1);
        assert.equal(open(family, TCP), self, 'the same client, the same port');
      });
    }

    it(`where the ${TRIED} ports that it may have are taken, a client is dropped, and nobody loses his`, () => {
      const asked = new Map<number, number>();
      const before = drops('no-backend');
      for (let sport = 1024; drops('no-backend') === before; sport++) {
        const [found] = send(UDP, ask(4, EXTERNAL[4], sport));
        if (found === undefined) continue;
        asked.delete(portOf(4, found));
        asked.set(portOf(4, found), sport);
        assert.ok(sport < 10_000, 'ports run out');
      }
      // Of datagrams that nobody answers, an uplink's oldest give way to its newest.
      for (const [self, sport] of [...asked].slice(-1000)) {
        const back = { from: EXTERNAL[4], to: CLIENT[4], sport: PORT, dport: sport };
        same(UDP, send(UDP, reply(4, self)), back, {});
      }
    });

    it('a flood from outside takes nothing from who is served, nor from pods', () => {
      const self = open(4, TCP);
      shake(4, self);
      const [out, into] = [bed.outward(4), bed.inward(4, { flags: 'SA', sport: 80, dport: bed.port })];
      assert.equal(bed.sendOut(out).length, 1, 'a pod asks, and is not answered yet');
      const { wire } = bed.net.outsider;
      const evicted = bed.datapath.counters().evicted;
      for (let each = 0; each < 2 * ENTRIES; each++) {
        const from = address(`198.18.0.${100 + (each % 100)}`);
        wire.send(frame(TCP, { ...ask(4), from, sport: 1024 + Math.floor(each / 100) }, { flags: 'S' }));
      }
      assert.ok(
        waitFor(() => bed.datapath.counters().evicted > evicted, 2000),
        'it has more than its share',
      );
      const forth = { from: SELF[4], to: REMOTE[4], sport: self, dport: LISTENS };
      same(TCP, send(TCP, ask(4), { flags: 'PA' }), forth, { flags: 'PA' });
      assert.equal(bed.sendIn(into).length, 1, 'the pod is answered');
      bed.next();
      assert.equal(bed.sendOut(bed.outward(4)).length, 1, 'and asks others');
    });
  });
}
