// A pod is the attacker: it speaks for itself alone, with its own MAC, its own addresses, its own neighbours' messages.
import { arp, BROADCAST_MAC, concat, echo, icmp, neighbour, tcp, udp } from '../packets.ts';
import type { Case } from './case.ts';
import { macOfPod, type Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const ports = { sport: 40000, dport: 80 };
const ALL_NODES = 'ff02::1';
const ALL_ROUTERS = 'ff02::2';
/** Made from a's MAC (RFC 4291, appendix A), and made from nothing. */
const LINK_LOCAL = 'fe80::ff:fe00:5001';
const OTHER_LINK_LOCAL = 'fe80::1';
const NOBODY = '::';

/** An NDP message with a fixed part of zeros. */
const discovery = (type: number, size: number, spec: { from: string; to: string; hopLimit?: number; code?: number }) =>
  icmp({ hopLimit: 255, code: 0, ...spec, type, body: new Uint8Array(size) });

const multicast = (at: Names): string => (at.family === 4 ? '224.0.0.251' : 'ff02::fb');

export const SPOOF_CASES: readonly Case[] = [
  {
    name: 'a pod sends from its own addresses only',
    run: (rig, at) => {
      rig.pass('from a', tcp({ from: at.a, to: at.b, ...ports }));
      for (const from of [at.b, at.remote, at.node, at.outside, at.unlearnt]) {
        rig.drop('from a', tcp({ from, to: at.b, ...ports }), 'spoofed-source');
        rig.drop('from a', tcp({ from, to: at.outside, ...ports }), 'spoofed-source');
      }
    },
  },
  {
    name: 'a pod sends with its own MAC only',
    run: (rig, at) => {
      const frame = tcp({ from: at.a, to: at.b, ...ports, sourceMac: macOfPod('b') });
      rig.dropAsIs('from a', frame, 'spoofed-source');
      const near = macOfPod('a').with(5, 0x77);
      rig.dropAsIs('from a', tcp({ from: at.a, to: at.b, ...ports, sourceMac: near }), 'spoofed-source');
      const first = macOfPod('a').with(0, 0x06);
      rig.dropAsIs('from a', tcp({ from: at.a, to: at.b, ...ports, sourceMac: first }), 'spoofed-source');
      rig.pass('from a', frame);
    },
  },
  {
    name: 'a pod that has stolen address and MAC of its neighbour is not taken for it',
    run: (rig, at) => {
      for (const to of [at.outside, at.remote]) {
        const frame = udp({ from: at.b, to, ...ports, sourceMac: macOfPod('b') });
        rig.dropAsIs('from a', frame, 'spoofed-source');
        rig.pass('from b', frame);
        rig.dropAsIs('from a', frame, 'spoofed-source');
      }
    },
  },
  {
    name: 'who has stolen a pod’s own address does not reach it by that',
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      for (const place of ['to a from afar', 'to a by stack'] as const) {
        rig.drop(place, udp({ from: at.a, to: at.a, ...ports }), 'spoofed-source');
        rig.drop(place, echo({ from: at.a, to: at.a, id: 1, reply: true }), 'spoofed-source');
      }
    },
  },
  {
    name: 'who has stolen the address of a pod of this node does not get that pod’s rights at its neighbours',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a', DEFAULT]);
      const request = { from: at.a, to: at.b, ...ports };
      for (const place of ['to b from afar', 'to b by stack'] as const) {
        rig.drop(place, udp(request), 'spoofed-source');
        rig.drop(place, tcp({ ...request, flags: 'S' }), 'spoofed-source');
      }
      rig.pass('to b', udp(request));
      rig.drop('to b from afar', udp(request), 'spoofed-source');
    },
  },
  {
    name: 'a packet at the interface of a pod that it is not for is dropped',
    run: (rig, at) => {
      for (const to of [at.b, at.remote, at.outside, at.unlearnt]) {
        rig.drop('to a', tcp({ from: at.outside, to, ...ports }), 'no-endpoint');
      }
    },
  },
  {
    name: 'a pod sends no multicast and no broadcast',
    run: (rig, at) => {
      rig.drop('from a', udp({ from: at.a, to: multicast(at), ...ports }), 'multicast');
      if (at.family === 4) rig.drop('from a', udp({ from: at.a, to: '255.255.255.255', ...ports }), 'multicast');
      const group = BROADCAST_MAC;
      rig.drop('from a', udp({ from: at.a, to: at.b, ...ports, destinationMac: group }), 'multicast');
    },
  },
  {
    name: 'no multicast and no broadcast reaches a pod, whoever sent it',
    run: (rig, at) => {
      const groups = at.family === 4 ? ['224.0.0.1', '239.255.255.250', '255.255.255.255'] : [ALL_NODES, 'ff0e::1'];
      const places = ['to a', 'to a from afar', 'to a by stack'] as const;
      const senders = [at.b, at.remote, at.unlearnt, at.outside, at.node];
      for (const to of [...groups, multicast(at)]) {
        for (const [place, from] of places.flatMap((place) => senders.map((from) => [place, from] as const))) {
          rig.drop(place, udp({ from, to, ...ports }), 'multicast');
          rig.drop(place, udp({ from, to, ...ports, destinationMac: BROADCAST_MAC }), 'multicast');
          rig.drop(place, tcp({ from, to, ...ports }), 'multicast');
          rig.drop(place, echo({ from, to, id: 1 }), 'multicast');
        }
      }
      // A subnet's: an address like any other that is not this pod's.
      if (at.family === 4) rig.drop('to a', udp({ from: at.outside, to: '10.1.0.255', ...ports }), 'no-endpoint');
    },
  },
  {
    name: 'a group’s MAC gives nobody other rights at a pod than its packet has',
    run: (rig, at) => {
      rig.policy('a', 'ingress', ['allow b udp/80', DEFAULT]);
      const second = at.family === 4 ? [0x01, 0x00, 0x5e, 0, 0, 0xfb] : [0x33, 0x33, 0, 0, 0, 0xfb];
      for (const destinationMac of [BROADCAST_MAC, Uint8Array.from(second)]) {
        for (const from of [at.remote, at.outside, at.node]) {
          rig.drop('to a', udp({ from, to: at.a, ...ports, destinationMac }), 'policy ingress default');
        }
        rig.drop('to a', udp({ from: at.b, to: at.a, ...ports, dport: 81, destinationMac }), 'policy ingress default');
        rig.drop('to a from afar', udp({ from: at.b, to: at.a, ...ports, destinationMac }), 'spoofed-source');
        rig.drop('to c', udp({ from: at.b, to: at.a, ...ports, destinationMac }), 'no-endpoint');
        rig.pass('to a', udp({ from: at.b, to: at.a, ...ports, destinationMac }));
      }
    },
  },
  {
    name: 'ARP asks and answers for the own address, with the own MAC',
    family: 4,
    run: (rig, at) => {
      const own = macOfPod('a');
      rig.pass('from a', arp({ operation: 1, senderMac: own, sender: at.a, target: at.b }));
      rig.pass('from a', arp({ operation: 2, senderMac: own, sender: at.a, target: at.node }));
      rig.pass('from a', arp({ operation: 1, senderMac: own, sender: '0.0.0.0', target: at.a }));
      for (const operation of [1, 2]) {
        for (const sender of [at.b, at.node, at.outside]) {
          rig.drop('from a', arp({ operation, senderMac: own, sender, target: at.c }), 'spoofed-neighbour');
        }
        const foreign = { operation, senderMac: macOfPod('b'), sender: at.a, target: at.c };
        rig.drop('from a', arp(foreign), 'spoofed-neighbour');
        rig.dropAsIs('from a', arp({ ...foreign, senderMac: own, sourceMac: macOfPod('b') }), 'spoofed-neighbour');
      }
      rig.expel('a');
      rig.drop('from a', arp({ operation: 1, senderMac: own, sender: at.a, target: at.b }), 'no-endpoint');
    },
  },
  {
    name: 'a pod asks for no address of another as if it were about to take it',
    family: 4,
    run: (rig, at) => {
      for (const target of [at.b, at.node, at.remote, at.outside]) {
        const probe = arp({ operation: 1, senderMac: macOfPod('a'), sender: '0.0.0.0', target });
        rig.drop('from a', probe, 'spoofed-neighbour');
      }
    },
  },
  {
    name: 'a pod makes nobody believe that an address is taken',
    family: 6,
    run: (rig, at) => {
      rig.pass('from a', neighbour({ type: 'solicitation', from: NOBODY, to: ALL_NODES, target: LINK_LOCAL }));
      for (const target of [at.b, at.node, at.outside, OTHER_LINK_LOCAL]) {
        const claim = neighbour({ type: 'solicitation', from: NOBODY, to: ALL_NODES, target });
        rig.drop('from a', claim, 'spoofed-neighbour');
      }
    },
  },
  {
    name: 'ARP reaches a pod, and is malformed where it is not whole',
    family: 4,
    run: (rig, at) => {
      const frame = arp({ operation: 1, senderMac: macOfPod('b'), sender: at.node, target: at.a });
      rig.pass('to a', frame);
      rig.pass('to a', concat(frame, new Uint8Array(18)));
      rig.drop('to a', frame.subarray(0, 41), 'malformed');
      const own = arp({ operation: 1, senderMac: macOfPod('a'), sender: at.a, target: at.b });
      rig.drop('from a', own.subarray(0, 41), 'malformed');
      rig.drop('from a', own.with(14 + 1, 6), 'malformed');
      rig.drop('from a', own.with(14 + 2, 0x86), 'malformed');
      rig.drop('from a', own.with(14 + 4, 8), 'malformed');
      rig.drop('from a', own.with(14 + 5, 16), 'malformed');
    },
  },
  {
    name: 'neighbour discovery passes for what a pod may ask and answer',
    family: 6,
    run: (rig, at) => {
      const option = macOfPod('a');
      for (const from of [at.a, LINK_LOCAL]) {
        rig.pass('from a', neighbour({ type: 'solicitation', from, to: 'ff02::1:ff00:2', target: at.b, option }));
      }
      rig.pass('from a', neighbour({ type: 'solicitation', from: NOBODY, to: 'ff02::1:ff00:1', target: at.a }));
      rig.pass('from a', neighbour({ type: 'advertisement', from: at.a, to: at.b, target: at.a, option }));
      rig.pass(
        'from a',
        neighbour({ type: 'advertisement', from: LINK_LOCAL, to: ALL_NODES, target: LINK_LOCAL, option }),
      );
      rig.pass('from a', discovery(133, 4, { from: LINK_LOCAL, to: ALL_ROUTERS }));
      rig.pass(
        'to a',
        neighbour({ type: 'advertisement', from: at.node, to: at.a, target: at.b, option: macOfPod('c') }),
      );
      rig.pass('to a', neighbour({ type: 'solicitation', from: at.node, to: 'ff02::1:ff00:1', target: at.a }));
      rig.pass('to a', discovery(134, 12, { from: 'fe80::1', to: ALL_NODES }));
    },
  },
  {
    name: 'neighbour discovery in the name of another is dropped',
    family: 6,
    run: (rig, at) => {
      const option = macOfPod('a');
      for (const target of [at.b, at.node, at.outside]) {
        const claim = { type: 'advertisement', from: at.a, to: ALL_NODES, target, option } as const;
        rig.drop('from a', neighbour(claim), 'spoofed-neighbour');
      }
      const foreign = { from: at.a, to: ALL_NODES, target: at.a, option: macOfPod('b') };
      rig.drop('from a', neighbour({ type: 'advertisement', ...foreign }), 'spoofed-neighbour');
      rig.drop('from a', neighbour({ type: 'solicitation', ...foreign }), 'spoofed-neighbour');
      for (const from of [at.b, OTHER_LINK_LOCAL, at.node]) {
        rig.drop('from a', neighbour({ type: 'solicitation', ...foreign, from, option }), 'spoofed-neighbour');
      }
      const nobody = { type: 'advertisement', from: NOBODY, to: ALL_NODES, target: at.a } as const;
      rig.drop('from a', neighbour(nobody), 'spoofed-neighbour');
      rig.drop('from a', neighbour({ ...nobody, from: at.a, target: OTHER_LINK_LOCAL }), 'spoofed-neighbour');
      rig.drop('from a', discovery(134, 12, { from: LINK_LOCAL, to: ALL_NODES }), 'spoofed-neighbour');
      rig.drop('from a', discovery(137, 36, { from: LINK_LOCAL, to: at.b }), 'spoofed-neighbour');
    },
  },
  {
    name: 'neighbour discovery that came over a router is a forgery, one that is not whole is malformed',
    family: 6,
    run: (rig, at) => {
      const ask = { type: 'solicitation', from: at.a, to: ALL_NODES, target: at.b } as const;
      rig.drop('from a', neighbour({ ...ask, hopLimit: 64 }), 'spoofed-neighbour');
      rig.drop('to a', neighbour({ ...ask, from: at.outside, to: at.a, hopLimit: 254 }), 'spoofed-neighbour');
      rig.drop('from a', neighbour({ ...ask, fragment: { id: 1, offset: 0, more: true } }), 'spoofed-neighbour');
      rig.drop('from a', discovery(135, 19, { from: at.a, to: ALL_NODES }), 'malformed');
      rig.drop('from a', discovery(136, 19, { from: at.a, to: ALL_NODES }), 'malformed');
      rig.drop('from a', discovery(136, 19, { from: at.b, to: ALL_NODES, hopLimit: 1 }), 'malformed');
      // RFC 4861 §7.1: a receiver discards it, too; it is not left to that.
      for (const type of [135, 136]) rig.drop('to a', discovery(type, 19, { from: at.node, to: at.a }), 'malformed');
      rig.pass('to a', discovery(135, 20, { from: at.node, to: at.a }));
      // An option of length 0 never ends; one of length 8 ends after the packet.
      rig.drop('from a', discovery(135, 20 + 8, { from: at.a, to: ALL_NODES }), 'malformed');
      const option = neighbour({ ...ask, option: macOfPod('a') });
      rig.drop('from a', option.with(14 + 40 + 24, 14).with(14 + 40 + 24 + 1, 8), 'malformed');
    },
  },
  {
    name: 'neighbour discovery is not judged, so it does not leave the link',
    family: 6,
    run: (rig, at) => {
      const option = macOfPod('a');
      rig.policy('a', 'egress', [DEFAULT]);
      for (const to of [at.outside, at.remote, at.unlearnt]) {
        const leak = { from: at.a, to, target: at.a, option };
        rig.drop('from a', neighbour({ type: 'solicitation', ...leak }), 'spoofed-neighbour');
        rig.drop('from a', neighbour({ type: 'advertisement', ...leak }), 'spoofed-neighbour');
      }
      rig.pass('from a', neighbour({ type: 'solicitation', from: at.a, to: at.node, target: at.node, option }));
    },
  },
  {
    name: 'a pod may join its groups and not ask others for theirs',
    family: 6,
    run: (rig, at) => {
      const headers = [{ header: 0, body: Uint8Array.of(0, 5, 2, 0, 0, 1, 0) }];
      const listener = (type: number, from: string, hopLimit = 1) =>
        icmp({ from, to: 'ff02::16', hopLimit, headers, type, code: 0, body: new Uint8Array(24) });
      for (const type of [131, 132, 143]) {
        rig.pass('from a', listener(type, LINK_LOCAL));
        rig.pass('from a', listener(type, NOBODY));
        rig.drop('from a', listener(type, at.b), 'spoofed-neighbour');
        for (const hops of [0, 2, 64, 255]) rig.drop('from a', listener(type, LINK_LOCAL, hops), 'spoofed-neighbour');
      }
      rig.drop('from a', listener(130, at.a), 'spoofed-neighbour');
      rig.pass('to a', listener(130, OTHER_LINK_LOCAL));
      rig.pass('to a', listener(131, NOBODY));
    },
  },
  {
    name: 'a listener message from beyond the link is a forgery, though its hop limit ran down to 1 on the way',
    family: 6,
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      for (const type of [130, 131, 132, 143]) {
        for (const from of [at.outside, at.remote, at.b, at.otherNode]) {
          const frame = icmp({ from, to: at.a, hopLimit: 1, type, code: 0, body: new Uint8Array(24) });
          rig.drop('to a', frame, 'spoofed-neighbour');
        }
      }
    },
  },
  {
    name: 'a link-local address is for neighbour discovery alone',
    family: 6,
    run: (rig, at) => {
      rig.drop('from a', udp({ from: LINK_LOCAL, to: at.b, ...ports }), 'spoofed-source');
      rig.drop('from a', udp({ from: NOBODY, to: at.b, ...ports }), 'spoofed-source');
    },
  },
];
