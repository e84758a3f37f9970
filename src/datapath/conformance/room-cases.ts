// Full tables of flows: whose room is taken, who is refused, what gives way, and when room is there again.
import { tcp, udp } from '../packets.ts';
import { back, type Case, close, data, establish, establishFromAfar, syn } from './case.ts';
import { DEFAULT } from './tables.ts';

export const ROOM_CASES: readonly Case[] = [
  {
    name: 'a full table of established connections refuses new ones and evicts none',
    establishedLimit: 2,
    run: (rig, at) => {
      const ask = { to: at.b, sport: 40001, dport: 80 };
      const [first, second, third] = [
        { ...ask, from: at.a },
        { ...ask, from: at.remote },
        { ...ask, from: at.a, sport: 40003 },
      ];
      establish(rig, ['a', 'b'], first);
      establishFromAfar(rig, 'b', second);
      rig.pass('from a', syn(third));
      rig.pass('from b', tcp({ ...back(third), flags: 'SA' }));
      rig.drop('from a', tcp({ ...third, flags: 'A' }), 'conntrack-full');
      for (let sport = 1; sport <= 200; sport++) rig.pass('from a', udp({ from: at.a, to: at.b, sport, dport: 53 }));
      rig.pass('from a', data(first));
      for (const open of [first, second]) rig.pass('from b', data(back(open)));
      rig.pass('to b', data(second));
      rig.pass('from a', tcp({ ...first, flags: 'R' }));
      rig.pass('from a', tcp({ ...third, flags: 'A' }));
    },
  },
  {
    name: 'one pod leaves room for the connections of others, whoever it has them with',
    establishedLimit: 8,
    run: (rig, at) => {
      const asks = [1, 2, 3, 4, 5, 6, 7].map((n) => ({ from: at.a, to: at.b, sport: 40000 + n, dport: 80 }));
      const seventh = asks[6];
      if (seventh === undefined) throw new Error('seven connections');
      for (const ask of asks.slice(0, 6)) establish(rig, ['a', 'b'], ask);
      rig.pass('from a', syn(seventh));
      rig.pass('from b', tcp({ ...back(seventh), flags: 'SA' }));
      rig.drop('from a', tcp({ ...seventh, flags: 'A' }), 'conntrack-full');
      // Who is asked from afar holds the connection; who asks a neighbour holds it alone.
      establishFromAfar(rig, 'b', { ...seventh, from: at.remote });
      establish(rig, ['c', 'b'], { ...seventh, from: at.c });
      rig.drop('from a', tcp({ ...seventh, flags: 'A' }), 'conntrack-full');
      for (const ask of asks.slice(0, 3)) rig.pass('from a', tcp({ ...ask, flags: 'R' }));
      rig.pass('from a', tcp({ ...seventh, flags: 'A' }));
    },
  },
  {
    name: 'a pod that asks without end pushes out its own oldest questions alone',
    unassuredLimit: 16,
    run: (rig, at) => {
      const ask = { to: at.remote, sport: 40000, dport: 53 };
      for (const pod of ['a', 'c'] as const) rig.policy(pod, 'ingress', [DEFAULT]);
      rig.pass('from c', udp({ ...ask, from: at.c }));
      rig.pass('from c', syn({ ...ask, from: at.c }));
      for (let sport = 1; sport <= 200; sport++) rig.pass('from a', udp({ ...ask, from: at.a, sport }));
      rig.pass('to c', udp(back({ ...ask, from: at.c })));
      rig.pass('to c', tcp({ ...back({ ...ask, from: at.c }), flags: 'SA' }));
      rig.drop('to a', udp(back({ ...ask, from: at.a, sport: 1 })), 'policy ingress default');
      for (const sport of [199, 200]) rig.pass('to a', udp(back({ ...ask, from: at.a, sport })));
    },
  },
  {
    name: 'a connection that ends is the youngest of its pod’s, however long it was open',
    unassuredLimit: 32,
    run: (rig, at) => {
      const long = { from: at.a, to: at.remote, sport: 40000, dport: 80 };
      const ask = (sport: number): void => void rig.pass('from a', udp({ ...long, sport, dport: 53 }));
      rig.pass('from a', syn(long));
      rig.pass('to a', tcp({ ...back(long), flags: 'SA' }));
      rig.pass('from a', tcp({ ...long, flags: 'A' }));
      for (let sport = 1; sport <= 14; sport++) ask(sport);
      rig.pass('from a', tcp({ ...long, flags: 'R' }));
      rig.policy('a', 'ingress', [DEFAULT]);
      for (let sport = 15; sport <= 28; sport++) ask(sport);
      // By now the first questions have given way.
      rig.drop('to a', udp({ ...back({ ...long, sport: 1 }), sport: 53 }), 'policy ingress default');
      rig.pass('to a', data(back(long)));
    },
  },
  {
    name: 'ports whose last connection is the oldest of its pod’s are used again at once',
    unassuredLimit: 32,
    run: (rig, at) => {
      // However long the queue may be, one of these lengths is its own.
      for (let ports = 8; ports <= 32; ports++) {
        for (let turn = 0; turn < 2 * ports; turn++) {
          const ask = { from: at.a, to: at.remote, sport: 40000 + (turn % ports), dport: 80 };
          rig.pass('from a', syn(ask));
          rig.pass('from a', tcp({ ...ask, flags: 'R' }));
        }
      }
    },
  },
  {
    name: 'a stream of datagrams stays, and stays cut, whatever its pod sends besides',
    needs: ['clock'],
    unassuredLimit: 16,
    run: (rig, at) => {
      const ask = { from: at.a, to: at.remote, sport: 40000, dport: 53 };
      const flood = (): void => {
        for (let sport = 1; sport <= 200; sport++) rig.pass('from c', udp({ ...ask, from: at.c, sport }));
        for (let sport = 1; sport <= 200; sport++) rig.pass('to a', udp({ ...back(ask), sport, dport: 80 }));
      };
      rig.pass('from a', udp(ask));
      rig.pass('to a', udp(back(ask)));
      rig.harness.advance?.(3);
      rig.pass('from a', udp(ask));
      flood();
      rig.policy('a', 'ingress', ['allow remote udp/80', DEFAULT]);
      rig.pass('to a', udp(back(ask)));
      rig.policy('a', 'egress', [DEFAULT]);
      rig.drop('from a', udp(ask), 'policy egress default');
      rig.policy('a', 'ingress', ['allow any']);
      flood();
      rig.drop('to a', udp(back(ask)), 'denied-earlier');
    },
  },
  {
    name: 'a pod has its room back when its connections have ended, however they ended',
    needs: ['clock'],
    establishedLimit: 8,
    run: (rig, at) => {
      const asks = [1, 2, 3, 4, 5, 6].map((n) => ({ from: at.a, to: at.b, sport: 40000 + n, dport: 80 }));
      for (const ask of asks) establish(rig, ['a', 'b'], ask);
      rig.harness.advance?.(2 * 86_400);
      for (const ask of asks) establish(rig, ['a', 'b'], ask);
      for (const ask of asks) rig.pass('from a', tcp({ ...ask, flags: 'R' }));
      for (const ask of asks) establish(rig, ['a', 'b'], ask);
      for (const ask of asks) close(rig, ['a', 'b'], ask);
      for (const ask of asks) establish(rig, ['a', 'b'], ask);
      rig.policy('b', 'ingress', [DEFAULT]);
      for (const ask of asks) rig.drop('from a', data(ask), 'policy ingress default');
      rig.policy('b', 'ingress', ['allow any']);
      // A cut connection keeps its place while it must stay cut.
      rig.harness.advance?.(3600);
      for (const ask of asks) establish(rig, ['a', 'b'], { ...ask, dport: 81 });
    },
  },
];
