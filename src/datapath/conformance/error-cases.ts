// ICMP errors: they pass with the live connection that they speak of, and open, refresh and forge nothing.
import { concat, echo, icmpError, ip, tcp, udp } from '../packets.ts';
import { back, type Case, establish } from './case.ts';
import type { Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const ask = (at: Names) => ({ from: at.a, to: at.remote, sport: 40000, dport: 53 });

/** Every error type of the family. */
const errorTypes = (at: Names): readonly number[] => (at.family === 4 ? [3, 11, 12] : [1, 2, 3, 4]);

export const ERROR_CASES: readonly Case[] = [
  {
    name: 'an ICMP error about a live connection passes, from whatever router',
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', udp(ask(at)));
      for (const type of errorTypes(at)) {
        for (const from of [at.remote, at.outside, at.otherNode, at.unlearnt]) {
          rig.pass('to a', icmpError({ from, to: at.a, type, inner: udp(ask(at)) }));
        }
      }
      rig.drop('to a', udp({ ...back(ask(at)), sport: 54 }), 'policy ingress default');
    },
  },
  {
    name: 'an ICMP error about no live connection is dropped, though all else is open',
    run: (rig, at) => {
      rig.pass('from a', udp(ask(at)));
      const strangers = [
        udp({ ...ask(at), sport: 40001 }),
        udp({ ...ask(at), dport: 54 }),
        tcp(ask(at)),
        udp({ ...ask(at), to: at.outside }),
        echo({ from: at.a, to: at.remote, id: 40000 }),
      ];
      for (const inner of strangers) {
        rig.drop('to a', icmpError({ from: at.outside, to: at.a, inner }), 'icmp-unrelated');
      }
    },
  },
  {
    name: 'an ICMP error for one pod about the connection of another is dropped',
    run: (rig, at) => {
      rig.pass('from a', udp(ask(at)));
      rig.drop('to b', icmpError({ from: at.remote, to: at.b, inner: udp(ask(at)) }), 'icmp-unrelated');
    },
  },
  {
    name: 'a pod may refuse what is sent to it, and can forge no error about others',
    run: (rig, at) => {
      const asked = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.policy('b', 'egress', [DEFAULT]);
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', udp(asked));
      rig.pass('from b', icmpError({ from: at.b, to: at.a, inner: udp(asked) }));
      rig.drop('from c', icmpError({ from: at.c, to: at.a, inner: udp(asked) }), 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error about a ping passes while the ping is live',
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', echo({ from: at.a, to: at.remote, id: 7 }));
      const about = (id: number) =>
        icmpError({ from: at.outside, to: at.a, inner: echo({ from: at.a, to: at.remote, id }) });
      rig.pass('to a', about(7));
      rig.drop('to a', about(8), 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error about a cut connection is dropped',
    run: (rig, at) => {
      const asked = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      establish(rig, ['a', 'b'], asked);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('to a', icmpError({ from: at.otherNode, to: at.a, inner: tcp(asked) }), 'icmp-unrelated');
      rig.drop('from a', tcp({ ...asked, flags: 'A' }), 'policy ingress default');
      rig.drop('to a', icmpError({ from: at.otherNode, to: at.a, inner: tcp(asked) }), 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error of the node itself passes, also about a connection that is not judged anew yet',
    run: (rig, at) => {
      const about = (from: string) => icmpError({ from, to: at.a, inner: udp(ask(at)) });
      rig.pass('from a', udp(ask(at)));
      rig.policy('a', 'egress', [DEFAULT]);
      rig.pass('to a by stack', about(at.node));
      rig.drop('to a', about(at.otherNode), 'icmp-unrelated');
      rig.drop('from a', udp(ask(at)), 'policy egress default');
      rig.pass('to a by stack', about(at.node));
    },
  },
  {
    name: 'an ICMP error opens nothing and keeps nothing alive',
    needs: ['clock'],
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', udp(ask(at)));
      for (let minute = 0; minute < 60; minute++) {
        rig.harness.advance?.(10);
        rig.inject('to a', icmpError({ from: at.remote, to: at.a, inner: udp(ask(at)) }));
      }
      rig.drop('to a', icmpError({ from: at.remote, to: at.a, inner: udp(ask(at)) }), 'icmp-unrelated');
      rig.drop('to a', udp(back(ask(at))), 'policy ingress default');
    },
  },
  {
    name: 'an ICMP error that does not say about which packet is dropped',
    run: (rig, at) => {
      rig.pass('from a', udp(ask(at)));
      const inner = udp(ask(at));
      const header = 14 + (at.family === 4 ? 20 : 40);
      for (const length of [14, 15, header - 1, header, header + 3]) {
        const short = inner.subarray(0, length);
        const judged = rig.inject('to a', icmpError({ from: at.remote, to: at.a, inner: short }));
        if (judged.verdict !== 'drop') throw new Error(`an error with ${length} bytes of its packet passed`);
      }
      const rest = ip(
        { from: at.a, to: at.remote, fragment: { id: 1, offset: 8, more: false } },
        17,
        inner.subarray(header),
      );
      rig.drop('to a', icmpError({ from: at.remote, to: at.a, inner: rest }), 'icmp-unrelated');
      const nested = icmpError({ from: at.a, to: at.remote, inner: udp(back(ask(at))) });
      rig.drop('to a', icmpError({ from: at.remote, to: at.a, inner: nested }), 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error needs only the start of the packet it speaks of',
    run: (rig, at) => {
      const inner = udp({ ...ask(at), payload: new Uint8Array(200) });
      rig.pass('from a', inner);
      const header = 14 + (at.family === 4 ? 20 : 40);
      rig.pass('to a', icmpError({ from: at.remote, to: at.a, inner: inner.subarray(0, header + 8) }));
      rig.pass('to a', concat(icmpError({ from: at.remote, to: at.a, inner }), new Uint8Array(4)));
    },
  },
  {
    // Linux's own: net/ipv4/ip_output.c and net/ipv6/ip6_output.c, where a packet exceeds 65 535 bytes ("BIG TCP").
    name: 'an ICMP error about a packet of more than 64 KiB, which says 0 of its length, passes',
    run: (rig, at) => {
      rig.pass('from a', udp(ask(at)));
      const length = at.family === 4 ? 14 + 2 : 14 + 4;
      const inner = udp(ask(at))
        .with(length, 0)
        .with(length + 1, 0);
      rig.pass('to a', icmpError({ from: at.remote, to: at.a, inner }));
      const another = udp({ ...ask(at), sport: 999 })
        .with(length, 0)
        .with(length + 1, 0);
      rig.drop('to a', icmpError({ from: at.remote, to: at.a, inner: another }), 'icmp-unrelated');
    },
  },
];
