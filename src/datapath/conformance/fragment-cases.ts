// Fragments: only the first has the ports, and nobody may use that.
import { concat, echo, type FragmentPlace, ip, tcp, udp } from '../packets.ts';
import { back, type Case } from './case.ts';
import type { Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const UDP = 17;
const TCP = 6;
const IP_HEADER = { 4: 20, 6: 40 } as const;

const first = (id: number): FragmentPlace => ({ id, offset: 0, more: true });
const later = (id: number, offset = 185): FragmentPlace => ({ id, offset, more: false });

const ask = (at: Names) => ({ from: at.a, to: at.b, sport: 40000, dport: 53 });

/** A later fragment's bytes: they look like a UDP header for port 53, to who reads them as one. */
const REST = Uint8Array.of(0x9c, 0x40, 0, 53, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8);

export const FRAGMENT_CASES: readonly Case[] = [
  {
    name: 'later fragments go the way of their first one',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      rig.pass('from a', udp({ ...ask(at), fragment: first(1) }));
      rig.pass('from a', ip({ from: at.a, to: at.b, fragment: { ...later(1, 2), more: true } }, UDP, REST));
      rig.pass('from a', ip({ from: at.a, to: at.b, fragment: later(1) }, UDP, REST));
      rig.pass('to b', ip({ from: at.a, to: at.b, fragment: later(1) }, UDP, REST));
    },
  },
  {
    name: 'a later fragment whose first one was not seen is dropped where the port matters',
    run: (rig, at) => {
      const rest = { from: at.a, to: at.b };
      rig.policy('b', 'ingress', ['allow a udp/53 tcp/53', 'allow remote udp/53', DEFAULT]);
      rig.drop('from a', ip({ ...rest, fragment: later(2) }, UDP, REST), 'fragment-unknown');
      rig.pass('from a', udp({ ...ask(at), fragment: first(2) }));
      rig.drop('from a', ip({ ...rest, fragment: later(3) }, UDP, REST), 'fragment-unknown');
      rig.drop('from a', ip({ ...rest, fragment: later(2) }, TCP, REST), 'fragment-unknown');
      rig.drop('to b', ip({ ...rest, from: at.remote, fragment: later(2) }, UDP, REST), 'fragment-unknown');
      rig.pass('from a', ip({ ...rest, fragment: later(2) }, UDP, REST));
    },
  },
  {
    name: 'a later fragment passes without its first one where no port would change the verdict',
    run: (rig, at) => {
      const rest = ip({ from: at.a, to: at.b, fragment: later(1) }, UDP, REST);
      rig.pass('from a', rest);
      rig.policy('b', 'ingress', ['allow a udp', DEFAULT]);
      rig.pass('from a', rest);
      rig.policy('b', 'ingress', ['deny any udp/9', 'allow a udp', DEFAULT]);
      rig.drop('from a', rest, 'fragment-unknown');
      rig.policy('b', 'ingress', ['deny a udp/65535'], ['allow a']);
      rig.drop('from a', rest, 'fragment-unknown');
      rig.policy('b', 'ingress', ['allow a']);
      rig.policy('a', 'egress', ['allow b udp/0', DEFAULT]);
      rig.drop('from a', rest, 'fragment-unknown');
    },
  },
  {
    name: 'a later fragment never passes where its first one is denied',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      rig.drop('from a', udp({ ...ask(at), dport: 54, fragment: first(1) }), 'policy ingress default');
      const judged = rig.inject('from a', ip({ from: at.a, to: at.b, fragment: later(1) }, UDP, REST));
      if (judged.verdict !== 'drop') throw new Error('the rest of a denied datagram passed');
    },
  },
  {
    name: 'a TCP fragment that could rewrite the flags of the first is dropped',
    run: (rig, at) => {
      const rest = new Uint8Array(16);
      rig.pass('from a', tcp({ ...ask(at), fragment: first(1) }));
      rig.drop('from a', ip({ from: at.a, to: at.b, fragment: later(1, 1) }, TCP, rest), 'fragment-tiny');
      rig.pass('from a', ip({ from: at.a, to: at.b, fragment: later(1, 3) }, TCP, rest));
    },
  },
  {
    name: 'a first fragment without its ports is dropped',
    run: (rig, at) => {
      const place = { from: at.a, to: at.b, fragment: first(1) };
      const header = 14 + IP_HEADER[at.family];
      const wholeTcp = tcp(ask(at)).subarray(header);
      for (const length of [0, 2, 4, 8, 12, 19]) {
        rig.drop('from a', ip(place, TCP, wholeTcp.subarray(0, length)), 'fragment-tiny');
      }
      const wholeUdp = udp(ask(at)).subarray(header);
      for (const length of [0, 3, 7]) rig.drop('from a', ip(place, UDP, wholeUdp.subarray(0, length)), 'fragment-tiny');
    },
  },
  {
    name: 'fragments of a reply and of a ping go with their flow',
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', udp(ask(at)));
      rig.pass('from b', udp({ ...back(ask(at)), fragment: first(1) }));
      rig.pass('from b', ip({ from: at.b, to: at.a, fragment: later(1) }, UDP, REST));
      const icmp = at.family === 4 ? 1 : 58;
      rig.pass('from a', echo({ from: at.a, to: at.b, id: 7, fragment: first(2) }));
      rig.pass('from a', ip({ from: at.a, to: at.b, fragment: later(2) }, icmp, REST));
      rig.pass('from b', echo({ from: at.b, to: at.a, id: 7, reply: true, fragment: first(3) }));
      rig.pass('from b', ip({ from: at.b, to: at.a, fragment: later(3) }, icmp, REST));
    },
  },
  {
    name: 'a first fragment with a stolen source teaches nothing',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow c udp/53', DEFAULT]);
      rig.drop('from a', udp({ ...ask(at), from: at.c, fragment: first(1) }), 'spoofed-source');
      rig.drop('from c', ip({ from: at.c, to: at.b, fragment: later(1) }, UDP, REST), 'fragment-unknown');
    },
  },
  {
    name: 'a fragment that is the whole packet is a whole packet',
    family: 6,
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      const whole: FragmentPlace = { id: 1, offset: 0, more: false };
      rig.pass('from a', udp({ ...ask(at), fragment: whole }));
      rig.drop('from a', udp({ ...ask(at), dport: 54, fragment: whole }), 'policy ingress default');
      rig.drop('from a', udp({ ...ask(at), fragment: whole }).subarray(0, 14 + 40 + 8), 'malformed');
      rig.drop('from a', ip({ from: at.a, to: at.b, fragment: whole }, UDP, REST.subarray(0, 4)), 'malformed');
      rig.drop('from a', ip({ from: at.a, to: at.b, fragment: later(1) }, UDP, REST), 'fragment-unknown');
    },
  },
  {
    name: 'of a later fragment nothing is read but what its fragment header says',
    family: 6,
    run: (rig, at) => {
      const rest = concat([UDP, 0, 1, 4, 0, 0, 0, 0], REST);
      rig.policy('b', 'ingress', ['allow a 60', DEFAULT]);
      rig.pass('from a', ip({ from: at.a, to: at.b, fragment: later(1) }, 60, rest));
      rig.policy('b', 'ingress', ['allow a udp', DEFAULT]);
      rig.drop('from a', ip({ from: at.a, to: at.b, fragment: later(1) }, 60, rest), 'policy ingress default');
    },
  },
  {
    // RFC 8200 §4.5: receivers put them together by addresses and id; only the first one's Next Header counts.
    name: 'a later fragment can rewrite nothing of the first, whatever it says of its protocol',
    family: 6,
    run: (rig, at) => {
      const rest = (next: number) => ip({ from: at.a, to: at.b, fragment: later(1, 1) }, next, REST);
      rig.policy('b', 'ingress', ['allow a tcp/80 udp 60', DEFAULT]);
      rig.pass('from a', tcp({ ...ask(at), dport: 80, fragment: first(1) }));
      for (const next of [TCP, UDP, 60, 132]) rig.drop('from a', rest(next), 'fragment-tiny');
      rig.pass('from a', ip({ from: at.a, to: at.b, fragment: later(1, 2) }, UDP, REST));
    },
  },
  {
    // Eight bytes of options more, and a fragment at offset 2 would overlap the ports.
    name: 'a first fragment with extension headers behind its fragment header is dropped',
    family: 6,
    run: (rig, at) => {
      const datagram = udp(ask(at)).subarray(14 + 40);
      const behind = (fragment: FragmentPlace) =>
        ip({ from: at.a, to: at.b, fragment }, 60, concat([UDP, 0, 1, 4, 0, 0, 0, 0], datagram));
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      rig.drop('from a', behind(first(1)), 'extension-header');
      rig.drop('from a', ip({ from: at.a, to: at.b, fragment: later(1) }, UDP, REST), 'fragment-unknown');
      rig.pass('from a', behind({ id: 1, offset: 0, more: false }));
      const before = { header: 60, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) };
      rig.pass('from a', udp({ ...ask(at), headers: [before], fragment: first(2) }));
    },
  },
  {
    name: 'fragment headers one in the other are dropped',
    family: 6,
    run: (rig, at) => {
      const header = { header: 44, body: concat([0, 0, 1], [0, 0, 0, 9]) };
      rig.drop('from a', udp({ ...ask(at), headers: [header], fragment: first(1) }), 'extension-header');
    },
  },
];
