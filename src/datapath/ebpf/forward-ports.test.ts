// The ports by which this node asks for clients outside, as they come and go. Frames over a real veth. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { CT_KEY } from '#datapath/ebpf/encode/abi.gen.ts';
import { allKeys, closeObject, deleteElement, getPinned, handleOf } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Address } from '#net/address.ts';
import { flowHash } from '#net/hash.ts';
import { type Protocol, TCP, UDP } from '#net/protocol.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import {
  CLIENT,
  type Ends,
  ForwardBed,
  LISTENS,
  NODE,
  PORT,
  SELF,
  SELF_PORTS,
  TRIED,
} from '#test/support/forward-bed.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address } from '#test/support/pod-bed.ts';
import { REMOTE, type UplinkBed } from '#test/support/uplink-bed.ts';
import { tablesPath } from './generations.ts';

const FAMILIES = [4, 6] as const;
const clients = (family: 4 | 6): readonly Address[] =>
  [50, 51, 52].map((each) => address(family === 4 ? `198.18.0.${each}` : `2001:db8:c::${each}`));
const SELF_PORT_COUNT = 65_536 - SELF_PORTS;
/** Somewhat more than the kernel programs' `assured_after`. */
const ASSURED_SECONDS = 3;

for (const attach of ATTACH_MODES) {
  describe(`ports of clients outside at backends of other nodes, hooks by ${attach} (root)`, needsRoot, () => {
    let forward: ForwardBed;
    let bed: UplinkBed;

    before(() => {
      mountBpffs();
      forward = new ForwardBed('forward-ports', attach);
      bed = forward.uplink;
    });
    after(() => bed.destroy());
    beforeEach(() => forward.next());

    /** Ports of two clients for whom the node would ask by the same one. */
    const sameWindow = (family: 4 | 6, protocol: Protocol): readonly [number, number] => {
      const first = new Map<number, number>();
      for (let sport = 2000; ; sport++) {
        const { from, to, dport } = forward.ask(family, NODE[family], sport);
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
        const [other, mine] = sameWindow(family, TCP).map((sport) => forward.ask(family, NODE[family], sport)) as [
          Ends,
          Ends,
        ];
        const near = forward.open(family, TCP, other);
        const earlier = forward.open(family, TCP, mine);
        assert.equal(earlier, near === 65_535 ? SELF_PORTS : near + 1);
        for (const [self, ends] of [
          [near, other],
          [earlier, mine],
        ] as const) {
          forward.shake(family, self, ends);
          assert.equal(forward.send(TCP, forward.reply(family, self), { flags: 'R' }).length, 1);
          // The first one is over before.
          bed.datapath.moveClock(30);
        }
        bed.datapath.moveClock(5);
        bed.datapath.sweep();
        bed.datapath.moveClock(27);
        const now = forward.open(family, TCP, mine);
        assert.equal(now, near);
        forward.shake(family, now, mine);
        bed.datapath.sweep();
        const forth = { from: SELF[family], to: REMOTE[family], sport: now, dport: LISTENS };
        forward.same(TCP, forward.send(TCP, mine, { flags: 'PA' }), forth, { flags: 'PA' });
      });

      it(`over IPv${family} nobody speaks in another one's flow, though his own was lost`, () => {
        const [other, mine] = sameWindow(family, UDP).map((sport) => forward.ask(family, NODE[family], sport)) as [
          Ends,
          Ends,
        ];
        const self = forward.open(family, UDP, mine);
        lose(self);
        const to = { from: NODE[family], to: CLIENT[family], sport: PORT, dport: other.sport };
        assert.equal(forward.open(family, UDP, other), self, 'the port is free');
        assert.notEqual(forward.open(family, UDP, mine), self, 'and not his any more');
        forward.same(UDP, forward.send(UDP, forward.reply(family, self)), to, {});
      });
    }

    for (const family of FAMILIES) {
      /** So many clients for whom the node would begin with the same port. */
      const alike = (protocol: Protocol, many: number): readonly Ends[] => {
        const starts = new Map<number, Ends[]>();
        for (let sport = 1024; ; sport++) {
          for (const from of clients(family)) {
            const ends = { ...forward.ask(family, NODE[family], sport), from };
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
          return forward.open(family, UDP, ends);
        });
        assert.equal(new Set(given).size, TRIED);
        assert.equal(forward.open(family, UDP, first), given[0]);
        bed.datapath.moveClock(ASSURED_SECONDS);
        assert.equal(forward.open(family, UDP, asked[TRIED]), given[1], 'the second one was silent for longest');
        const back = { from: NODE[family], to: asked[TRIED]?.from ?? first.from, sport: PORT };
        const dport = asked[TRIED]?.sport ?? 0;
        forward.same(UDP, forward.send(UDP, forward.reply(family, given[1] ?? 0)), { ...back, dport }, {});
        assert.equal(forward.open(family, UDP, second), given[2], 'who speaks again takes the next one');
      });

      it(`over IPv${family} what begins takes no port of an open connection, but one that nobody answers`, () => {
        bed.datapath.moveClock(500);
        const asked = alike(TCP, TRIED + 2);
        const open16 = asked.slice(0, TRIED).map((ends, index) => {
          const self = forward.open(family, TCP, ends);
          if (index > 0) forward.shake(family, self, ends);
          return self;
        });
        assert.deepEqual(
          forward.send(TCP, asked[TRIED] ?? forward.ask(family), { flags: 'S' }),
          [],
          'it may be answered yet',
        );
        bed.datapath.moveClock(ASSURED_SECONDS);
        assert.equal(forward.open(family, TCP, asked[TRIED]), open16[0]);
        forward.shake(family, open16[0] ?? 0, asked[TRIED]);
        assert.deepEqual(forward.send(TCP, asked[TRIED + 1] ?? forward.ask(family), { flags: 'S' }), []);
        for (const [index, self] of open16.entries()) {
          const ends = asked[index === 0 ? TRIED : index] ?? forward.ask(family);
          const forth = { from: SELF[family], to: REMOTE[family], sport: self, dport: LISTENS };
          forward.same(TCP, forward.send(TCP, ends, { flags: 'PA' }), forth, { flags: 'PA' });
        }
      });
    }

    it("an uplink's share stands while the uplink does, though nobody speaks", () => {
      const held = (): boolean => share(bed.indexOf('u1'));
      forward.open(4, UDP);
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
