// The look-up on the tables, and what stands before any tier.
import { tcp, udp } from '../packets.ts';
import { back, type Case } from './case.ts';
import type { Names } from './rig.ts';
import { DEFAULT } from './tables.ts';

const syn = (from: string, to: string, dport = 80): Uint8Array => tcp({ from, to, sport: 40000, dport });

/** The catch-all prefix of the family that the case runs for, and of the other one. */
const world = (at: Names): string => `world${at.family}`;
const otherWorld = (at: Names): string => `world${at.family === 4 ? 6 : 4}`;

export const POLICY_CASES: readonly Case[] = [
  {
    name: 'of a rule for any peer and one for this peer, the earlier decides',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['deny any tcp/80', 'allow a tcp/80', 'allow a tcp/81', 'deny any tcp/81', DEFAULT]);
      rig.drop('from a', syn(at.a, at.b, 80), 'policy ingress deny any tcp/80');
      rig.pass('from a', syn(at.a, at.b, 81));
      rig.drop('from c', syn(at.c, at.b, 81), 'policy ingress deny any tcp/81');
      rig.drop('from a', syn(at.a, at.b, 82), 'policy ingress default');
    },
  },
  {
    name: 'pass goes on in the next layer, and what no layer decides is open',
    run: (rig, at) => {
      const admin = ['pass a tcp/80', 'allow c', 'deny any tcp/80-81'];
      rig.policy('b', 'ingress', admin, ['allow c tcp/82', 'deny a tcp/80'], ['deny any tcp/82']);
      rig.drop('from a', syn(at.a, at.b, 80), 'policy ingress deny a tcp/80');
      rig.drop('from a', syn(at.a, at.b, 81), 'policy ingress deny any tcp/80-81');
      rig.drop('from a', syn(at.a, at.b, 82), 'policy ingress deny any tcp/82');
      rig.pass('from a', syn(at.a, at.b, 83));
      rig.pass('from c', syn(at.c, at.b, 80));
      rig.policy('b', 'ingress', ['pass a tcp/80', DEFAULT], [], ['allow a tcp/80']);
      rig.pass('from a', tcp({ from: at.a, to: at.b, sport: 40001, dport: 80 }));
    },
  },
  {
    name: 'an interval begins at its first port and ends at its last',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a tcp/80-90 tcp/0 tcp/65535 udp/90-91', DEFAULT]);
      for (const port of [0, 80, 85, 90, 65535]) rig.pass('from a', syn(at.a, at.b, port));
      for (const port of [1, 79, 91, 65534]) rig.drop('from a', syn(at.a, at.b, port), 'policy ingress default');
      rig.pass('from a', udp({ from: at.a, to: at.b, sport: 1, dport: 91 }));
      rig.drop('from a', udp({ from: at.a, to: at.b, sport: 1, dport: 92 }), 'policy ingress default');
    },
  },
  {
    name: 'a default deny is named by its rule, at either end',
    run: (rig, at) => {
      rig.policy('a', 'egress', ['allow b', DEFAULT]);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from a', syn(at.a, at.b), 'policy ingress default');
      rig.drop('from a', syn(at.a, at.c), 'policy egress default');
      rig.drop('to b', syn(at.outside, at.b), 'policy ingress default');
    },
  },
  {
    name: 'families never cross: a rule for the whole of one says nothing of the other',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [`allow ${otherWorld(at)}`, DEFAULT]);
      rig.drop('to b', syn(at.outside, at.b), 'policy ingress default');
      rig.policy('b', 'ingress', [`allow ${world(at)}`, DEFAULT]);
      rig.pass('to b', syn(at.outside, at.b));
    },
  },
  {
    name: 'a pod to its own address is not judged',
    run: (rig, at) => {
      rig.policy('a', 'egress', [DEFAULT]);
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', syn(at.a, at.a));
      rig.pass('to a', syn(at.a, at.a));
      // Nor is it of a connection.
      rig.pass('from a', tcp({ from: at.a, to: at.a, sport: 40_001, dport: 80, flags: 'A' }));
      rig.drop('from a', syn(at.a, at.b), 'policy egress default');
    },
  },
  {
    name: 'what the own node sends is not judged, and the replies to it pass',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', [DEFAULT]);
      const probe = { from: at.node, to: at.b, sport: 40000, dport: 8080 };
      rig.pass('to b by stack', tcp(probe));
      rig.pass('from b', tcp({ ...back(probe), flags: 'SA' }));
      rig.pass('to b by stack', tcp({ ...probe, flags: 'A' }));
      rig.policy('b', 'egress', ['deny any']);
      rig.pass('from b', tcp({ ...back(probe), flags: 'PA' }));
      rig.drop('from b', tcp({ from: at.b, to: at.node, sport: 5000, dport: 10250 }), 'policy egress deny any');
    },
  },
  {
    name: 'a packet with the address of the own node that its stack did not make is judged',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('to b', syn(at.node, at.b), 'policy ingress default');
      rig.drop('to b by stack', syn(at.otherNode, at.b), 'policy ingress default');
      rig.drop('to b by stack', syn(at.outside, at.b), 'policy ingress default');
    },
  },
  {
    name: 'masqueraded traffic on the ports of a probe of the own node is judged',
    run: (rig, at) => {
      rig.policy('b', 'ingress', [DEFAULT]);
      const probe = { from: at.node, to: at.b, sport: 40000, dport: 8080 };
      rig.pass('to b by stack', udp(probe));
      rig.pass('from b', udp(back(probe)));
      rig.drop('to b', udp(probe), 'policy ingress default');
    },
  },
  {
    name: 'the own node opens TCP by a SYN too',
    run: (rig, at) => {
      const probe = { from: at.node, to: at.b, sport: 40000, dport: 8080 };
      rig.drop('to b by stack', tcp({ ...probe, flags: 'A' }), 'mid-flow');
    },
  },
  {
    name: 'a pod address not yet learnt is not the outside, and passes at its next packet once it is known',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow remote tcp/80', `allow ${world(at)}`, DEFAULT]);
      rig.pass('to b', syn(at.outside, at.b));
      rig.drop('to b', syn(at.unlearnt, at.b), 'peer-unknown ingress default');
      rig.relabel(at.unlearnt, 'remote');
      rig.pass('to b', syn(at.unlearnt, at.b));
    },
  },
  {
    name: 'a rule that denies some pods denies an address not yet learnt',
    run: (rig, at) => {
      rig.policy('b', 'egress', ['deny remote']);
      rig.policy('b', 'ingress', ['pass c'], ['allow any']);
      rig.drop('from b', syn(at.b, at.unlearnt), 'peer-unknown egress deny remote');
      rig.drop('to b', syn(at.unlearnt, at.b), 'peer-unknown ingress pass c');
      rig.pass('from b', syn(at.b, at.outside));
      rig.relabel(at.unlearnt, 'stranger');
      rig.pass('from b', syn(at.b, at.unlearnt));
    },
  },
  {
    name: 'an interface without an endpoint record is closed, to its pod and to those who send to it',
    run: (rig, at) => {
      rig.pass('from a', syn(at.a, at.b));
      rig.expel('b');
      rig.drop('from b', syn(at.b, at.c), 'no-endpoint');
      rig.drop('from a', tcp({ from: at.a, to: at.b, sport: 40001, dport: 80 }), 'no-endpoint');
      rig.drop('from a', syn(at.a, at.b), 'no-endpoint');
      rig.drop('to b', syn(at.outside, at.b), 'no-endpoint');
      rig.admit('b');
      rig.pass('from b', syn(at.b, at.c));
      rig.pass('to b', syn(at.outside, at.b));
    },
  },
  {
    name: 'without any layer everything passes',
    run: (rig, at) => {
      rig.pass('from a', syn(at.a, at.b));
      rig.pass('from a', syn(at.a, at.outside));
      rig.pass('to a', syn(at.unlearnt, at.a));
    },
  },
];
