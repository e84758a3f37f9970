// What an attacker sends beside its own traffic: packets in packets, packets that lead elsewhere, packets of nobody.
import { arp, concat, ethernet, icmp, icmpError, ip, neighbour, tcp, udp } from '../packets.ts';
import type { Case } from './case.ts';
import { macOfPod, type Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const UDP = 17;
const ports = { sport: 40000, dport: 80 };
const ends = (at: Names) => ({ from: at.a, to: at.b });
const echoNumber = { 4: 1, 6: 58 } as const;

/** What stands in a tunnel: a packet that policy allows, from and to whomever. */
const inside = (at: Names): Uint8Array => tcp({ from: at.remote, to: at.b, ...ports });
const vxlan = (at: Names): Uint8Array => concat([8, 0, 0, 0, 0, 0, 1, 0], inside(at));
const geneve = (at: Names): Uint8Array => concat([0, 0, 0x65, 0x58, 0, 0, 1, 0], inside(at));
const gre = (at: Names): Uint8Array => concat([0, 0, 0x65, 0x58], inside(at));
const bare = (at: Names): Uint8Array => inside(at).subarray(14);

export const ATTACK_CASES: readonly Case[] = [
  {
    name: 'a tunnel is judged by its outer header alone, whatever it holds',
    run: (rig, at) => {
      // IPIP, 6in4 and 4in6, GRE, ESP, AH.
      const tunnels = [
        [4, bare(at)],
        [41, bare(at)],
        [47, gre(at)],
        [50, new Uint8Array(24)],
        [51, concat([6, 4, 0, 0], new Uint8Array(20), bare(at).subarray(-20))],
      ] as const;
      rig.policy('b', 'ingress', ['allow any tcp/80', DEFAULT]);
      for (const [protocol, body] of tunnels) {
        rig.drop('from a', ip(ends(at), protocol, body), 'policy ingress default');
        rig.drop('to b', ip({ from: at.outside, to: at.b }, protocol, body), 'policy ingress default');
      }
      for (const [dport, payload] of [
        [4789, vxlan(at)],
        [8472, vxlan(at)],
        [6081, geneve(at)],
      ] as const) {
        rig.drop('from a', udp({ ...ends(at), sport: 1, dport, payload }), 'policy ingress default');
      }
      rig.policy('b', 'ingress', ['allow a 4 41 47 50 51 udp/4789', 'deny any']);
      for (const [protocol, body] of tunnels) rig.pass('from a', ip(ends(at), protocol, body));
      rig.pass('from a', udp({ ...ends(at), sport: 1, dport: 4789, payload: vxlan(at) }));
      rig.drop('from a', tcp({ ...ends(at), ...ports }), 'policy ingress deny any');
    },
  },
  {
    name: 'tags may be many, or one of number 0: no tagged frame passes',
    run: (rig, at) => {
      const packet = tcp({ ...ends(at), ...ports }).subarray(12);
      const macs = { source: macOfPod('a'), destination: macOfPod('b') };
      const tags = [
        [0x8100, [0, 0]],
        [0x8100, [0xe0, 0]],
        [0x88a8, [0, 7, 0x81, 0, 0, 9]],
        [0x8100, [0, 7, 0x81, 0, 0, 9]],
        [0x9100, [0, 7]],
        [0x9200, [0, 7]],
      ] as const;
      for (const [type, tag] of tags) {
        rig.drop('from a', ethernet({ ...macs, type }, concat(tag, packet)), 'ethertype');
        rig.drop('to b', ethernet({ ...macs, type }, concat(tag, packet)), 'ethertype');
      }
    },
  },
  {
    // RFC 1122 §3.2.1.3; RFC 4291 §2.5.2, §2.5.3; a node with route_localnet would take them for its own.
    name: 'nobody is at this host, or at a loopback address',
    run: (rig, at) => {
      const nowhere = at.family === 4 ? ['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.255.255'] : ['::', '::1'];
      const groups = at.family === 4 ? ['224.0.0.1', '255.255.255.255', '240.0.0.1'] : ['ff02::1', 'ff0e::1234'];
      for (const address of nowhere) {
        rig.drop('from a', tcp({ from: at.a, to: address, ...ports }), 'malformed');
        rig.drop('from a', udp({ from: address, to: at.b, ...ports }), 'spoofed-source');
      }
      for (const from of [...nowhere, ...groups]) {
        for (const make of [udp, tcp]) rig.drop('to b', make({ from, to: at.b, ...ports }), 'malformed');
        rig.drop('to b by stack', tcp({ from, to: at.b, ...ports }), 'malformed');
      }
      const near = at.family === 4 ? ['1.0.0.1', '126.255.255.255', '128.0.0.1', '223.1.1.1'] : ['::2', '::1:0:0:1'];
      for (const from of near) rig.pass('to b', udp({ from, to: at.b, ...ports }));
    },
  },
  {
    name: 'a link-local address is judged as any other, and is nobody’s own but for its neighbours',
    run: (rig, at) => {
      const address = at.family === 4 ? '169.254.1.9' : 'fe80::9';
      rig.policy('b', 'ingress', ['allow remote', DEFAULT]);
      rig.drop('to b', udp({ from: address, to: at.b, ...ports }), 'policy ingress default');
      rig.drop('from a', udp({ from: address, to: at.b, ...ports }), 'spoofed-source');
    },
  },
  {
    // RFC 1812 §5.2.7.2: a host that is no router sends no redirects; RFC 4861 §8.1 for IPv6.
    name: 'nobody but the own node sends a pod somewhere else',
    family: 4,
    run: (rig, at) => {
      const asked = { from: at.b, to: at.a, sport: 40000, dport: 53 };
      rig.pass('from b', udp(asked));
      rig.drop('from a', icmpError({ from: at.a, to: at.b, type: 5, inner: udp(asked) }), 'spoofed-neighbour');
      for (const from of [at.outside, at.otherNode, at.node]) {
        rig.drop('to b', icmpError({ from, to: at.b, type: 5, inner: udp(asked) }), 'spoofed-neighbour');
      }
      rig.pass('to b by stack', icmpError({ from: at.node, to: at.b, type: 5, inner: udp(asked) }));
    },
  },
  {
    name: 'what follows a packet is not part of it, not of an ICMP error either',
    run: (rig, at) => {
      const asked = { from: at.b, to: at.outside, sport: 40000, dport: 53 };
      rig.pass('from b', udp(asked));
      const error = icmpError({ from: at.outside, to: at.b, inner: udp(asked) });
      rig.pass('to b', concat(error, new Uint8Array(20)));
      const header = at.family === 4 ? 20 : 40;
      for (let quoted = 0; quoted < header + 8; quoted++) {
        const inner = udp(asked).subarray(0, 14 + quoted);
        const rest = udp(asked).subarray(14 + quoted);
        rig.drop('to b', concat(icmpError({ from: at.outside, to: at.b, inner }), rest), 'icmp-unrelated');
      }
    },
  },
  {
    name: 'an ICMP error in fragments passes where it names its flow, and its rest where ICMP may',
    run: (rig, at) => {
      const asked = { from: at.b, to: at.outside, sport: 40000, dport: 53 };
      const first = { id: 9, offset: 0, more: true };
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.pass('from b', udp(asked));
      rig.pass('to b', icmpError({ from: at.outside, to: at.b, fragment: first, inner: udp(asked) }));
      const stranger = udp({ ...asked, sport: 40001 });
      rig.drop('to b', icmpError({ from: at.outside, to: at.b, fragment: first, inner: stranger }), 'icmp-unrelated');
      const rest = { from: at.outside, to: at.b, fragment: { id: 9, offset: 8, more: false } };
      rig.drop('to b', ip(rest, echoNumber[at.family], new Uint8Array(16)), 'policy ingress default');
      const short = { from: at.outside, to: at.b, fragment: first };
      rig.drop('to b', ip(short, echoNumber[at.family], Uint8Array.of(3, 1, 0, 0)), 'fragment-tiny');
    },
  },
  {
    name: 'fragments that overlap carry no other ports than the first, whatever their order',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      const ask = { ...ends(at), sport: 40000, dport: 53 };
      const piece = (offset: number, more: boolean, dport = 54) =>
        udp({ ...ask, dport, payload: new Uint8Array(16), fragment: { id: 3, offset, more } });
      const second = at.family === 4 ? 'fragment-unknown' : 'fragment-tiny';
      rig.drop('from a', piece(1, true), second);
      rig.drop('from a', piece(0, true), 'policy ingress default');
      rig.drop('from a', piece(1, false), second);
      rig.pass('from a', piece(0, true, 53));
      // The ports stand in the first 8 bytes: only what says that it has those may say other ports.
      rig.drop('from a', piece(0, true), 'policy ingress default');
      rig.drop('from a', piece(0, false), 'policy ingress default');
      if (at.family === 4) rig.pass('from a', piece(1, true));
      rig.pass('from a', piece(2, true));
      rig.pass('from a', piece(8191, false));
    },
  },
  {
    // RFC 2675: nothing here has a link for one.
    name: 'a jumbogram is malformed',
    family: 6,
    run: (rig, at) => {
      const headers = [{ header: 0, body: Uint8Array.of(0, 0xc2, 4, 0, 1, 0, 1) }];
      const jumbo = tcp({ ...ends(at), ...ports, headers });
      jumbo.set([0, 0], 14 + 4);
      rig.drop('from a', jumbo, 'malformed');
      rig.drop('to b', jumbo, 'malformed');
    },
  },
  {
    name: 'a router alert changes nothing for who is no router',
    family: 6,
    run: (rig, at) => {
      const headers = [{ header: 0, body: Uint8Array.of(0, 5, 2, 0, 0, 1, 0) }];
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      rig.pass('from a', tcp({ ...ends(at), ...ports, headers }));
      rig.drop('from a', tcp({ ...ends(at), ...ports, dport: 81, headers }), 'policy ingress default');
      const query = icmp({ ...ends(at), type: 130, code: 0, hopLimit: 1, headers, body: new Uint8Array(20) });
      rig.drop('from a', query, 'spoofed-neighbour');
    },
  },
  {
    name: 'an ARP frame has no room for messages',
    family: 4,
    run: (rig, at) => {
      const frame = arp({ operation: 1, senderMac: macOfPod('a'), sender: at.a, target: at.b });
      for (const padding of [0, 18]) rig.pass('from a', concat(frame, new Uint8Array(padding)));
      for (const padding of [19, 1000]) rig.drop('from a', concat(frame, new Uint8Array(padding)), 'malformed');
    },
  },
  {
    name: 'neighbour discovery has no room for messages',
    family: 6,
    run: (rig, at) => {
      const own = neighbour({ type: 'advertisement', ...ends(at), target: at.a, option: macOfPod('a') });
      rig.pass('from a', own);
      const body = own.subarray(14 + 40 + 4);
      const said = (...options: readonly number[]) =>
        icmp({ ...ends(at), hopLimit: 255, type: 136, code: 0, body: concat(body, options) });
      rig.pass('from a', said(14, 1, 1, 2, 3, 4, 5, 6));
      for (const type of [0, 3, 5, 24, 253]) {
        rig.drop('from a', said(type, 1, 1, 2, 3, 4, 5, 6), 'spoofed-neighbour');
      }
      rig.drop('from a', said(14, 2, ...new Uint8Array(14)), 'spoofed-neighbour');
      rig.drop('from a', said(2, 2, ...macOfPod('a'), ...new Uint8Array(8)), 'spoofed-neighbour');
    },
  },
  {
    name: 'a datagram with a forged length or checksum is judged by the ports that are in it',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      const at8 = 14 + (at.family === 4 ? 20 : 40);
      const frame = (dport: number) => udp({ ...ends(at), sport: 1, dport, payload: new Uint8Array(8) });
      for (const [offset, bytes] of [
        [at8 + 4, [0, 8]],
        [at8 + 4, [0xff, 0xff]],
        [at8 + 6, [0, 0]],
        [at8 + 6, [0xde, 0xad]],
      ] as const) {
        for (const [dport, verdict] of [
          [53, 'pass'],
          [54, 'drop'],
        ] as const) {
          const forged = frame(dport);
          forged.set(bytes, offset);
          const judged = rig.inject('from a', forged);
          if (judged.verdict !== verdict) throw new Error(`port ${dport}, ${bytes} at ${offset}: ${judged.reason}`);
        }
      }
      const short = frame(53);
      short.set([0, 7], at8 + 4);
      rig.drop('from a', short, 'malformed');
      rig.pass('from a', ip(ends(at), UDP, frame(53).subarray(at8)));
    },
  },
];
