// A pod that asks a Service and is its backend itself: it hears somebody from elsewhere, and itself as the Service.
import assert from 'node:assert/strict';
import { TCP, UDP } from '#net/protocol.ts';
import { echo, icmpError, tcp, udp } from '../packets.ts';
import { back, type Case, type Connection } from './case.ts';
import type { Met } from './harness.ts';
import type { Names, Rig } from './rig.ts';
import { arrives, client, destinationOf, LISTENS, open, same, serve, served } from './service-cases.ts';
import { DEFAULT } from './tables.ts';

/** Whom it hears (docs/decisions/0039-hairpin.md): nobody has this address. */
const ELSEWHERE = { 4: '169.254.77.1', 6: '100::6d6f:6174' } as const;
/** So many ports, so that some are sent to each of two backends. */
const FLOWS = 16;

/** The connection as the pod sees it that is asked. */
function turned(at: Names, sport = 40_000): Connection {
  return { from: ELSEWHERE[at.family], to: at.a, sport, dport: LISTENS };
}

function serveBy(rig: Rig, at: Names, ...pods: readonly ('a' | 'b')[]): void {
  for (const protocol of [TCP, UDP]) serve(rig, at, { by: pods.map((pod) => `${at[pod]} ${LISTENS}`), protocol });
}

/** It goes straight back into the pod. */
function comesBack(met: Met, make: (hopLimit: number) => Uint8Array): void {
  assert.equal(met.entered, true, 'past the stack');
  same(met.frame, make);
}

/** a asks itself, and answers. */
function asksItself(rig: Rig, at: Names, sport: number): void {
  comesBack(rig.pass('from a', tcp(client(at, sport))), (hopLimit) => tcp({ ...turned(at, sport), hopLimit }));
  const answer = { ...back(turned(at, sport)), flags: 'SA' };
  comesBack(rig.pass('from a', tcp(answer)), (hopLimit) => tcp({ ...back(client(at, sport)), flags: 'SA', hopLimit }));
  // What completes it, and what follows.
  for (const payload of [new Uint8Array(), Buffer.from('moat')]) {
    const segment = { flags: 'A', sequence: 2, ack: 2, payload };
    comesBack(rig.pass('from a', tcp({ ...client(at, sport), ...segment })), (hopLimit) =>
      tcp({ ...turned(at, sport), ...segment, hopLimit }),
    );
  }
}

export const HAIRPIN_CASES: readonly Case[] = [
  {
    name: 'a pod that is its Service’s backend hears itself from elsewhere, and answers as the Service',
    run: (rig, at) => {
      serveBy(rig, at, 'a');
      asksItself(rig, at, 40_000);
      comesBack(rig.pass('from a', udp(client(at))), (hopLimit) => udp({ ...turned(at), hopLimit }));
      comesBack(rig.pass('from a', udp(back(turned(at)))), (hopLimit) => udp({ ...back(client(at)), hopLimit }));
    },
  },
  {
    name: 'it may always ask itself, whatever policy says, and says next',
    run: (rig, at) => {
      for (const direction of ['egress', 'ingress'] as const) rig.policy('a', direction, [DEFAULT]);
      serveBy(rig, at, 'a');
      asksItself(rig, at, 40_000);
      rig.policy('a', 'ingress', ['deny a', DEFAULT]);
      const goesOn = { ...client(at), flags: 'A', sequence: 2 };
      comesBack(rig.pass('from a', tcp(goesOn)), (hopLimit) =>
        tcp({ ...turned(at), flags: 'A', sequence: 2, hopLimit }),
      );
      rig.pass('from a', tcp({ ...back(turned(at)), flags: 'A' }));
    },
  },
  {
    name: 'it asks itself as often as it would another, and with others behind the Service these as well',
    run: (rig, at) => {
      serveBy(rig, at, 'a', 'b');
      const sports = Array.from({ length: FLOWS }, (_, index) => 40_000 + index);
      const asked = sports.map((sport) => destinationOf(rig.pass('from a', tcp(client(at, sport))), at));
      assert.deepEqual(new Set(asked), new Set(['a', 'b']));
    },
  },
  {
    name: 'what can’t come back past the stack, or by one port for both, goes to another backend, or to none',
    run: (rig, at) => {
      const first = { id: 5, offset: 0, more: true };
      const odd = [
        udp({ ...client(at), fragment: first, payload: new Uint8Array(8) }),
        udp({ ...client(at), hopLimit: 1 }),
        udp(client(at, LISTENS)),
      ];
      serveBy(rig, at, 'a');
      for (const frame of odd) rig.drop('from a', frame, 'no-backend');
      serveBy(rig, at, 'a', 'b');
      for (const frame of odd) assert.equal(destinationOf(rig.pass('from a', frame), at), 'b');
      // Nor does a flow that began as it may.
      serveBy(rig, at, 'a');
      rig.pass('from a', udp(client(at, 40_001)));
      rig.drop('from a', udp({ ...client(at, 40_001), hopLimit: 1 }), 'no-backend');
      rig.drop('from a', udp({ ...back(turned(at, 40_001)), hopLimit: 1 }), 'mid-flow');
    },
  },
  {
    name: 'from elsewhere nobody else speaks, and to there none but what was asked from there',
    run: (rig, at) => {
      serveBy(rig, at, 'a');
      const answer = { ...back(turned(at)), flags: 'SA' };
      rig.drop('from a', tcp(answer), 'mid-flow');
      asksItself(rig, at, 40_000);
      rig.drop('from a', tcp({ ...back(turned(at)), flags: 'S' }), 'mid-flow');
      rig.drop('from a', tcp({ ...answer, dport: 40_001 }), 'mid-flow');
      rig.drop('from a', tcp({ ...client(at), to: ELSEWHERE[at.family], dport: LISTENS, flags: 'A' }), 'mid-flow');
      rig.drop('from a', udp(back(turned(at))), 'mid-flow');
      rig.drop('from b', tcp({ ...answer, from: at.b }), 'mid-flow');
      rig.drop('from b', tcp(answer), 'spoofed-source');
      rig.drop('from a', tcp({ ...answer, from: ELSEWHERE[at.family] }), 'spoofed-source');
      rig.drop('from a', echo({ from: at.a, to: ELSEWHERE[at.family], id: 9 }), 'mid-flow');
      rig.drop('from a', icmpError({ from: at.a, to: ELSEWHERE[at.family], inner: tcp(turned(at)) }), 'mid-flow');
      for (const place of ['to a', 'to a by stack', 'to a from afar'] as const) {
        rig.drop(place, tcp({ ...turned(at), flags: 'A' }), 'malformed');
      }
    },
  },
  {
    name: 'who asks itself changes nothing for others whose packets come next',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      open(rig, at);
      serve(rig, at, { by: [`${at.a} ${LISTENS}`], protocol: UDP });
      for (let turn = 0; turn < 4; turn++) {
        const sequence = 2 + 4 * turn;
        rig.pass('from a', udp(client(at)));
        rig.pass('from a', udp(back(turned(at))));
        const answer = { flags: 'A', sequence, ack: 2, payload: Buffer.from('moat') };
        same(arrives(rig, 'b', 'a', tcp({ ...back(served(at)), ...answer })), (hopLimit) =>
          tcp({ ...back(client(at)), ...answer, hopLimit }),
        );
      }
    },
  },
  {
    name: 'what it sends to its own address, and what it says of its own answers, is of no such flow',
    run: (rig, at) => {
      serveBy(rig, at, 'a');
      asksItself(rig, at, 40_000);
      const direct = { from: at.a, to: at.a, sport: 40_000, dport: LISTENS };
      for (const flags of ['A', 'R']) assert.equal(rig.pass('from a', tcp({ ...direct, flags })).entered, false);
      rig.drop('from a', icmpError({ from: at.a, to: at.service, inner: tcp(back(client(at))) }), 'icmp-unrelated');
      rig.pass('from a', tcp({ ...client(at), flags: 'A' }));
    },
  },
];
