// Attacks over real veths, by whole frames: what BPF_PROG_TEST_RUN can't carry, and what the kernel makes of packets
// on their way to the hooks. The victim is listened to below IP and must see nothing but the control. Needs root.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { concat, ip, udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import * as sockets from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsFirewall, needsRoot } from '#test/support/needs.ts';
import { waitFor } from '#test/support/pod-bed.ts';
import { by, controlPayload, marked, NODE, OUTSIDER, type Place, WireBed } from '#test/support/wire-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

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
    const { prefix, pods } = net.bed;
    datapath = openDatapath({
      instance: prefix,
      node: 'node-a',
      sizes: { ct_tcp: 256, ct_lru: 4096, drop_map: 4096, arena: 4096 },
      knobs: { dropWindow: 0n, dropRate: 1_000_000n },
    });
    for (const pod of pods) datapath.attach(pod.link);
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

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(net.bed.prefix, 'node-a');
    net.destroy();
  });

  beforeEach(() => {
    datapath.poll();
    net.at(net.pod(1)).wire.received();
  });

  /** The victim's address of the family. */
  function victim(family: 4 | 6): Address {
    return family === 4 ? net.pod(1).v4 : net.pod(1).v6;
  }

  /** How many of these frames arrived at the victim. */
  function arrived(place: Place, from: { readonly v4: Address; readonly v6: Address }, frames: readonly Uint8Array[]) {
    for (const frame of frames) place.wire.send(frame);
    const control = udp({ ...by(place), from: from.v4, to: victim(4), ...ports(OPEN_PORT), payload: controlPayload() });
    return net.arrivals(net.pod(1), () => place.wire.send(control)).length;
  }

  /** What the datapath dropped since the test began. */
  function reasons(): readonly string[] {
    return [...new Set(datapath.poll().events.flatMap(({ kind, reason }) => (kind === 'drop' ? [reason] : [])))].sort();
  }

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
