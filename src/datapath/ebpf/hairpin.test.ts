// A pod that asks a Service and is its backend itself, by real sockets over real veths. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { Conversation, MOMENT_MS } from '#test/support/conversation.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { address, type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const SERVICE = { 4: address('10.96.0.1'), 6: address('fd96::1') };
/** Whom a pod's own packets come from. */
const ELSEWHERE = { 4: address('169.254.77.1'), 6: address('100::6d6f:6174') };
const LISTENS = 8080;
const CLOSED = 9;

for (const attach of ATTACH_MODES) {
  describe(`a pod that is its Service’s backend, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;
    let port = 80;

    const open = (): EbpfDatapath => {
      const next = openDatapath({
        ...{ instance: bed.prefix, node: 'node-a', attach, sizes: { ct_map: 512 } },
        knobs: { dropWindow: 0n, dropRate: 1_000_000n },
      });
      for (const pod of bed.pods) next.attach(pod.link);
      next.apply([...ground(), ...isolatingSet(CLOSED, 90)]);
      // Nobody may speak to it, and it to nobody.
      const closed = { egress: CLOSED, ingress: CLOSED };
      next.apply(
        bed.pods.flatMap(({ link, name }, index) =>
          link.addresses.map((each) => endpointStep(each, index === 0 ? closed : {}, name)),
        ),
      );
      return next;
    };

    before(() => {
      mountBpffs();
      bed = new PodBed(`hairpin-${attach}`, 2);
      datapath = open();
      datapath.settle();
    });

    after(() => {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    const ownOf = (pod: BedPod, family: 4 | 6): Address => (family === 4 ? pod.v4 : pod.v6);
    const netnsOf = (pod: BedPod): string => `/run/netns/${bed.prefix}-${pod.name}`;

    function serve(family: 4 | 6, protocol: number, by: readonly BedPod[]): void {
      const at = { address: SERVICE[family], protocol, port };
      const backends = sortedBackends(by.map((pod) => ({ address: ownOf(pod, family), port: LISTENS })));
      datapath.apply([{ kind: 'service', at, value: { ...at, backends, places: maglevPlaces(backends) } }]);
    }

    for (const family of [4, 6] as const) {
      for (const [name, protocol] of [
        ['TCP', TCP],
        ['UDP', UDP],
      ] as const) {
        it(`reaches itself by ${name} over IPv${family}, whatever policy says of others, also over the next start`, () => {
          const pod = bed.pod(0);
          port++;
          serve(family, protocol, [pod]);
          const passed = datapath.counters().redirected;
          const talk = new Conversation({
            protocol,
            ...{ client: netnsOf(pod), server: netnsOf(pod) },
            ...{ to: { address: SERVICE[family], port }, at: { address: ownOf(pod, family), port: LISTENS } },
          });
          assert.ok(talk.exchange(5), 'to itself');
          assert.ok(datapath.counters().redirected - passed >= 10n, 'past the stack, both ways');
          if (protocol === UDP) assert.equal(formatAddress(talk.seen ?? pod.v4), formatAddress(ELSEWHERE[family]));
          datapath.close();
          datapath = open();
          serve(family, protocol, [pod]);
          assert.ok(talk.exchange(2), 'while the next process starts');
          datapath.settle();
          assert.ok(talk.exchange(2), 'and then');
          datapath.sweep();
          assert.ok(talk.exchange(2));
          talk.close();
        });
      }

      it(`nobody else answers or asks from there, and it is nobody to ask (IPv${family})`, () => {
        const [pod, other] = [bed.pod(0), bed.pod(1)];
        const send = (hook: 'from-pod' | 'to-pod', at: BedPod, frame: Uint8Array): string => {
          const { interfaceIndex } = at.link;
          const met = inject(datapath, { hook, interfaceIndex, frame });
          return met.verdict === 'drop' ? met.events.map(({ reason }) => reason).join() : met.verdict;
        };
        const own = ownOf(pod, family);
        port++;
        serve(family, TCP, [pod]);
        const sourceMac = pod.link.mac;
        const asked = { from: own, to: SERVICE[family], sport: 4000, dport: port, sourceMac };
        const answers = { from: own, to: ELSEWHERE[family], sport: LISTENS, dport: 4000, sourceMac };
        assert.equal(send('from-pod', pod, tcp({ ...answers, flags: 'SA' })), 'mid-flow', 'before it asked');
        assert.equal(send('from-pod', pod, tcp(asked)), 'redirect');
        assert.equal(send('from-pod', pod, tcp({ ...answers, flags: 'S' })), 'mid-flow', 'that is no answer');
        assert.equal(send('from-pod', pod, tcp({ ...answers, sport: 1, flags: 'SA' })), 'mid-flow');
        assert.equal(send('from-pod', pod, tcp({ ...answers, flags: 'SA' })), 'redirect', 'an answer');
        for (const make of [tcp, udp]) {
          const theirs = { ...answers, from: ownOf(other, family), sourceMac: other.link.mac, flags: 'SA' };
          assert.equal(send('from-pod', other, make(theirs)), 'mid-flow', 'by another pod');
          const stolen = { ...answers, sourceMac: other.link.mac, flags: 'SA' };
          assert.equal(send('from-pod', other, make(stolen)), 'spoofed-source', 'as if by the pod');
          const from = { from: ELSEWHERE[family], to: own, sport: 4000, dport: LISTENS, flags: 'A' };
          assert.equal(send('to-pod', pod, make(from)), 'malformed', 'from elsewhere');
        }
      });

      it(`where it can’t be told from whom it asks, it asks another one (IPv${family})`, () => {
        const [pod, other] = [bed.pod(1), bed.pod(0)];
        port++;
        serve(family, UDP, [pod, other]);
        const ends = { from: ownOf(pod, family), to: SERVICE[family], dport: port, sourceMac: pod.link.mac };
        const meets = (sport: number): string => {
          const { interfaceIndex } = pod.link;
          const met = inject(datapath, { hook: 'from-pod', interfaceIndex, frame: udp({ ...ends, sport }) });
          return met.events.map(({ reason, destination }) => `${reason} ${formatAddress(destination)}`).join();
        };
        // The other one lets nobody in.
        assert.equal(meets(LISTENS), `policy ${formatAddress(ownOf(other, family))}`);
      });
    }

    it('hears nothing of itself by a Service that another pod serves', () => {
      const [pod, other] = [bed.pod(1), bed.pod(0)];
      port++;
      serve(4, UDP, [other]);
      const talk = new Conversation({
        protocol: UDP,
        ...{ client: netnsOf(pod), server: netnsOf(pod) },
        ...{ to: { address: SERVICE[4], port }, at: { address: pod.v4, port: LISTENS } },
      });
      assert.equal(talk.exchange(1, MOMENT_MS), false);
      talk.close();
    });
  });
}
