// What a pod can have written into its packets once they were judged: nothing of what they were judged by. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { arp, echo, ip, sctp, tcp, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { PageSender, sendWithLateSum } from '#test/support/late-writes.ts';
import { needsRoot } from '#test/support/needs.ts';
import { waitFor } from '#test/support/pod-bed.ts';
import { by, closeOn, MARK, marked, NODE, OUTSIDER, openOn, WireBed } from '#test/support/wire-bed.ts';
import type { EbpfDatapath } from './open.ts';

const OPEN_PORT = 53;
const CLOSED_PORT = 54;
const PEERS = 5;
const CLOSED_SET = 9;
/** The least that IPv6 allows. */
const MTU = 1280;
/** How long what passes may take, and what does not is waited for. */
const WAIT_MS = 300;

for (const attach of ATTACH_MODES) {
  describe(`packets that are written to after they were judged, hooks by ${attach} (root)`, needsRoot, () => {
    let net: WireBed;
    let datapath: EbpfDatapath;

    before(() => {
      mountBpffs();
      net = new WireBed(`late-${attach}`, 1);
      // The node cuts up what is larger, and makes its checksums then.
      net.onNode('ip', 'link', 'set', 'u1', 'mtu', String(MTU));
      // Nobody there says where it is: packets wait on the node until the test does.
      const outside = net.router.replace(/router$/, 'outside');
      for (const family of ['-4', '-6']) net.onNode('ip', '-n', outside, family, 'addr', 'flush', 'dev', 'eth0');
      const { pods } = net.bed;
      datapath = openOn(net, { attach });
      const open = [TCP, UDP, SCTP].map((protocol) => (protocol << 16) | OPEN_PORT);
      const allowed = open.map((position) => interval(position, position, 'allow', 10));
      datapath.apply([
        ...ground(),
        ...identitySteps(PEERS, [OUTSIDER.v4, OUTSIDER.v6]),
        ...isolatingSet(CLOSED_SET, 90, new Map([[PEERS, allowed]])),
        ...pods.flatMap(({ link, name }) =>
          link.addresses.map((own) => endpointStep(own, { egress: CLOSED_SET }, name)),
        ),
        { kind: 'node', node: 'node-a', value: NODE },
      ]);
    });

    after(() => closeOn(net, datapath));

    const ends = (family: 4 | 6) => {
      const pod = net.pod(0);
      const [from, to] = family === 4 ? [pod.v4, OUTSIDER.v4] : [pod.v6, OUTSIDER.v6];
      return { ...by(net.at(pod)), from, to };
    };
    const knowNeighbour = (to: Address, known: boolean): void => {
      const mac = [...net.outsider.mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
      const how = known ? ['replace', formatAddress(to), 'lladdr', mac] : ['del', formatAddress(to)];
      net.onNode('ip', 'neigh', ...how, 'dev', 'u1');
    };
    /** Destination ports of the datagrams with the mark that come to the outsider. */
    const portsOutside = (family: 4 | 6): readonly number[] => {
      const ports: number[] = [];
      waitFor(() => {
        for (const frame of net.outsider.wire.received().map((bytes) => Buffer.from(bytes))) {
          if (frame.includes(Buffer.from(MARK))) ports.push(frame.readUInt16BE(family === 4 ? 36 : 56));
        }
        return ports.length > 0;
      }, WAIT_MS);
      return ports;
    };
    const reasons = (): readonly string[] =>
      datapath.poll().events.flatMap(({ kind, reason }) => (kind === 'drop' ? [reason] : []));

    it('a checksum is not written over the port that was judged', () => {
      knowNeighbour(OUTSIDER.v4, true);
      net.outsider.wire.received();
      reasons();
      // The sum over all that follows the IP header, where the port is: made so that it is the closed port.
      const frame = udp({ ...ends(4), sport: 4000, dport: OPEN_PORT, payload: marked(1400) });
      const balance = 34 + 8 + 400;
      frame.set([0, 0], balance);
      const rest = (0xffff - CLOSED_PORT - sumOf(frame.subarray(34)) + 0x1fffe) % 0xffff;
      frame.set([rest >> 8, rest & 255], balance);
      sendWithLateSum(net.pod(0).netns, frame, { start: 34, offset: 2 });
      assert.deepEqual(portsOutside(4), []);
      assert.deepEqual(reasons(), ['malformed']);
    });

    it('nor over anything else that is read, of any protocol', () => {
      const pod = net.pod(0).netns;
      for (const family of [4, 6] as const) {
        const start = family === 4 ? 34 : 54;
        const spec = { ...ends(family), sport: 4000, dport: OPEN_PORT, payload: marked(60) };
        const wrong = [
          ...[0, 2, 4, 7].map((offset) => ({ frame: udp(spec), offset })),
          ...[0, 2, 4, 12, 13, 15, 17].map((offset) => ({ frame: tcp(spec), offset })),
          ...[0, 2, 10].map((offset) => ({ frame: sctp(spec), offset })),
          ...[0, 2, 4, 8].map((offset) => ({ frame: echo({ ...spec, id: 7 }), offset })),
        ];
        for (const { frame, offset } of wrong) {
          reasons();
          sendWithLateSum(pod, frame, { start, offset });
          waitFor(() => false, 5);
          assert.deepEqual(reasons(), ['malformed'], `IPv${family}, ${offset}, ${Buffer.from(frame).toString('hex')}`);
        }
      }
      const claim = arp({ operation: 2, senderMac: net.pod(0).link.mac, sender: net.pod(0).v4, target: '169.254.1.1' });
      reasons();
      sendWithLateSum(pod, claim, { start: 34, offset: 4 });
      waitFor(() => false, 5);
      assert.deepEqual(reasons(), ['malformed']);
    });

    it('a checksum where it belongs is made', () => {
      for (const family of [4, 6] as const) {
        const spec = { ...ends(family), sport: 4100, dport: OPEN_PORT, payload: marked(60) };
        knowNeighbour(spec.to, true);
        const start = family === 4 ? 34 : 54;
        // The last one belongs to what a tunnel carries.
        const frames = [
          { frame: udp(spec), offset: 6 },
          { frame: tcp(spec), offset: 16 },
          { frame: udp(spec), offset: 30 },
        ];
        for (const { frame, offset } of frames) {
          net.outsider.wire.received();
          sendWithLateSum(net.pod(0).netns, frame, { start, offset });
          assert.deepEqual(portsOutside(family), [OPEN_PORT]);
        }
      }
      assert.deepEqual(reasons(), []);
    });

    it('what policy refuses is refused, so that what passed was let through by it', () => {
      for (const family of [4, 6] as const) {
        const closed = { ...ends(family), sport: 4300, dport: CLOSED_PORT, payload: marked(60) };
        net.outsider.wire.received();
        reasons();
        net.at(net.pod(0)).wire.send(udp(closed));
        net.at(net.pod(0)).wire.send(ip(closed, UDP, marked(8)));
        assert.deepEqual(portsOutside(family), []);
        assert.ok(reasons().includes('policy'));
      }
    });

    it('a packet in memory of its pod is what was judged, whatever is written there later', () => {
      const pod = new PageSender(net.bed, 0);
      try {
        for (const family of [4, 6] as const) {
          const spec = { ...ends(family), sport: 4200, dport: OPEN_PORT, payload: marked(60) };
          knowNeighbour(spec.to, true);
          knowNeighbour(spec.to, false);
          net.outsider.wire.received();
          reasons();
          // Of TCP and UDP, the stack looks at the ports at once; not so here.
          pod.send(sctp(spec));
          // It waits on the node for its next hop's MAC.
          assert.deepEqual(portsOutside(family), []);
          pod.overwrite(family === 4 ? 36 : 56, Uint8Array.of(0, CLOSED_PORT));
          knowNeighbour(spec.to, true);
          assert.deepEqual(portsOutside(family), [OPEN_PORT]);
          assert.ok(!reasons().includes('policy'));
        }
      } finally {
        pod.close();
      }
    });
  });
}

/** The Internet checksum's sum, not yet inverted, of 16-bit words, modulo 0xffff. */
function sumOf(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte, at) => (sum + (at % 2 === 0 ? byte << 8 : byte)) % 0xffff, 0);
}
