// What audit lets through: it passes and is told, packet by packet, and nothing of it outlives the audit.
import { echo, type FragmentPlace, icmpError, ip, tcp, udp } from '../packets.ts';
import { back, type Case, data, establish, syn, way } from './case.ts';
import type { Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const OTHERS = 'deny any tcp/80 of cluster';
const DENIED = 'policy ingress default';

const ask = (at: Names) => ({ from: at.a, to: at.b, sport: 40000, dport: 80 });
const answer = (at: Names) => tcp({ ...back(ask(at)), flags: 'SA' });

export const AUDIT_CASES: readonly Case[] = [
  {
    name: 'a denied connection to an audited pod passes, and each packet of its initiator is told once, with the rule',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow c', DEFAULT]);
      rig.drop('from a', syn(ask(at)), DENIED);
      rig.audit('b', 'own');
      rig.audited('from a', syn(ask(at)), DENIED);
      rig.pass('to b', syn(ask(at)));
      for (const place of way('b', 'a')) rig.pass(place, answer(at));
      rig.audited('from a', tcp({ ...ask(at), flags: 'A' }), DENIED);
      rig.audited('from a', data(ask(at)), DENIED);
      rig.pass('to b', data(ask(at)));
      for (const place of way('b', 'a')) rig.pass(place, data(back(ask(at))));
    },
  },
  {
    name: 'what comes from elsewhere is told at the audited pod, what the pod sends at the pod',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', ['allow a', DEFAULT]);
      rig.audit('b', 'own');
      rig.audited('to b', syn({ ...ask(at), from: at.remote }), DENIED);
      rig.audited('to b', udp({ ...ask(at), from: at.outside }), DENIED);
      rig.audited('from b', udp({ ...ask(at), from: at.b, to: at.remote }), 'policy egress default');
      rig.pass('from b', udp({ ...ask(at), from: at.b, to: at.a }));
    },
  },
  {
    name: 'a connection that audit let through is cut when audit ends, whoever speaks first',
    run: (rig, at) => {
      for (const [sport, first] of [
        [40001, 'a'],
        [40002, 'b'],
      ] as const) {
        const own = { ...ask(at), sport };
        rig.policy('b', 'ingress', [DEFAULT]);
        rig.audit('b', 'own');
        rig.inject('from a', syn(own));
        rig.pass('from b', tcp({ ...back(own), flags: 'SA' }));
        rig.inject('from a', tcp({ ...own, flags: 'A' }));
        rig.audit('b', 'none');
        rig.drop(`from ${first}`, data(first === 'a' ? own : back(own)), DENIED);
        rig.drop('from a', data(own), 'denied-earlier ingress default');
        rig.drop('from b', data(back(own)), 'denied-earlier ingress default');
        rig.drop('from a', syn(own), DENIED);
      }
    },
  },
  {
    name: 'so are datagrams and echoes',
    run: (rig, at) => {
      const ping = { from: at.a, to: at.b, id: 9 };
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.audit('b', 'own');
      rig.audited('from a', udp(ask(at)), DENIED);
      rig.pass('from b', udp(back(ask(at))));
      rig.audited('from a', echo(ping), DENIED);
      rig.pass('from b', echo({ from: at.b, to: at.a, id: 9, reply: true }));
      rig.audit('b', 'none');
      rig.drop('from b', udp(back(ask(at))), DENIED);
      rig.drop('from a', udp(ask(at)), 'denied-earlier');
      rig.drop('from b', echo({ from: at.b, to: at.a, id: 9, reply: true }), DENIED);
      rig.drop('from a', echo(ping), 'denied-earlier');
    },
  },
  {
    name: 'what policy allows is not told, and goes on when audit begins and ends',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      establish(rig, ['a', 'b'], ask(at));
      rig.audit('b', 'own');
      for (const place of way('a', 'b')) rig.pass(place, data(ask(at)));
      establish(rig, ['a', 'b'], { ...ask(at), sport: 40001 });
      rig.audit('b', 'none');
      for (const sport of [40000, 40001]) {
        for (const place of way('a', 'b')) rig.pass(place, data({ ...ask(at), sport }));
        for (const place of way('b', 'a')) rig.pass(place, data(back({ ...ask(at), sport })));
      }
    },
  },
  {
    name: 'a connection that audit let through is as any other once policy allows it, and one that it cuts is told then',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.audit('b', 'own');
      rig.audited('from a', syn(ask(at)), DENIED);
      rig.pass('from b', answer(at));
      rig.audited('from a', tcp({ ...ask(at), flags: 'A' }), DENIED);
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      rig.pass('from a', data(ask(at)));
      rig.pass('from b', data(back(ask(at))));
      rig.policy('b', 'ingress', ['deny a tcp/80', DEFAULT]);
      rig.audited('from a', data(ask(at)), 'policy ingress deny a tcp/80');
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      rig.audit('b', 'none');
      rig.pass('from a', data(ask(at)));
    },
  },
  {
    name: 'the audit of a namespace lets nothing past a policy of the cluster; that of the cluster does',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['deny a tcp/443', OTHERS, DEFAULT]);
      rig.audit('b', 'own');
      rig.drop('from a', syn(ask(at)), `policy ingress ${OTHERS}`);
      rig.audited('from a', syn({ ...ask(at), dport: 443 }), 'policy ingress deny a tcp/443');
      rig.audit('b', 'all');
      rig.audited('from a', syn(ask(at)), `policy ingress ${OTHERS}`);
      rig.audit('b', 'own');
      rig.drop('from a', data(ask(at)), `policy ingress ${OTHERS}`);
    },
  },
  {
    name: 'the audit of one pod is no other pod’s: each end is judged by its own',
    run: (rig, at) => {
      rig.policy('a', 'egress', [DEFAULT]);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.audit('a', 'all');
      rig.drop('from a', syn(ask(at)), DENIED);
      rig.drop('from a', udp(ask(at)), DENIED);
      rig.audit('b', 'own');
      rig.audited('from a', syn(ask(at)), 'policy egress default');
      rig.audit('a', 'none');
      rig.drop('from a', data(ask(at)), 'policy egress default');
    },
  },
  {
    name: 'datagrams that one end denies and the other audits are cut once, not by each packet, until the end that denies does not',
    run: (rig, at) => {
      const own = ask(at);
      const other = udp({ ...ask(at), from: at.b, to: at.a });
      for (const frame of [udp(own), other]) rig.pass(frame === other ? 'from b' : 'from a', frame);
      rig.policy('a', 'egress', [DEFAULT]);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.audit('a', 'own');
      rig.drop('from a', udp(own), DENIED);
      for (const place of ['from a', 'from a'] as const) rig.drop(place, udp(own), 'denied-earlier ingress default');
      rig.drop('from b', udp(back(own)), 'denied-earlier ingress default');
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', [DEFAULT]);
      rig.drop('from b', other, 'policy egress default');
      rig.drop('from b', other, 'denied-earlier egress default');
      rig.audit('b', 'own');
      rig.audited('from a', udp(own), 'policy egress default');
      rig.audited('from b', other, 'policy egress default');
    },
  },
  {
    name: 'a peer that is not known yet, and fragments that are judged by their first one, pass by audit too',
    run: (rig, at) => {
      const part: FragmentPlace = { id: 7, offset: 0, more: true };
      const rest = ip({ from: at.a, to: at.b, fragment: { id: 7, offset: 185, more: false } }, 17, new Uint8Array(16));
      rig.policy('b', 'ingress', ['allow remote', DEFAULT]);
      rig.audit('b', 'own');
      rig.audited('to b', syn({ ...ask(at), from: at.unlearnt }), 'peer-unknown ingress default');
      rig.audited('from a', udp({ ...ask(at), fragment: part }), DENIED);
      rig.audited('from a', rest, DENIED);
    },
  },
  {
    name: 'ICMP errors about what audit let through pass as long as the audit lasts',
    run: (rig, at) => {
      const own = { ...ask(at), to: at.remote };
      const error = icmpError({ from: at.outside, to: at.a, inner: udp(own) });
      rig.policy('a', 'egress', [DEFAULT]);
      rig.audit('a', 'own');
      rig.drop('to a', error, 'icmp-unrelated');
      rig.audited('from a', udp(own), 'policy egress default');
      rig.pass('to a', error);
      rig.audit('a', 'none');
      rig.drop('to a', error, 'icmp-unrelated');
    },
  },
  {
    name: 'an ICMP error about what audit let through passes only where the flow itself still would',
    run: (rig, at) => {
      const own = { ...ask(at), to: at.remote };
      const error = icmpError({ from: at.outside, to: at.a, inner: udp(own) });
      rig.policy('a', 'egress', [DEFAULT]);
      rig.audit('a', 'own');
      rig.audited('from a', udp(own), 'policy egress default');
      rig.pass('to a', error);
      rig.policy('a', 'egress', ['deny any udp/80 of cluster', DEFAULT]);
      rig.drop('to a', error, 'icmp-unrelated');
      rig.drop('from a', udp(own), 'policy egress deny any udp/80 of cluster');
      rig.audit('a', 'all');
      rig.drop('to a', error, 'icmp-unrelated');
      rig.audited('from a', udp(own), 'policy egress deny any udp/80 of cluster');
      rig.pass('to a', error);
    },
  },
  {
    name: 'audit opens nothing but what policy denies: no forged source, nothing in the middle of a connection',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.audit('b', 'all');
      rig.drop('from a', data(ask(at)), 'mid-flow');
      rig.drop('from a', syn({ ...ask(at), from: at.c }), 'spoofed-source');
      rig.drop('from b', echo({ from: at.b, to: at.a, id: 3, reply: true }), 'mid-flow');
    },
  },
  {
    name: 'a connection that was cut stays cut under audit, a new one passes; datagrams that were cut pass again',
    run: (rig, at) => {
      establish(rig, ['a', 'b'], ask(at));
      rig.pass('from a', udp(ask(at)));
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from a', data(ask(at)), DENIED);
      rig.drop('from a', udp(ask(at)), DENIED);
      rig.drop('from a', udp(ask(at)), 'denied-earlier');
      rig.audit('b', 'own');
      rig.drop('from a', data(ask(at)), 'denied-earlier');
      rig.audited('from a', udp(ask(at)), DENIED);
      rig.audited('from a', syn(ask(at)), DENIED);
      rig.pass('from b', answer(at));
    },
  },
];
