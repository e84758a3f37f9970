// What goes past the host's stack between a pod and an uplink arrives as the stack would have sent it, and what the stack
// must see takes it. Frames over real veths; the stack itself is the oracle. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { formatAddress } from '#net/address.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, waitFor } from '#test/support/pod-bed.ts';
import { REMOTE, UplinkBed } from '#test/support/uplink-bed.ts';
import { by } from '#test/support/wire-bed.ts';
import { inject } from './test-run.ts';

const FAMILIES = [4, 6] as const;
const STRANGER = { 4: address('10.10.0.10'), 6: address('fd10::10') };
const OWN_NODE = { 4: address('198.51.100.1'), 6: address('2001:db8::1') };
const OTHER_NODE = { 4: address('198.51.100.2'), 6: address('2001:db8::2') };

for (const attach of ATTACH_MODES) {
  describe(`past the stack at an uplink, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: UplinkBed;

    before(() => {
      mountBpffs();
      bed = new UplinkBed('past', attach);
    });

    after(() => bed.destroy());
    beforeEach(() => bed.next());

    for (const family of FAMILIES) {
      it(`IPv${family} arrives in a pod as the stack would have sent it`, () => {
        const [expected] = bed.byStack(() => bed.sendIn(bed.inward(family)));
        assert.equal(expected, hex(bed.inward(family, { hopLimit: 63, ...macsOf(expected) })));
        const before = bed.passed;
        bed.next();
        assert.deepEqual(bed.sendIn(bed.inward(family)), [
          hex(bed.inward(family, { hopLimit: 63, ...macsOf(expected) })),
        ]);
        assert.deepEqual(bed.passed, { ...before, into: before.into + 1 });
      });

      it(`IPv${family} leaves a pod as the stack would have sent it`, () => {
        const [expected] = bed.byStack(() => bed.sendOut(bed.outward(family)));
        assert.equal(expected, hex(bed.outward(family, { hopLimit: 63, ...macsOf(expected) })));
        const before = bed.passed;
        bed.next();
        assert.deepEqual(bed.sendOut(bed.outward(family)), [
          hex(bed.outward(family, { hopLimit: 63, ...macsOf(expected) })),
        ]);
        assert.deepEqual(bed.passed, { ...before, out: before.out + 1 });
      });

      it(`IPv${family} leaves a pod though the next hop's MAC has to be asked for`, () => {
        const hop = formatAddress(OTHER_NODE[family]);
        const isKnown = (): boolean => bed.net.onNode('ip', 'neigh', 'show', hop).includes('lladdr');
        bed.net.onNode('ip', 'neigh', 'del', hop, 'dev', 'u1');
        assert.equal(isKnown(), false);
        const before = bed.passed;
        assert.ok(waitFor(() => bed.sendOut(bed.outward(family)).length > 0, 5000));
        assert.ok(isKnown() && bed.passed.out > before.out);
      });

      it(`an IPv${family} datagram that nobody asked for takes the stack, those after it and answers do not`, () => {
        const before = bed.passed;
        const ask = udp({ ...endsOf(family), dport: 53, ...by(bed.net.outsider) });
        assert.equal(bed.sendIn(ask).length, 1);
        assert.deepEqual(bed.passed, before);
        assert.equal(bed.sendIn(ask).length, 1);
        const ends = { from: bed.own(0, family), to: REMOTE[family], sport: 53, dport: bed.port };
        assert.equal(bed.sendOut(udp({ ...ends, ...by(bed.at(0)) })).length, 1);
        assert.deepEqual(bed.passed, { out: before.out + 1, into: before.into + 1 });
      });

      it(`a flow over IPv${family} that the stack has carried stays there`, () => {
        bed.byStack(() => {
          bed.sendIn(bed.inward(family));
          bed.sendOut(bed.outward(family, { dport: 53 }));
        });
        const before = bed.passed;
        assert.equal(bed.sendIn(bed.inward(family)).length, 1);
        assert.equal(bed.sendOut(bed.outward(family, { dport: 53 })).length, 1);
        assert.deepEqual(bed.passed, before);
        bed.next();
        const taken = bed.passed;
        assert.equal(bed.sendIn(bed.inward(family)).length, 1);
        assert.deepEqual(bed.passed, { ...taken, into: taken.into + 1 });
        bed.byStack(() => bed.sendIn(bed.inward(family)));
        assert.equal(bed.sendIn(bed.inward(family)).length, 1);
        assert.deepEqual(bed.passed, { ...taken, into: taken.into + 1 }, 'it was there once in between');
      });

      it(`IPv${family} takes the stack where its TTL runs out, and its sender hears of it`, () => {
        const before = bed.passed;
        const { outsider } = bed.net;
        assert.deepEqual(bed.sendIn(bed.inward(family, { hopLimit: 1 })), []);
        assert.equal(bed.send(bed.inward(family, { hopLimit: 1 }), outsider, outsider).length, 1);
        assert.equal(bed.send(bed.outward(family, { hopLimit: 1 }), bed.at(0), bed.at(0)).length, 1);
        assert.deepEqual(bed.passed, before);
      });

      it(`IPv${family} to an address that is no known pod's, and to a node's, takes the stack`, () => {
        const before = bed.passed;
        for (const to of [STRANGER[family], OTHER_NODE[family]]) {
          assert.equal(bed.sendOut(bed.outward(family, { to })).length, 1);
        }
        assert.deepEqual(bed.passed, before);
      });

      it(`IPv${family} in the name of a pod here, or of the node, is nobody's from outside`, () => {
        const flow = { from: bed.own(1, family), to: bed.own(0, family), sport: bed.port, dport: 80 };
        assert.equal(bed.send(tcp({ ...flow, ...by(bed.at(1)) }), bed.at(1), bed.at(0)).length, 1, 'an open flow');
        bed.drops();
        const before = bed.passed;
        assert.deepEqual(bed.sendIn(tcp({ ...flow, flags: 'A', ...by(bed.net.outsider) })), []);
        const told = bed.drops().map(({ hook, reason }) => [hook, reason]);
        assert.deepEqual(told, [['to-pod', 'spoofed-source']]);
        // The stack decides whether somebody else may speak for the node (of IPv6 it lets them, and policy judges).
        bed.sendIn(bed.inward(family, { from: OWN_NODE[family] }));
        assert.deepEqual(bed.passed, before);
      });

      it(`IPv${family} that policy denies is dropped and told of once, at the pod's own hook`, () => {
        const before = bed.datapath.counters();
        assert.deepEqual(bed.sendIn(bed.inward(family, { to: bed.own(2, family) }), 2), []);
        const told = bed.drops().map(({ hook, reason, count }) => [hook, reason, count]);
        assert.deepEqual(told, [['to-pod', 'policy', 1]]);
        const { drops, delivered } = bed.datapath.counters();
        assert.equal((drops.get('policy') ?? 0n) - (before.drops.get('policy') ?? 0n), 1n);
        assert.equal(delivered, before.delivered);
      });

      it(`an IPv${family} connection that is denied from now on is cut at its next packet, and told of once`, () => {
        assert.equal(bed.sendIn(bed.inward(family)).length, 1);
        bed.admit(0, 'closed');
        bed.drops();
        const before = bed.passed;
        assert.deepEqual(bed.sendIn(bed.inward(family)), []);
        assert.deepEqual(
          bed.drops().map(({ hook, reason }) => [hook, reason]),
          [['to-pod', 'policy']],
        );
        assert.deepEqual(bed.passed, before);
        bed.admit(0, 'open');
      });

      it(`IPv${family} in frames for others is left alone`, () => {
        const before = bed.passed;
        for (const destinationMac of [Uint8Array.of(2, 0, 0, 0, 0, 99), new Uint8Array(6).fill(255)]) {
          assert.deepEqual(bed.sendIn(bed.inward(family, { destinationMac })), []);
        }
        assert.deepEqual(bed.passed, before);
      });

      it(`IPv${family} that answers lead elsewhere for takes the stack, which may filter its source`, () => {
        const before = bed.passed;
        const block = family === 4 ? '10.10.0.9/32' : 'fd10::9/128';
        bed.net.onNode('ip', 'route', 'add', 'blackhole', block);
        try {
          assert.equal(bed.sendIn(bed.inward(family)).length, 1, 'nobody filters here');
          assert.deepEqual(bed.passed, before);
        } finally {
          bed.net.onNode('ip', 'route', 'del', 'blackhole', block);
        }
      });
    }

    it('measures aggregated packets by the pieces they will be cut into, and leaves marked ones to the stack', () => {
      const index = bed.indexOf('u1');
      const frame = bed.inward(4, { payload: new Uint8Array(3000) });
      const verdictOf = (more: { gsoSize?: number; mark?: number }): string =>
        inject(bed.datapath, { frame, hook: 'from-node', interfaceIndex: index, ...more }).verdict;
      assert.deepEqual(
        [verdictOf({}), verdictOf({ gsoSize: 1461 }), verdictOf({ gsoSize: 1460, mark: 1 })],
        ['pass', 'pass', 'pass'],
      );
      assert.equal(verdictOf({ gsoSize: 1460 }), 'redirect');
      const { interfaceIndex } = bed.net.pod(0).link;
      const leaves = (more: { gsoSize?: number; mark?: number }): string => {
        bed.next();
        return inject(bed.datapath, {
          ...{ frame: bed.outward(4, { payload: new Uint8Array(3000) }), hook: 'from-pod', interfaceIndex },
          ...more,
        }).verdict;
      };
      assert.deepEqual(
        [leaves({}), leaves({ gsoSize: 1461 }), leaves({ gsoSize: 1460, mark: 1 })],
        ['pass', 'pass', 'pass'],
      );
      assert.equal(leaves({ gsoSize: 1460 }), 'redirect');
    });

    const endsOf = (family: 4 | 6) => ({ from: REMOTE[family], to: bed.own(0, family), sport: bed.port });
  });
}

function hex(frame: Uint8Array): string {
  return Buffer.from(frame).toString('hex');
}

function macsOf(frame = ''): { readonly sourceMac: Uint8Array; readonly destinationMac: Uint8Array } {
  const bytes = Buffer.from(frame, 'hex');
  return { destinationMac: bytes.subarray(0, 6), sourceMac: bytes.subarray(6, 12) };
}
