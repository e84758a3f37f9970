// What is no good packet, what looks like one, and what hides where ports are: options, extension headers, padding.
import { concat, ethernet, icmp, ip, macOf, sctp, tcp, udp } from '../packets.ts';
import type { Case } from './case.ts';
import { macOfPod, type Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const ends = (at: Names) => ({ from: at.a, to: at.b });
const ports = { sport: 40000, dport: 80 };

/** The frame with the bytes at `at` replaced. */
function patched(frame: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array {
  const copy = Uint8Array.from(frame);
  copy.set(bytes, at);
  return copy;
}

/** An extension header of 8 bytes with nothing in it but padding. */
const padding = (header: number) => ({ header, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) });

const IP = 14;

export const PACKET_CASES: readonly Case[] = [
  {
    name: 'a frame cut at any byte is malformed',
    run: (rig, at) => {
      const ping = { type: at.family === 4 ? 8 : 128, code: 0, body: new Uint8Array(8) };
      const frames = [tcp, udp, sctp].map((make) => make({ ...ends(at), ...ports }));
      let judged = 0;
      for (const frame of [...frames, icmp({ ...ends(at), ...ping })]) {
        const sent = concat(frame.subarray(0, 6), macOfPod('a'), frame.subarray(12));
        for (let length = 0; length < sent.length; length++) {
          const cut = rig.injectAsIs('from a', sent.subarray(0, length));
          if (cut === 'refused') continue;
          judged++;
          if (cut.reason !== 'malformed') throw new Error(`cut at ${length}: ${cut.reason}`);
        }
        rig.pass('from a', frame);
      }
      if (judged === 0) throw new Error('not one cut frame was judged');
    },
  },
  {
    name: 'an IPv4 header that contradicts itself is malformed',
    family: 4,
    run: (rig, at) => {
      const frame = tcp({ ...ends(at), ...ports });
      rig.drop('from a', patched(frame, IP, 0x65), 'malformed');
      rig.drop('from a', patched(frame, IP, 0x44), 'malformed');
      rig.drop('from a', patched(frame, IP, 0x4f), 'malformed');
      rig.drop('from a', patched(frame, IP + 2, 0, 41), 'malformed');
      rig.drop('from a', patched(frame, IP + 2, 0, 19), 'malformed');
      rig.drop('from a', patched(frame, IP + 2, 0, 30), 'malformed');
    },
  },
  {
    name: 'an IPv6 header that contradicts itself is malformed',
    family: 6,
    run: (rig, at) => {
      const frame = tcp({ ...ends(at), ...ports });
      rig.drop('from a', patched(frame, IP, 0x40), 'malformed');
      rig.drop('from a', patched(frame, IP + 4, 0, 21), 'malformed');
      rig.drop('from a', patched(frame, IP + 4, 0, 19), 'malformed');
      rig.drop('from a', patched(frame, IP + 4, 0, 0), 'malformed');
    },
  },
  {
    name: 'a TCP header whose length is impossible is malformed',
    run: (rig, at) => {
      const frame = tcp({ ...ends(at), ...ports });
      const offset = frame.length - 8;
      rig.drop('from a', patched(frame, offset, 0x40), 'malformed');
      rig.drop('from a', patched(frame, offset, 0x60), 'malformed');
    },
  },
  {
    name: 'bytes after the end of the packet are padding',
    run: (rig, at) => {
      rig.pass('from a', concat(tcp({ ...ends(at), ...ports }), new Uint8Array(30)));
      const cut = at.family === 4 ? patched(udp({ ...ends(at), ...ports }), IP + 2, 0, 27) : null;
      if (cut !== null) rig.drop('from a', cut, 'malformed');
    },
  },
  {
    name: 'what is neither IPv4, IPv6 nor ARP is dropped, VLAN tags included',
    run: (rig, at) => {
      const inner = tcp({ ...ends(at), ...ports }).subarray(12);
      const macs = { source: macOfPod('a'), destination: macOf(at.b) };
      for (const type of [0x8100, 0x88a8]) {
        rig.drop('from a', ethernet({ ...macs, type }, concat([0, 5], inner)), 'ethertype');
      }
      for (const type of [0x8847, 0x8863, 0x88cc, 0x0000]) {
        rig.drop('from a', ethernet({ ...macs, type }, new Uint8Array(60)), 'ethertype');
        rig.drop('to b', ethernet({ ...macs, type }, new Uint8Array(60)), 'ethertype');
      }
    },
  },
  {
    name: 'IPv4 options do not hide the port',
    family: 4,
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      for (const length of [4, 20, 40]) {
        const options = new Uint8Array(length).fill(1);
        // The options hold what would be the port of an attacker's wish, were they read as TCP.
        options.set([0x00, 0x50, 0x00, 0x50]);
        rig.pass('from a', tcp({ ...ends(at), ...ports, options }));
        rig.drop('from a', tcp({ ...ends(at), sport: 80, dport: 81, options }), 'policy ingress default');
      }
    },
  },
  {
    name: 'an IPv4 source route is malformed: it leads to somebody who was not judged',
    family: 4,
    run: (rig, at) => {
      for (const route of [131, 137]) {
        for (const options of [
          [route, 7, 4, 192, 0, 2, 1, 0],
          [1, route, 7, 4, 192, 0, 2, 1],
          [68, 4, 5, 0, route, 3, 4, 0],
        ]) {
          rig.drop('from a', tcp({ ...ends(at), ...ports, options: Uint8Array.from(options) }), 'malformed');
        }
      }
      for (const options of [Uint8Array.of(7, 0, 0, 0), Uint8Array.of(7, 1, 0, 0), Uint8Array.of(1, 1, 1, 7)]) {
        rig.drop('from a', tcp({ ...ends(at), ...ports, options }), 'malformed');
      }
    },
  },
  {
    name: 'authentication headers are a protocol like any other: what they hold is not looked at',
    family: 6,
    run: (rig, at) => {
      const headers = [{ header: 51, body: Uint8Array.of(2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9) }];
      rig.policy('b', 'ingress', ['allow a tcp', DEFAULT]);
      rig.drop('from a', tcp({ ...ends(at), ...ports, headers }), 'policy ingress default');
      rig.policy('b', 'ingress', ['allow a 51', DEFAULT]);
      rig.pass('from a', tcp({ ...ends(at), ...ports, headers }));
    },
  },
  {
    name: 'IPv6 extension headers do not hide the port',
    family: 6,
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      const chains = [
        [padding(0)],
        [padding(60)],
        [padding(0), padding(60), padding(60)],
        [{ header: 43, body: Uint8Array.of(0, 4, 0, 0, 0, 0, 0) }],
        [{ header: 60, body: Uint8Array.of(2, 1, 20, ...new Uint8Array(20)) }],
      ];
      for (const headers of chains) {
        rig.pass('from a', tcp({ ...ends(at), ...ports, headers }));
        rig.drop('from a', tcp({ ...ends(at), sport: 80, dport: 81, headers }), 'policy ingress default');
      }
    },
  },
  {
    name: 'a chain of extension headers that is too long or leads elsewhere is dropped',
    family: 6,
    run: (rig, at) => {
      const chain = (length: number) => Array.from({ length }, () => padding(60));
      rig.pass('from a', tcp({ ...ends(at), ...ports, headers: chain(6) }));
      for (const headers of [
        chain(7),
        [{ header: 135, body: Uint8Array.of(0, 0, 0, 0, 0, 0, 0) }],
        // Segments left: the packet goes on to somebody who was not judged.
        [{ header: 43, body: Uint8Array.of(2, 0, 1, ...new Uint8Array(20)) }],
        [{ header: 43, body: Uint8Array.of(2, 4, 1, ...new Uint8Array(20)) }],
      ]) {
        rig.drop('from a', tcp({ ...ends(at), ...ports, headers }), 'extension-header');
      }
    },
  },
  {
    name: 'an extension header that ends after the packet is malformed',
    family: 6,
    run: (rig, at) => {
      for (const header of [0, 43, 60]) {
        const headers = [{ header, body: Uint8Array.of(255, 0, 0, 0, 0, 0, 0) }];
        rig.drop('from a', tcp({ ...ends(at), ...ports, headers }), 'malformed');
        rig.drop('from a', ip({ ...ends(at), headers }, 59, new Uint8Array(8)), 'malformed');
      }
    },
  },
  {
    name: 'no next header is a protocol like any other',
    family: 6,
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a tcp/80', 'allow a 59', DEFAULT]);
      rig.pass('from a', ip(ends(at), 59, new Uint8Array(8)));
      rig.pass('from a', ip({ ...ends(at), headers: [padding(60)] }, 59, new Uint8Array(8)));
      rig.drop('from a', ip(ends(at), 50, new Uint8Array(8)), 'policy ingress default');
    },
  },
  {
    name: 'IPv6 packets with IPv4 addresses inside are dropped, whichever end has one',
    family: 6,
    run: (rig, at) => {
      rig.drop('from a', tcp({ from: at.a, to: '::ffff:10.1.0.2', ...ports }), 'v4-mapped');
      rig.drop('from a', tcp({ from: '::ffff:10.1.0.1', to: at.b, ...ports }), 'v4-mapped');
      rig.drop('to b', udp({ from: '::ffff:203.0.113.9', to: at.b, ...ports }), 'v4-mapped');
    },
  },
  {
    name: 'a header without room for itself is malformed, whatever it carries',
    run: (rig, at) => {
      const frame = ip(ends(at), 47, new Uint8Array(20));
      rig.pass('from a', frame);
      if (at.family === 4)
        for (const first of [0x44, 0x40, 0x4f]) rig.drop('from a', patched(frame, IP, first), 'malformed');
      else for (const size of [0, 1, 2, 7]) rig.drop('from a', ip(ends(at), 43, new Uint8Array(size)), 'malformed');
    },
  },
  {
    name: 'ICMP of the other family is a protocol like any other',
    run: (rig, at) => {
      const [number, reply] = at.family === 4 ? [58, 0] : [1, 129];
      rig.pass('from a', ip(ends(at), number, concat([reply, 0, 0, 0, 0, 1, 0, 1], new Uint8Array(8))));
      rig.policy('b', 'ingress', ['allow a icmp icmpv6', DEFAULT]);
      rig.pass('from a', ip(ends(at), number, new Uint8Array(4)));
      rig.policy('b', 'ingress', [at.family === 4 ? 'allow a icmp' : 'allow a icmpv6', DEFAULT]);
      rig.drop('from a', ip(ends(at), number, new Uint8Array(4)), 'policy ingress default');
    },
  },
  {
    name: 'a datagram of length 0 is one that the kernel’s own offloads made',
    run: (rig, at) => {
      const frame = udp({ ...ends(at), ...ports });
      rig.pass('from a', patched(frame, frame.length - 4, 0, 0));
      for (const length of [1, 7]) rig.drop('from a', patched(frame, frame.length - 4, 0, length), 'malformed');
    },
  },
  {
    name: 'after the end of the options nothing is one',
    family: 4,
    run: (rig, at) => {
      for (const options of [Uint8Array.of(0, 131, 3, 4), Uint8Array.of(1, 0, 0, 137)]) {
        rig.pass('from a', tcp({ ...ends(at), ...ports, options }));
      }
    },
  },
];
