// What arrives at an uplink for a Service enters a pod of this node as its own client's, and answers leave as the
// Service's: frames over real veths. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { PlanService } from '#compile/plan.ts';
import { ENDPOINT_FLAG } from '#datapath/ebpf/encode/abi.gen.ts';
import { icmpError, ip, type PortSpec, tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { changeEndpointFlags } from '#test/support/endpoint-flags.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address } from '#test/support/pod-bed.ts';
import { REMOTE, UplinkBed } from '#test/support/uplink-bed.ts';
import { by } from '#test/support/wire-bed.ts';

const FAMILIES = [4, 6] as const;
const PROTOCOLS = [
  ['TCP', TCP],
  ['UDP', UDP],
] as const;
/** The node's own address on its uplink, and one that is routed there from outside. */
const NODE = { 4: address('198.51.100.1'), 6: address('2001:db8::1') };
const EXTERNAL = { 4: address('203.0.113.5'), 6: address('2001:db8:5::5') };
const PORT = 53;
const LISTENS = 80;

for (const attach of ATTACH_MODES) {
  describe(`Services for clients outside, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: UplinkBed;

    before(() => {
      mountBpffs();
      bed = new UplinkBed('outside', attach);
    });
    after(() => bed.destroy());
    beforeEach(() => {
      bed.next();
      for (const family of FAMILIES) {
        for (const to of [NODE[family], EXTERNAL[family]]) serve(to, [bed.own(0, family)]);
      }
    });

    /** Who serves there from now on; null = it is no Service. */
    function serve(to: Address, by: readonly Address[] | null, clients: readonly string[] | null = null): void {
      for (const [, protocol] of PROTOCOLS) {
        const at = { address: to, protocol, port: PORT, scope: 'outside' } as const;
        const backends = (by ?? []).map((each) => ({ address: each, port: LISTENS }));
        const blocks = (clients ?? []).flatMap((text) => parseCidr(text)?.cidr ?? []);
        const limits = clients === null ? {} : { clients: { blocks, node: false } };
        const places = maglevPlaces(backends);
        const value: PlanService | null = by === null ? null : { ...at, ...limits, backends, places };
        bed.datapath.apply([{ kind: 'service', at, value }]);
      }
    }

    type Make = (spec: PortSpec & { readonly flags?: string }) => Uint8Array;
    const makeOf = (protocol: number): Make => (protocol === TCP ? tcp : udp);

    const ask = (family: 4 | 6, to: Address, more: object = {}, make: Make = tcp): Uint8Array => {
      const ends = { from: formatAddress(REMOTE[family]), to: formatAddress(to), sport: bed.port, dport: PORT };
      return make({ ...ends, ...by(bed.net.outsider), ...more });
    };
    const answer = (family: 4 | 6, more: object = {}, make: Make = tcp): Uint8Array => {
      const from = formatAddress(bed.own(0, family));
      const ends = { from, to: formatAddress(REMOTE[family]), sport: LISTENS, dport: bed.port };
      return make({ ...ends, ...by(bed.at(0)), ...more });
    };
    /** The frame arrived as this one, but for MACs. */
    const same = (found: readonly string[], expected: Uint8Array): void => {
      assert.deepEqual(
        found.map((each) => each.slice(28)),
        [Buffer.from(expected.subarray(14)).toString('hex')],
      );
    };

    for (const family of FAMILIES) {
      for (const [name, protocol] of PROTOCOLS) {
        it(`${name} over IPv${family} goes to a pod and back, at the node's address and at another one`, () => {
          const make = makeOf(protocol);
          for (const to of [NODE[family], EXTERNAL[family]]) {
            bed.next();
            const turns = protocol === TCP ? ['S', 'SA', 'A', 'PA', 'PA'] : ['', '', '', '', ''];
            for (const [turn, flags] of turns.entries()) {
              const payload = Buffer.from(`turn ${turn}`);
              const more = protocol === TCP ? { flags, payload } : { payload };
              const there = { to: formatAddress(bed.own(0, family)), dport: LISTENS, hopLimit: 63 };
              const back = { from: formatAddress(to), sport: PORT, hopLimit: 63 };
              if (turn % 2 === 0)
                same(bed.sendIn(ask(family, to, more, make)), ask(family, to, { ...more, ...there }, make));
              else same(bed.sendOut(answer(family, more, make)), answer(family, { ...more, ...back }, make));
            }
          }
        });

        it(`${name} over IPv${family} that policy denies for its own client is dropped and named at the pod`, () => {
          const make = makeOf(protocol);
          serve(NODE[family], [bed.own(2, family)]);
          const before = bed.datapath.counters().delivered;
          assert.deepEqual(bed.sendIn(ask(family, NODE[family], {}, make), 2), []);
          const told = bed.drops().map(({ reason, source, destination }) => {
            return [reason, formatAddress(source), formatAddress(destination)].join(' ');
          });
          assert.deepEqual(told, [`policy ${formatAddress(REMOTE[family])} ${formatAddress(bed.own(2, family))}`]);
          assert.equal(bed.datapath.counters().delivered, before);
        });
      }

      it(`over IPv${family} what is no Service's any more, or nobody's of this node, reaches no pod`, () => {
        const before = bed.datapath.counters();
        serve(NODE[family], null);
        assert.deepEqual(bed.sendIn(ask(family, NODE[family])), []);
        serve(NODE[family], []);
        assert.deepEqual(bed.sendIn(ask(family, NODE[family])), []);
        const { drops, delivered } = bed.datapath.counters();
        assert.equal(delivered, before.delivered);
        assert.equal((drops.get('no-backend') ?? 0n) - (before.drops.get('no-backend') ?? 0n), 1n);
      });

      it(`over IPv${family} a balancer's ranges let in its clients and nobody else, who is dropped and counted`, () => {
        const remote = formatAddress(REMOTE[family]);
        const [own, other] = family === 4 ? [`${remote}/32`, '198.51.100.0/24'] : [`${remote}/128`, '2001:db8:77::/64'];
        const dropped = (): bigint => bed.datapath.counters().drops.get('no-backend') ?? 0n;
        serve(EXTERNAL[family], [bed.own(0, family)], [other, own]);
        assert.equal(bed.sendIn(ask(family, EXTERNAL[family])).length, 1);
        assert.equal(bed.sendOut(answer(family, { flags: 'SA' })).length, 1);
        assert.equal(bed.sendIn(ask(family, EXTERNAL[family], { flags: 'A' })).length, 1);
        const before = dropped();
        serve(EXTERNAL[family], [bed.own(0, family)], [other]);
        assert.equal(bed.sendIn(ask(family, EXTERNAL[family], { flags: 'PA' })).length, 1, 'what is open goes on');
        bed.next();
        for (const make of [tcp, udp]) assert.deepEqual(bed.sendIn(ask(family, EXTERNAL[family], {}, make)), []);
        serve(EXTERNAL[family], [bed.own(0, family)], []);
        assert.deepEqual(bed.sendIn(ask(family, EXTERNAL[family])), []);
        assert.equal(dropped() - before, 3n);
      });

      it(`over IPv${family} a connection that is denied from now on is cut both ways`, () => {
        assert.equal(bed.sendIn(ask(family, NODE[family])).length, 1);
        assert.equal(bed.sendOut(answer(family, { flags: 'SA' })).length, 1);
        bed.admit(0, 'closed');
        assert.deepEqual(bed.sendIn(ask(family, NODE[family], { flags: 'A' })), []);
        bed.admit(0, 'open');
        assert.deepEqual(bed.sendOut(answer(family, { flags: 'PA' })), []);
      });

      it(`over IPv${family} a connection stays with its pod, whoever begins it anew in its client's name`, () => {
        for (const flags of ['S', 'A']) {
          assert.equal(bed.sendIn(ask(family, NODE[family], { flags })).length, 1);
          assert.equal(bed.sendOut(answer(family, { flags: flags === 'S' ? 'SA' : 'A' })).length, 1);
        }
        serve(NODE[family], [bed.own(1, family)]);
        // To pod 0, which need not believe it.
        assert.deepEqual(bed.sendIn(ask(family, NODE[family], { flags: 'S' }), 1), []);
        const there = { to: formatAddress(bed.own(0, family)), dport: LISTENS, hopLimit: 63 };
        same(
          bed.sendIn(ask(family, NODE[family], { flags: 'PA' })),
          ask(family, NODE[family], { flags: 'PA', ...there }),
        );
        const back = { from: formatAddress(NODE[family]), sport: PORT, hopLimit: 63 };
        same(bed.sendOut(answer(family, { flags: 'A' })), answer(family, { flags: 'A', ...back }));
        assert.equal(bed.sendOut(answer(family, { flags: 'R' })).length, 1);
        assert.equal(bed.sendIn(ask(family, NODE[family], { flags: 'S' }), 1).length, 1, 'once it has ended');
      });

      it(`over IPv${family} a datagram that answers in parts leaves as the Service's, each part`, () => {
        const [asked, more] = [{ payload: Buffer.from('ask') }, { payload: Buffer.alloc(16, 7) }];
        assert.equal(bed.sendIn(ask(family, NODE[family], asked, udp)).length, 1);
        const back = { from: formatAddress(NODE[family]), hopLimit: 63 };
        const first = { ...more, fragment: { id: 7, offset: 0, more: true } };
        same(bed.sendOut(answer(family, first, udp)), answer(family, { ...first, ...back, sport: PORT }, udp));
        const rest = Buffer.from([bed.port >> 8, bed.port & 255, 0, PORT, ...more.payload]);
        const ends = { from: formatAddress(bed.own(0, family)), to: formatAddress(REMOTE[family]), ...by(bed.at(0)) };
        const part = (more: object): Uint8Array =>
          ip({ ...ends, fragment: { id: 7, offset: 3, more: false }, ...more }, UDP, rest);
        same(bed.sendOut(part({})), part(back));
      });

      it(`over IPv${family} an ICMP error of its pod speaks of the Service, as the Service`, () => {
        const there = { to: formatAddress(bed.own(0, family)), dport: LISTENS, hopLimit: 63 };
        assert.equal(bed.sendIn(ask(family, NODE[family], {}, udp)).length, 1);
        const told = (from: Address, inner: object, more = {}): Uint8Array => {
          const ends = { from: formatAddress(from), to: formatAddress(REMOTE[family]), ...by(bed.at(0)) };
          return icmpError({ ...ends, ...more, inner: ask(family, NODE[family], inner, udp) });
        };
        const as = { hopLimit: 63 };
        same(bed.sendOut(told(bed.own(0, family), there)), told(NODE[family], as, as));
      });

      it(`over IPv${family} answers of a flow that is no more leave as the pod's own`, () => {
        const stray = answer(family, { flags: 'SA' });
        assert.deepEqual(bed.sendOut(stray), []);
        const own = answer(family, {}, udp);
        same(bed.sendOut(own), answer(family, { hopLimit: 63 }, udp));
      });

      it(`over IPv${family} whose answers would leave by another way reaches no pod, in an open flow either`, () => {
        const set = family === 4 ? '10.10.0.9/32' : 'fd10::9/128';
        assert.equal(bed.sendIn(ask(family, NODE[family], {}, udp)).length, 1);
        bed.net.onNode('ip', 'route', 'add', 'blackhole', set);
        assert.deepEqual(bed.sendIn(ask(family, NODE[family], {}, udp)), []);
        assert.deepEqual(bed.sendIn(ask(family, NODE[family])), []);
        bed.net.onNode('ip', 'route', 'del', 'blackhole', set);
        assert.equal(bed.sendIn(ask(family, NODE[family], {}, udp)).length, 1);
      });

      it(`over IPv${family} it is one thing to pods of the node, and another one to whoever is outside`, () => {
        serve(EXTERNAL[family], null);
        const backends = [{ address: bed.own(0, family), port: LISTENS }];
        const at = { address: EXTERNAL[family], protocol: TCP, port: PORT };
        bed.datapath.apply([{ kind: 'service', at, value: { ...at, backends, places: maglevPlaces(backends) } }]);
        assert.deepEqual(bed.sendIn(ask(family, EXTERNAL[family])), []);
        bed.datapath.apply([{ kind: 'service', at, value: null }]);
      });

      it(`over IPv${family} nobody reaches it while the uplink's hook is off`, () => {
        bed.byStack(() => assert.deepEqual(bed.sendIn(ask(family, NODE[family])), []));
        assert.equal(bed.sendIn(ask(family, NODE[family])).length, 1);
      });

      it(`over IPv${family} the node resets nothing that it serves and can’t take, be it open or about to`, () => {
        const padded = { header: 60, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) };
        const odd = [
          { hopLimit: 1 },
          { isCut: true },
          family === 4 ? { options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) } : { headers: [padded] },
        ];
        const { outsider } = bed.net;
        /** How often the node answers it, whole or cut up. */
        const answersTo = ({ isCut = false, ...more }: { isCut?: boolean; flags: string }): number => {
          const whole = ask(family, NODE[family], { payload: Buffer.alloc(16), ...more });
          if (!isCut) return bed.send(whole, outsider, outsider).length;
          const segment = whole.subarray(14 + (family === 4 ? 20 : 40));
          const ends = { from: formatAddress(REMOTE[family]), to: formatAddress(NODE[family]), ...by(outsider) };
          const [first, rest] = [
            { id: bed.port, offset: 0, more: true },
            { id: bed.port, offset: 3, more: false },
          ];
          outsider.wire.send(ip({ ...ends, fragment: rest }, TCP, segment.subarray(24)));
          return bed.send(ip({ ...ends, fragment: first }, TCP, segment.subarray(0, 24)), outsider, outsider).length;
        };
        serve(NODE[family], null);
        for (const more of [{}, ...odd]) {
          for (const flags of ['S', 'A']) assert.equal(answersTo({ ...more, flags }), 1, 'what it does not serve');
        }
        serve(NODE[family], [bed.own(0, family)]);
        bed.next();
        for (const more of odd) assert.equal(answersTo({ ...more, flags: 'S' }), 0, JSON.stringify(more));
        assert.equal(answersTo({ flags: 'A' }), 1, 'of no connection');
        for (const flags of ['S', 'A']) {
          assert.equal(bed.sendIn(ask(family, NODE[family], { flags })).length, 1);
          assert.equal(bed.sendOut(answer(family, { flags: flags === 'S' ? 'SA' : 'A' })).length, 1);
        }
        const before = bed.datapath.counters().drops.get('no-backend') ?? 0n;
        for (const flags of ['PA', 'FA', 'S']) {
          for (const more of odd) assert.equal(answersTo({ ...more, flags }), 0, `${flags} ${JSON.stringify(more)}`);
          // A tcx program that gets ahead and lets pass is the last one (TC_ACT_OK): then nobody is asked.
          if (attach === 'clsact') bed.byStack(() => assert.equal(answersTo({ flags }), 0, `${flags} by the stack`));
        }
        const dropped = (bed.datapath.counters().drops.get('no-backend') ?? 0n) - before;
        assert.equal(dropped, BigInt(3 * odd.length + (attach === 'clsact' ? 3 : 0)));
        assert.equal(bed.sendIn(ask(family, NODE[family], { flags: 'PA' })).length, 1, 'it is still open');
        bed.next();
        // Whoever else serves Services may do so.
        bed.byStack(() => assert.equal(answersTo({ flags: 'S' }), 1));
      });

      it(`over IPv${family} clients are served while other pods' hooks may be an earlier version's, past nothing that stands on a pod's link`, () => {
        const without = (flag: number): void =>
          changeEndpointFlags(bed.net.bed.prefix, 'node-a', (flags) => flags & ~flag);
        const turns = (): readonly number[] => [
          bed.sendIn(ask(family, NODE[family])).length,
          bed.sendOut(answer(family, { flags: 'SA' })).length,
        ];
        try {
          without(ENDPOINT_FLAG.REDIRECT);
          assert.deepEqual(turns(), [1, 1]);
          without(ENDPOINT_FLAG.PLAIN);
          assert.equal(bed.sendOut(answer(family, { flags: 'A' })).length, 0);
          bed.next();
          assert.deepEqual(turns(), [0, 0]);
        } finally {
          const both = ENDPOINT_FLAG.PLAIN | ENDPOINT_FLAG.REDIRECT;
          changeEndpointFlags(bed.net.bed.prefix, 'node-a', (flags) => flags | both);
        }
      });

      it(`over IPv${family} a pod in the name of the Service, or the node's own name from outside, is nobody`, () => {
        assert.deepEqual(bed.sendIn(ask(family, NODE[family], { from: formatAddress(bed.own(1, family)) })), []);
        assert.deepEqual(bed.sendIn(ask(family, EXTERNAL[family], { from: formatAddress(NODE[family]) })), []);
        const forged = answer(family, { from: formatAddress(NODE[family]), sport: PORT, flags: 'SA' });
        assert.deepEqual(bed.sendOut(forged), []);
      });
    }
  });
}
