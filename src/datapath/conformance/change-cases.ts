// What happens to open connections when rules, peers and owners of addresses change.
import { echo, tcp, udp } from '../packets.ts';
import { back, type Case, data, establish, establishFromAfar, syn, way } from './case.ts';
import { DEFAULT } from './tables.ts';

export const CHANGE_CASES: readonly Case[] = [
  {
    name: 'a new deny cuts an established connection, both ways and for good, whoever sends first',
    run: (rig, at) => {
      for (const sport of [40000, 40001]) {
        const ask = { from: at.a, to: at.b, sport, dport: 80 };
        rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
        establish(rig, ['a', 'b'], ask);
        rig.policy('b', 'ingress', ['allow c tcp/80', DEFAULT]);
        const ways = [data(ask), data(back(ask))] as const;
        const clientFirst = sport === 40000;
        rig.drop(clientFirst ? 'from a' : 'from b', clientFirst ? ways[0] : ways[1], 'policy ingress default');
        for (const _ of [1, 2, 3]) {
          rig.drop('from b', ways[1], 'denied-earlier');
          rig.drop('to a', ways[1], 'denied-earlier');
          rig.drop('from a', ways[0], 'denied-earlier');
          rig.drop('to b', ways[0], 'denied-earlier');
        }
      }
    },
  },
  {
    name: 'a class that changes in place, or goes, cuts the open flow; one that stays leaves its own open',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      const other = { from: at.c, to: at.b, sport: 40000, dport: 80 };
      for (const [sport, lines] of [
        [40001, ['allow a tcp/443']],
        [40002, []],
      ] as const) {
        rig.policy('b', 'ingress', ['allow a tcp/80', 'allow c tcp/80', DEFAULT]);
        establish(rig, ['a', 'b'], { ...ask, sport });
        establish(rig, ['c', 'b'], { ...other, sport });
        rig.reclass('b', 'ingress', 'a', lines);
        rig.drop('from a', data({ ...ask, sport }), 'policy ingress default');
        rig.drop('from b', data(back({ ...ask, sport })), 'denied-earlier');
        for (const place of way('c', 'b')) rig.pass(place, data({ ...other, sport }));
      }
    },
  },
  {
    name: 'a retransmit from the other side of a cut flow does not open a fresh one its own way',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.pass('from a', udp(ask));
      rig.pass('from b', udp(back(ask)));
      rig.policy('b', 'ingress', [DEFAULT]);
      // b may ask a for anything: only the cut flow's tombstone stands in the way.
      rig.drop('from a', udp(ask), 'policy ingress default');
      rig.drop('from b', udp(back(ask)), 'denied-earlier ingress default');
      rig.drop('from a', udp(ask), 'denied-earlier ingress default');
      rig.pass('from b', udp({ ...back(ask), sport: 54 }));
    },
  },
  {
    name: 'no packet takes the tombstone of a cut connection away: not FIN, not RST, not a SYN that is denied',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      establish(rig, ['a', 'b'], ask);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', [DEFAULT]);
      rig.drop('from a', data(ask), 'policy ingress default');
      rig.drop('from a', tcp({ ...ask, flags: 'FA' }), 'denied-earlier');
      rig.drop('from b', tcp({ ...back(ask), flags: 'FA' }), 'denied-earlier');
      rig.drop('from b', tcp({ ...back(ask), flags: 'R' }), 'denied-earlier');
      rig.drop('from a', syn(ask), 'policy ingress default');
      rig.drop('from b', syn(back(ask)), 'policy egress default');
      rig.drop('from b', data(back(ask)), 'denied-earlier ingress default');
    },
  },
  {
    name: 'a cut TCP connection stays cut when the rules allow it again: it takes a new one',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      establish(rig, ['a', 'b'], ask);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from a', data(ask), 'policy ingress default');
      rig.policy('b', 'ingress', ['allow a', DEFAULT]);
      rig.drop('from a', data(ask), 'denied-earlier');
      rig.drop('from b', data(back(ask)), 'denied-earlier');
      establish(rig, ['a', 'b'], ask);
    },
  },
  {
    name: 'an open ping is cut by a new deny, request and reply',
    run: (rig, at) => {
      rig.pass('from a', echo({ from: at.a, to: at.b, id: 9 }));
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from b', echo({ from: at.b, to: at.a, id: 9, reply: true }), 'policy ingress default');
      rig.drop('from a', echo({ from: at.a, to: at.b, id: 9 }), 'denied-earlier');
    },
  },
  {
    name: 'a change that still allows a connection leaves it open, under the rule that now allows it',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      establish(rig, ['a', 'b'], ask);
      rig.policy('b', 'ingress', ['deny c', 'allow any tcp/1-1024', DEFAULT]);
      for (const place of way('b', 'a')) rig.pass(place, data(back(ask)));
      for (const place of way('a', 'b')) rig.pass(place, data(ask));
    },
  },
  {
    name: 'a cut UDP flow lives again when the rules allow it again',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.pass('from a', udp(ask));
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from a', udp(ask), 'policy ingress default');
      rig.policy('b', 'ingress', ['allow a', DEFAULT]);
      rig.pass('from a', udp(ask));
      rig.pass('from b', udp(back(ask)));
    },
  },
  {
    name: 'a cut UDP flow that newer rules deny as well is denied by those',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.pass('from a', udp(ask));
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from a', udp(ask), 'policy ingress default');
      rig.policy('b', 'ingress', ['deny a', DEFAULT]);
      rig.drop('from a', udp(ask), 'policy ingress deny a');
      rig.drop('from a', udp(ask), 'denied-earlier ingress deny a');
    },
  },
  {
    name: 'a rule that comes between judging a packet and writing its entry is not lost',
    needs: ['interleave'],
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.policy('b', 'ingress', ['allow a', DEFAULT]);
      rig.harness.interleave?.(() => rig.policy('b', 'ingress', [DEFAULT]));
      rig.pass('from a', udp(ask));
      rig.drop('from b', udp(back(ask)), 'policy ingress default');
      rig.drop('from a', udp(ask), 'denied-earlier');
    },
  },
  {
    name: 'the next owner of an address inherits no open flow of the last one',
    run: (rig, at) => {
      const ask = { from: at.remote, to: at.b, sport: 40000, dport: 53 };
      const own = { from: at.b, to: at.remote, sport: 5353, dport: 53 };
      rig.pass('to b', udp(ask));
      rig.pass('from b', udp(own));
      rig.expel('b');
      rig.detach('b');
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', [DEFAULT]);
      rig.expel('b');
      rig.attach('b');
      rig.admit('b', 'next-owner');
      rig.drop('to b', udp(ask), 'policy ingress default');
      rig.drop('to b', udp(back(own)), 'policy ingress default');
      rig.drop('from b', udp(back(ask)), 'policy egress default');
      rig.drop('from b', udp(own), 'policy egress default');
    },
  },
  {
    name: 'the next owner of an address is in no TCP connection of the last one, though its rules are the same',
    run: (rig, at) => {
      const ask = { from: at.remote, to: at.b, sport: 40000, dport: 80 };
      establishFromAfar(rig, 'b', ask);
      rig.expel('b');
      rig.detach('b');
      rig.attach('b');
      rig.admit('b', 'next-owner');
      rig.drop('to b', data(ask), 'mid-flow');
      rig.drop('from b', data(back(ask)), 'mid-flow');
    },
  },
  {
    name: 'an interface that goes after its address has moved to another takes nothing along',
    run: (rig, at) => {
      rig.policy('b', 'ingress', ['allow a tcp/80', DEFAULT]);
      const leave = rig.move('b');
      rig.admit('b', 'next-owner');
      rig.pass('to b', syn({ from: at.a, to: at.b, sport: 40000, dport: 80 }));
      leave();
      rig.pass('to b', syn({ from: at.a, to: at.b, sport: 40001, dport: 80 }));
      rig.pass('from a', syn({ from: at.a, to: at.b, sport: 40002, dport: 80 }));
      rig.drop('from a', syn({ from: at.a, to: at.b, sport: 40003, dport: 81 }), 'policy ingress default');
    },
  },
  {
    name: 'the next owner of an address does not answer the own node for the last one',
    run: (rig, at) => {
      const probe = { from: at.node, to: at.b, sport: 40000, dport: 8080 };
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.policy('b', 'egress', [DEFAULT]);
      rig.pass('to b by stack', udp(probe));
      rig.pass('from b', udp(back(probe)));
      rig.expel('b');
      rig.detach('b');
      rig.attach('b');
      rig.admit('b', 'next-owner');
      rig.drop('from b', udp(back(probe)), 'policy');
    },
  },
  {
    name: 'a peer that becomes another under an open flow is judged as what it is now',
    run: (rig, at) => {
      const ask = { from: at.remote, to: at.b, sport: 40000, dport: 80 };
      const other = { from: at.c, to: at.b, sport: 40000, dport: 80 };
      rig.policy('b', 'ingress', ['allow remote tcp/80', 'allow c', DEFAULT]);
      establishFromAfar(rig, 'b', ask);
      establish(rig, ['c', 'b'], other);
      rig.relabel(at.remote, 'stranger');
      rig.drop('from b', data(back(ask)), 'policy ingress default');
      rig.drop('to b', data(ask), 'denied-earlier');
      rig.pass('from c', data(other));
    },
  },
  {
    name: 'a destination that becomes another under an open flow is judged as what it is now',
    run: (rig, at) => {
      const ask = { from: at.b, to: at.remote, sport: 40000, dport: 53 };
      rig.policy('b', 'egress', ['allow remote', DEFAULT]);
      rig.pass('from b', udp(ask));
      rig.pass('to b', udp(back(ask)));
      rig.relabel(at.remote, 'stranger');
      rig.drop('to b', udp(back(ask)), 'policy egress default');
    },
  },
  {
    name: 'an endpoint that moves to another policy set takes its open flows along',
    run: (rig, at) => {
      const ask = { from: at.remote, to: at.b, sport: 40000, dport: 53 };
      rig.pass('to b', udp(ask));
      rig.pass('from b', udp(back(ask)));
      // The first policy of a pod moves it from the open set to one of its own.
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from b', udp(back(ask)), 'policy ingress default');
    },
  },
  {
    name: 'established connections stand still while an endpoint has no record',
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      establish(rig, ['a', 'b'], ask);
      rig.expel('b');
      rig.drop('from a', data(ask), 'no-endpoint');
      rig.drop('from b', data(back(ask)), 'no-endpoint');
    },
  },
  {
    name: 'a flow that nobody uses ends: its reply is then a packet of its own',
    needs: ['clock'],
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 53 };
      rig.policy('a', 'ingress', [DEFAULT]);
      rig.pass('from a', udp(ask));
      rig.harness.advance?.(20);
      rig.pass('from b', udp(back(ask)));
      rig.harness.advance?.(3600);
      rig.drop('from b', udp(back(ask)), 'policy ingress default');
    },
  },
  {
    name: 'a handshake that nobody answers ends, an established connection rests for hours',
    needs: ['clock'],
    run: (rig, at) => {
      const half = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      const whole = { ...half, sport: 40001 };
      rig.pass('from a', syn(half));
      establish(rig, ['a', 'b'], whole);
      rig.harness.advance?.(3600);
      rig.drop('from b', tcp({ ...back(half), flags: 'SA' }), 'mid-flow');
      rig.pass('from b', data(back(whole)));
    },
  },
  {
    name: 'a connection opened anew on the ports of a closed one is a whole one: it rests for hours',
    needs: ['clock'],
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      establish(rig, ['a', 'b'], ask);
      rig.pass('from b', tcp({ ...back(ask), flags: 'R' }));
      establish(rig, ['a', 'b'], ask);
      rig.harness.advance?.(3600);
      rig.pass('from b', data(back(ask)));
    },
  },
  {
    name: 'the tombstone of a cut connection ends too, and then only a SYN opens a new one',
    needs: ['clock'],
    run: (rig, at) => {
      const ask = { from: at.a, to: at.b, sport: 40000, dport: 80 };
      establish(rig, ['a', 'b'], ask);
      rig.policy('b', 'ingress', [DEFAULT]);
      rig.drop('from a', data(ask), 'policy ingress default');
      rig.harness.advance?.(3600);
      rig.drop('from b', data(back(ask)), 'mid-flow');
      rig.drop('from a', syn(ask), 'policy ingress default');
    },
  },
];
