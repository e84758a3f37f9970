// Connections: who opens them, what belongs to them, which direction is judged.
import { echo, icmp, ip, sctp, tcp, udp } from '../packets.ts';
import { back, type Case, close, establish, way } from './case.ts';
import { DEFAULT } from './tables.ts';

/** `icmp` in IPv4, `icmpv6` in IPv6; echo request and reply types. */
const PING = { 4: { name: 'icmp', request: 8, reply: 0 }, 6: { name: 'icmpv6', request: 128, reply: 129 } } as const;

export const FLOW_CASES: readonly Case[] = [
  {
    name: 'a request passes, and its replies pass although nobody may open their way',
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', [DEFAULT]);
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      establish(rig, ['a', 'b'], { from: at.a, to: at.b, sport: 40000, dport: 80 });
    },
  },
  {
    name: 'a reply is judged in the direction of the one who asked',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]);
      rig.pass('from a', udp(ask));
      rig.policy('b', 'egress', [DEFAULT]);
      rig.policy('a', 'ingress', [DEFAULT]);
      for (const place of way('b', 'a')) rig.pass(place, udp(back(ask)));
      rig.policy('b', 'ingress', ['allow c udp/53', DEFAULT]);
      rig.policy('b', 'egress', ['allow a']);
      rig.policy('a', 'ingress', ['allow b']);
      rig.drop('from b', udp(back(ask)), 'policy ingress default');
    },
  },
  {
    name: 'a TCP connection is opened by a SYN without ACK and by nothing else',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      for (const flags of ['A', 'SA', 'PA', 'R', 'RA', 'FA', 'F', '', 'U']) {
        rig.drop('from a', tcp({ ...ask, flags }), 'mid-flow');
        rig.drop('to b', tcp({ ...ask, from: at.remote, flags }), 'mid-flow');
      }
      rig.pass('from a', tcp(ask));
      rig.pass('from a', tcp({ ...ask, flags: 'A' }));
    },
  },
  {
    name: 'a SYN on a closed connection is a new one, judged in its own direction',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      rig.policy('a', 'ingress', [DEFAULT]);
      establish(rig, ['a', 'b'], ask);
      close(rig, ['a', 'b'], ask);
      rig.pass('from a', tcp({ ...ask, flags: 'A', sequence: 3, ack: 3 }));
      rig.drop('from b', tcp(back(ask)), 'policy ingress default');
      establish(rig, ['a', 'b'], ask);
    },
  },
  {
    name: 'a SYN after a reset is a new connection, judged in its own direction',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      rig.policy('a', 'ingress', [DEFAULT]);
      establish(rig, ['a', 'b'], ask);
      rig.pass('from b', tcp({ ...back(ask), flags: 'R' }));
      rig.drop('from b', tcp(back(ask)), 'policy ingress default');
      rig.pass('from a', tcp(ask));
    },
  },
  {
    name: 'a SYN from the side that was asked is judged in its own direction, whatever stands open',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', tcp(ask));
      rig.drop('from b', tcp(back(ask)), 'policy ingress default');
      establish(rig, ['a', 'b'], ask);
      rig.drop('from b', tcp(back(ask)), 'policy ingress default');
      rig.pass('from b', tcp({ ...back(ask), flags: 'PA' }));
    },
  },
  {
    name: 'a segment that opens and ends at once is malformed',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      for (const flags of ['SF', 'SR', 'SFA', 'SRA']) rig.drop('from a', tcp({ ...ask, flags }), 'malformed');
    },
  },
  {
    name: 'UDP replies pass for the ports that asked, and for no others',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.policy('a', 'ingress', [DEFAULT]);
      for (const place of way('a', 'b')) rig.pass(place, udp(ask));
      for (const place of way('b', 'a')) rig.pass(place, udp(back(ask)));
      rig.drop('from b', udp({ ...back(ask), dport: 40001 }), 'policy ingress default');
      rig.drop('from b', udp({ ...back(ask), sport: 54 }), 'policy ingress default');
      rig.drop('from b', tcp(back(ask)), 'policy ingress default');
    },
  },
  {
    name: 'SCTP is judged by its ports and its replies pass',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 3868 };
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.policy('b', 'ingress', ['allow a sctp/3868', DEFAULT]);
      for (const place of way('a', 'b')) rig.pass(place, sctp(ask));
      for (const place of way('b', 'a')) rig.pass(place, sctp({ ...back(ask), chunk: 2 }));
      rig.drop('from a', sctp({ ...ask, dport: 3869 }), 'policy ingress default');
      rig.drop('from b', sctp({ ...back(ask), sport: 3867 }), 'policy ingress default');
    },
  },
  {
    name: 'an echo reply passes with the id that was asked, and with no other',
    run: (rig, at) => {
      const ping = PING[at.family];
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.policy('b', 'ingress', [`allow a ${ping.name}/${ping.request}`, DEFAULT]);
      for (const place of way('a', 'b')) rig.pass(place, echo({ from: at.a, to: at.b, id: 7 }));
      for (const place of way('b', 'a')) rig.pass(place, echo({ from: at.b, to: at.a, id: 7, reply: true }));
      rig.drop('from b', echo({ from: at.b, to: at.a, id: 8, reply: true }), 'mid-flow');
    },
  },
  {
    name: 'an echo request the other way with the same id is no reply',
    run: (rig, at) => {
      rig.policy('a', 'ingress', [DEFAULT]);
      for (const id of [7, 0]) {
        rig.pass('from a', echo({ from: at.a, to: at.b, id }));
        rig.drop('from b', echo({ from: at.b, to: at.a, id }), 'policy ingress default');
        rig.pass('from b', echo({ from: at.b, to: at.a, id, reply: true }));
      }
    },
  },
  {
    name: 'an echo reply that nobody asked for is dropped, and opens nothing for a request',
    run: (rig, at) => {
      rig.policy('b', 'egress', [DEFAULT]);
      rig.drop('from a', echo({ from: at.a, to: at.b, id: 7, reply: true }), 'mid-flow');
      rig.drop('from b', echo({ from: at.b, to: at.a, id: 7 }), 'policy egress default');
    },
  },
  {
    name: 'an ICMP message that is no echo opens nothing for the other side',
    run: (rig, at) => {
      // Timestamp request; in IPv6, node information query.
      const type = at.family === 4 ? 13 : 139;
      const message = { type, code: 0, body: new Uint8Array(16) };
      rig.policy('b', 'egress', [DEFAULT]);
      rig.pass('from a', icmp({ from: at.a, to: at.b, ...message }));
      rig.drop('from b', icmp({ from: at.b, to: at.a, ...message }), 'policy egress default');
    },
  },
  {
    name: 'ICMP is judged by type and code',
    run: (rig, at) => {
      const type = at.family === 4 ? 13 : 139;
      const body = new Uint8Array(16);
      const { name } = PING[at.family];
      rig.policy('b', 'ingress', [`deny any ${name}/${type}`, `allow any ${name}`, DEFAULT]);
      rig.drop('from a', icmp({ from: at.a, to: at.b, type, code: 0, body }), 'policy ingress deny any');
      rig.drop('from a', icmp({ from: at.a, to: at.b, type, code: 255, body }), 'policy ingress deny any');
      rig.pass('from a', icmp({ from: at.a, to: at.b, type: type + 1, code: 0, body }));
      rig.drop('from a', udp({ from: at.a, to: at.b, sport: 1, dport: type << 8 }), 'policy ingress default');
    },
  },
  {
    name: 'any protocol number is judged, and its replies pass',
    run: (rig, at) => {
      const payload = new Uint8Array(24);
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.policy('b', 'ingress', ['allow a 47', 'allow a 255', DEFAULT]);
      for (const protocol of [47, 255]) {
        for (const place of way('a', 'b')) rig.pass(place, ip({ from: at.a, to: at.b }, protocol, payload));
        for (const place of way('b', 'a')) rig.pass(place, ip({ from: at.b, to: at.a }, protocol, payload));
      }
      for (const protocol of [46, 48, 50, 254]) {
        rig.drop('from a', ip({ from: at.a, to: at.b }, protocol, payload), 'policy ingress default');
      }
    },
  },
  {
    name: 'a packet between two local pods is judged for both ends where it leaves',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      rig.policy('b', 'ingress', ['deny a tcp/80']);
      rig.drop('from a', tcp(ask), 'policy ingress deny a tcp/80');
      rig.policy('a', 'egress', [DEFAULT]);
      rig.drop('from a', tcp(ask), 'policy egress default');
    },
  },
  {
    name: 'a packet that reaches a pod is always judged there, whoever sent it',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow remote tcp/80', DEFAULT]);
      const ask = { to: at.b, sport: 40000, dport: 80 };
      rig.drop('to b', tcp({ ...ask, from: at.a }), 'policy ingress default');
      rig.drop('to b', tcp({ ...ask, from: at.outside }), 'policy ingress default');
      rig.pass('to b', tcp({ ...ask, from: at.remote }));
      rig.policy('a', 'egress', [DEFAULT]);
      rig.policy('b', 'ingress', ['allow any']);
      rig.drop('to b', tcp({ ...ask, from: at.a }), 'policy egress default');
    },
  },
  {
    name: 'the first packet of a connection names the rules of both ends',
    run: (rig, at) => {
      rig.policy('a', 'egress', ['allow b tcp/80', DEFAULT]);
      rig.policy('b', 'ingress', ['deny c', 'allow a tcp/80', DEFAULT]);
      const judged = rig.pass('from a', tcp({ from: at.a, to: at.b, sport: 40000, dport: 80 }));
      const lines = [rig.lineOf(judged.egressRule), rig.lineOf(judged.ingressRule)].join(' | ');
      if (lines !== 'allow b tcp/80 | allow a tcp/80') throw new Error(`rules of the new connection: ${lines}`);
    },
  },
];
