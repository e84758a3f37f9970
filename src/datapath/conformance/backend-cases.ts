// Who may be a Service's backend, and what leads no flow away from it.
import assert from 'node:assert/strict';
import { TCP, UDP } from '#net/protocol.ts';
import { echo, tcp, udp, WHOLE } from '../packets.ts';
import { back, type Case } from './case.ts';
import { address, type Names, type Rig } from './rig.ts';
import { client, destinationOf, LISTENS, same, serve } from './service-cases.ts';
import { DEFAULT } from './tables.ts';

/** So long a flow of datagrams lasts without one. */
const UDP_SECONDS = 120;

export const BACKEND_CASES: readonly Case[] = [
  {
    name: 'what comes from the Service’s address itself leads no flow away from its backend',
    run: (rig, at) => {
      for (const protocol of [UDP, TCP]) serve(rig, at, { by: [`${at.remote} ${LISTENS}`], protocol });
      for (let sent = 0; sent < 2; sent++) {
        assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'remote');
        rig.pass('to a from afar', udp(back(client(at))));
      }
      const far = { ...client(at), to: at.remote, dport: LISTENS };
      rig.pass('from a', tcp(client(at)));
      rig.pass('to a', tcp({ ...back(far), flags: 'SA' }));
      rig.pass('to a from afar', tcp(back(client(at))));
      for (const flags of ['A', 'PA', 'FA', 'R'])
        assert.equal(destinationOf(rig.pass('from a', tcp({ ...client(at), flags })), at), 'remote');
    },
  },
  {
    name: 'nor does the answer of who had the address before its Service came',
    run: (rig, at) => {
      rig.pass('from a', udp(client(at)));
      serve(rig, at, { by: [`${at.remote} ${LISTENS}`], protocol: UDP });
      for (let sent = 0; sent < 2; sent++) {
        rig.pass('to a from afar', udp(back(client(at))));
        assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'remote');
      }
    },
  },
  {
    name: 'a pod is no backend for itself by another address of its own',
    run: (rig, at) => {
      rig.detach('a');
      rig.attach('a', [at.unlearnt]);
      rig.admit('a', 'a', [address(at.a), address(at.unlearnt)]);
      for (const protocol of [TCP, UDP]) serve(rig, at, { by: [`${at.unlearnt} ${LISTENS}`], protocol });
      const reset = { flags: 'RA', sequence: 0, ack: 2, window: 0, ...(at.family === 4 ? { fragment: WHOLE } : {}) };
      same(rig.refuse('from a', tcp(client(at))) ?? new Uint8Array(), (hopLimit) =>
        tcp({ ...back(client(at)), ...reset, hopLimit }),
      );
      rig.drop('from a', udp(client(at)), 'no-backend');
      assert.equal(destinationOf(rig.pass('from b', tcp({ ...client(at), from: at.b })), at), 'nobody');
    },
  },
  {
    name: 'no backend is where no packet may go',
    run: (rig, at) => {
      for (const [by, reason] of at.family === 4
        ? ([
            ['224.0.0.9', 'multicast'],
            ['127.0.0.1', 'malformed'],
          ] as const)
        : ([
            ['ff02::9', 'multicast'],
            ['::1', 'malformed'],
          ] as const)) {
        serve(rig, at, { by: [`${by} ${LISTENS}`], protocol: UDP });
        rig.drop('from a', udp(client(at)), reason);
        rig.drop('from a', udp({ ...client(at), to: by }), reason);
      }
    },
  },
  {
    name: 'a backend that comes back is another one: datagrams are spread anew',
    run: (rig, at) => {
      const destinations = (): ReadonlySet<string> => destinationsOf(rig, at);
      const [b, c] = [`${at.b} ${LISTENS}`, `${at.c} ${LISTENS}`];
      serve(rig, at, { by: [b], protocol: UDP });
      assert.deepEqual(destinations(), new Set(['b']));
      serve(rig, at, { by: [b, c], protocol: UDP });
      assert.deepEqual(destinations(), new Set(['b']));
      serve(rig, at, { by: [c], protocol: UDP });
      serve(rig, at, { by: [b, c], protocol: UDP });
      assert.deepEqual(destinations(), new Set(['b', 'c']));
    },
  },
  {
    name: 'a flow that is over keeps nobody with its backend, though it was not swept yet',
    needs: ['clock'],
    run: (rig, at) => {
      const destinations = (): ReadonlySet<string> => destinationsOf(rig, at);
      const [b, c] = [`${at.b} ${LISTENS}`, `${at.c} ${LISTENS}`];
      serve(rig, at, { by: [b], protocol: UDP });
      assert.deepEqual(destinations(), new Set(['b']));
      serve(rig, at, { by: [b, c], protocol: UDP });
      rig.harness.moveClock?.(UDP_SECONDS - 1);
      assert.deepEqual(destinations(), new Set(['b']));
      rig.harness.moveClock?.(UDP_SECONDS + 1);
      assert.deepEqual(destinations(), new Set(['b', 'c']));
    },
  },
  {
    name: 'what was cut is judged again once its other end is a Service’s address',
    run: (rig, at) => {
      const ask = echo({ from: at.a, to: at.service, id: 7 });
      rig.pass('from a', ask);
      rig.policy('a', 'egress', [DEFAULT]);
      rig.drop('from a', ask, 'peer-unknown egress default');
      rig.drop('from a', ask, 'denied-earlier egress');
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      rig.drop('from a', ask, 'peer-unknown egress default');
      rig.drop('from a', ask, 'denied-earlier egress');
    },
  },
];

/** Where datagrams of a to the Service go, each from a port of its own. */
function destinationsOf(rig: Rig, at: Names): ReadonlySet<string> {
  const ports = Array.from({ length: 32 }, (_, index) => 40_000 + index);
  return new Set(ports.map((sport) => destinationOf(rig.pass('from a', udp(client(at, sport))), at)));
}
