// Clients outside whose backend is at another node: this node asks in their place and answers them as the Service. Frames over a
// real veth, byte by byte. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { tcp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import {
  CLIENT,
  EXTERNAL,
  ForwardBed,
  LISTENS,
  NODE,
  PORT,
  PROTOCOLS,
  portOf,
  SELF,
  type Spec,
  TRIED,
  WAIT_MS,
} from '#test/support/forward-bed.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, waitFor } from '#test/support/pod-bed.ts';
import { REMOTE, type UplinkBed } from '#test/support/uplink-bed.ts';
import { by, NODE as NODES } from '#test/support/wire-bed.ts';

const FAMILIES = [4, 6] as const;
const OTHER = { 4: address('10.10.0.8'), 6: address('fd10::8') };
/** Of the bed's connection table. */
const ENTRIES = 5120;

for (const attach of ATTACH_MODES) {
  describe(`clients outside at backends of other nodes, hooks by ${attach} (root)`, needsRoot, () => {
    let forward: ForwardBed;
    let bed: UplinkBed;

    before(() => {
      mountBpffs();
      forward = new ForwardBed('forward', attach);
      bed = forward.uplink;
    });
    after(() => bed.destroy());
    beforeEach(() => forward.next());

    const drops = (reason: 'no-backend' | 'mid-flow'): bigint => bed.datapath.counters().drops.get(reason) ?? 0n;

    for (const family of FAMILIES) {
      for (const [name, protocol] of PROTOCOLS) {
        it(`${name} over IPv${family} goes to the backend as the node's, and back as the Service's`, () => {
          for (const to of [NODE[family], EXTERNAL[family]]) {
            bed.next();
            const before = bed.datapath.counters().forwarded;
            const self = forward.open(family, protocol, forward.ask(family, to));
            const turns = protocol === TCP ? ['SA', 'A', 'PA', 'PA', 'FA', 'FA', 'A'] : ['', '', '', ''];
            for (const [turn, flags] of turns.entries()) {
              const more = protocol === TCP ? { flags } : {};
              if (turn % 2 === 0) {
                const back = { from: to, to: CLIENT[family], sport: PORT, dport: bed.port };
                forward.same(protocol, forward.send(protocol, forward.reply(family, self), more), back, more);
              } else {
                const forth = { from: SELF[family], to: REMOTE[family], sport: self, dport: LISTENS };
                forward.same(protocol, forward.send(protocol, forward.ask(family, to), more), forth, more);
              }
            }
            assert.equal(bed.datapath.counters().forwarded - before, BigInt(1 + turns.length));
          }
        });

        it(`${name} over IPv${family}: only that backend answers, from that port, and to that one`, () => {
          const self = forward.open(family, protocol);
          const more = protocol === TCP ? { flags: 'SA' } : {};
          const to = { ...forward.reply(family, self) };
          for (const wrong of [
            { ...to, from: OTHER[family] },
            { ...to, sport: LISTENS + 1 },
            { ...to, dport: self === 65_535 ? self - 1 : self + 1 },
            { ...to, to: EXTERNAL[family] },
          ]) {
            assert.deepEqual(forward.send(protocol, wrong, more), []);
          }
          assert.equal(forward.send(protocol, to, more).length, 1);
        });

        it(`${name} over IPv${family}: each client has a port of its own, and who finds none is dropped`, () => {
          const seen = new Map<number, number>();
          const first = bed.port;
          for (let client = 0; client < 64; client++) {
            const sport = 2000 + 64 * (first % 64) + client;
            seen.set(forward.open(family, protocol, forward.ask(family, NODE[family], sport)), sport);
          }
          assert.equal(seen.size, 64);
          for (const [self, sport] of seen) {
            const more = protocol === TCP ? { flags: 'SA' } : {};
            const back = { from: NODE[family], to: CLIENT[family], sport: PORT, dport: sport };
            forward.same(protocol, forward.send(protocol, forward.reply(family, self), more), back, more);
          }
        });
      }

      it(`over IPv${family} what is no first packet, of no connection, is not sent on`, () => {
        for (const flags of ['A', 'SA', 'PA', 'FA', 'R'])
          assert.deepEqual(forward.send(TCP, forward.ask(family), { flags }), []);
        const self = forward.open(family, TCP);
        forward.shake(family, self);
        assert.deepEqual(
          forward.send(TCP, forward.reply(family, self), { flags: 'S' }),
          [],
          'the backend begins nothing here',
        );
      });

      it(`over IPv${family} what can't go past the stack is dropped both ways, and the node resets nothing`, () => {
        const self = forward.open(family, TCP);
        forward.shake(family, self);
        const datagrams = forward.open(family, UDP);
        const before = drops('no-backend');
        assert.deepEqual(forward.send(TCP, forward.ask(family), { flags: 'PA', hopLimit: 1 }), []);
        assert.deepEqual(forward.send(TCP, forward.reply(family, self), { flags: 'PA', hopLimit: 1 }), []);
        const { wire } = bed.net.outsider;
        wire.received();
        wire.send(
          forward.frame(TCP, forward.reply(family, self), {
            flags: 'PA',
            fragment: { id: 7, offset: 0, more: true },
          } as Spec),
        );
        wire.send(forward.frame(UDP, forward.reply(family, datagrams), { hopLimit: 1 }));
        waitFor(() => false, WAIT_MS);
        const ports = [self, datagrams].map((port) => Buffer.from([port >> 8, port & 255]));
        const told = wire.received().filter((each) => ports.some((port) => Buffer.from(each).includes(port)));
        assert.deepEqual(
          told.map((each) => Buffer.from(each).toString('hex')),
          [],
          'nobody is told anything',
        );
        assert.ok(drops('no-backend') > before);
        assert.equal(forward.send(TCP, forward.ask(family), { flags: 'PA' }).length, 1, 'it is still open');
      });

      it(`over IPv${family} a connection stays with its backend; datagrams and what begins go elsewhere`, () => {
        const self = forward.open(family, TCP);
        forward.shake(family, self);
        const datagrams = forward.open(family, UDP);
        forward.serve(NODE[family], [OTHER[family]]);
        const forth = { from: SELF[family], to: REMOTE[family], sport: self, dport: LISTENS };
        forward.same(TCP, forward.send(TCP, forward.ask(family), { flags: 'PA' }), forth, { flags: 'PA' });
        // Whoever says that it begins anew: the backend need not believe it.
        forward.same(TCP, forward.send(TCP, forward.ask(family), { flags: 'S' }), forth, { flags: 'S' });
        const found = forward.send(UDP, forward.ask(family));
        const sport = portOf(family, found);
        forward.same(UDP, found, { ...forth, to: OTHER[family], sport }, {});
        assert.equal(forward.send(UDP, forward.reply(family, datagrams)).length, 1, 'who answers late is heard');
        bed.next();
        forward.open(family, TCP, forward.ask(family), OTHER[family]);
      });

      it(`over IPv${family} pods of other nodes are clients as well`, () => {
        forward.serve(NODE[family], [OTHER[family]]);
        const ends = { ...forward.ask(family), from: REMOTE[family] };
        for (const [, protocol] of PROTOCOLS) {
          const self = forward.open(family, protocol, ends, OTHER[family]);
          const more = protocol === TCP ? { flags: 'SA' } : {};
          const back = { from: NODE[family], to: REMOTE[family], sport: PORT, dport: bed.port };
          forward.same(protocol, forward.send(protocol, forward.reply(family, self, OTHER[family]), more), back, more);
        }
      });

      it(`over IPv${family} endpoints of the node itself see their client`, () => {
        forward.serve(NODE[family], [bed.own(0, family)]);
        const more = { flags: 'S' };
        const there = tcp({
          ...{ from: formatAddress(CLIENT[family]), to: formatAddress(bed.own(0, family)) },
          ...{ sport: bed.port, dport: LISTENS, hopLimit: 63, ...more, ...by(bed.net.outsider) },
        });
        const plain = forward.frame(TCP, forward.ask(family), more);
        const found = bed.sendIn(plain);
        assert.deepEqual(
          found.map((each) => each.slice(28)),
          [Buffer.from(there.subarray(14)).toString('hex')],
        );
      });

      it(`over IPv${family} nobody speaks for a pod of this node, for the node, or for who is elsewhere than he says`, () => {
        for (const from of [bed.own(1, family), NODE[family], address(family === 4 ? '127.0.0.1' : '::1')]) {
          assert.deepEqual(forward.send(TCP, { ...forward.ask(family), from }, { flags: 'S' }), []);
        }
        bed.net.onNode('ip', 'route', 'add', 'blackhole', family === 4 ? '198.18.0.50/32' : '2001:db8:c::50/128');
        try {
          assert.deepEqual(forward.send(TCP, forward.ask(family), { flags: 'S' }), []);
        } finally {
          bed.net.onNode('ip', 'route', 'del', 'blackhole', family === 4 ? '198.18.0.50/32' : '2001:db8:c::50/128');
        }
        assert.equal(forward.send(TCP, forward.ask(family), { flags: 'S' }).length, 1);
      });

      it(`over IPv${family} nothing goes on while the uplink's hook is off, or where the node has no address to speak by`, () => {
        bed.byStack(() => assert.deepEqual(forward.send(UDP, forward.ask(family)), []));
        bed.datapath.apply([{ kind: 'node', node: 'node-a', value: NODES.filter((each) => each.family !== family) }]);
        try {
          assert.deepEqual(forward.send(TCP, forward.ask(family, EXTERNAL[family]), { flags: 'S' }), []);
        } finally {
          bed.datapath.apply([{ kind: 'node', node: 'node-a', value: NODES }]);
        }
        assert.equal(forward.send(UDP, forward.ask(family)).length, 1);
      });

      it(`over IPv${family} a closed connection's port is another client's in the end, and its way back with it`, () => {
        const self = forward.open(family, TCP);
        forward.shake(family, self);
        assert.equal(forward.send(TCP, forward.reply(family, self), { flags: 'R' }).length, 1);
        assert.equal(forward.open(family, TCP), self, 'the same client, the same port');
      });
    }

    it(`where the ${TRIED} ports that it may have are taken, a client is dropped, and nobody loses his`, () => {
      const asked = new Map<number, number>();
      const before = drops('no-backend');
      for (let sport = 1024; drops('no-backend') === before; sport++) {
        const found = forward.send(UDP, forward.ask(4, EXTERNAL[4], sport));
        if (found.length === 0) continue;
        asked.delete(portOf(4, found));
        asked.set(portOf(4, found), sport);
        assert.ok(sport < 10_000, 'ports run out');
      }
      // Of datagrams that nobody answers, an uplink's oldest give way to its newest.
      for (const [self, sport] of [...asked].slice(-1000)) {
        const back = { from: EXTERNAL[4], to: CLIENT[4], sport: PORT, dport: sport };
        forward.same(UDP, forward.send(UDP, forward.reply(4, self)), back, {});
      }
    });

    it('a flood from outside takes nothing from who is served, nor from pods', () => {
      const self = forward.open(4, TCP);
      forward.shake(4, self);
      const [out, into] = [bed.outward(4), bed.inward(4, { flags: 'SA', sport: 80, dport: bed.port })];
      assert.equal(bed.sendOut(out).length, 1, 'a pod asks, and is not answered yet');
      const { wire } = bed.net.outsider;
      const evicted = bed.datapath.counters().evicted;
      for (let each = 0; each < 2 * ENTRIES; each++) {
        const from = address(`198.18.0.${100 + (each % 100)}`);
        wire.send(
          forward.frame(TCP, { ...forward.ask(4), from, sport: 1024 + Math.floor(each / 100) }, { flags: 'S' }),
        );
      }
      assert.ok(
        waitFor(() => bed.datapath.counters().evicted > evicted, 2000),
        'it has more than its share',
      );
      const forth = { from: SELF[4], to: REMOTE[4], sport: self, dport: LISTENS };
      forward.same(TCP, forward.send(TCP, forward.ask(4), { flags: 'PA' }), forth, { flags: 'PA' });
      assert.equal(bed.sendIn(into).length, 1, 'the pod is answered');
      bed.next();
      assert.equal(bed.sendOut(bed.outward(4)).length, 1, 'and asks others');
    });
  });
}
