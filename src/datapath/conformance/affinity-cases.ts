// Services that keep each client with its backend, as their `sessionAffinity` says.
import assert from 'node:assert/strict';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import { sctp, tcp, udp } from '../packets.ts';
import type { Case } from './case.ts';
import type { Names, Rig } from './rig.ts';
import { client, destinationOf, LISTENS, PORT, serve } from './service-cases.ts';

const SECONDS = 100;
/** So many flows never go to one of several backends by chance. */
const FLOWS = 40;

function keep(rig: Rig, by: readonly string[], at: Names, protocol = TCP): void {
  serve(rig, at, { by: by.map((each) => `${each} ${LISTENS}`), protocol, affinitySeconds: SECONDS });
}

/** Where so many new connections of a go, from this port on. */
function connect(rig: Rig, at: Names, first: number, count = FLOWS): ReadonlySet<string> {
  const ports = Array.from({ length: count }, (_, index) => first + index);
  return new Set(ports.map((sport) => destinationOf(rig.pass('from a', tcp(client(at, sport))), at)));
}

function theOne(seen: ReadonlySet<string>): string {
  assert.equal(seen.size, 1, [...seen].join());
  return [...seen].join();
}

export const AFFINITY_CASES: readonly Case[] = [
  {
    name: 'a client stays with its backend, by all of its connections and datagrams',
    run: (rig, at) => {
      serve(rig, at, { by: [at.b, at.c, at.remote].map((each) => `${each} ${LISTENS}`) });
      assert.ok(connect(rig, at, 30_000).size > 1, 'without affinity it does not');
      for (const protocol of [TCP, UDP]) keep(rig, [at.b, at.c, at.remote], at, protocol);
      theOne(connect(rig, at, 40_000));
      const datagrams = Array.from({ length: FLOWS }, (_, index) => udp(client(at, 40_000 + index)));
      theOne(new Set(datagrams.map((frame) => destinationOf(rig.pass('from a', frame), at))));
    },
  },
  {
    name: 'it stays while others come and go, and goes elsewhere once its backend has gone',
    run: (rig, at) => {
      keep(rig, [at.b], at);
      assert.equal(theOne(connect(rig, at, 40_000)), 'b');
      keep(rig, [at.b, at.c, at.remote], at);
      assert.equal(theOne(connect(rig, at, 41_000)), 'b');
      keep(rig, [at.c, at.remote], at);
      const next = theOne(connect(rig, at, 42_000));
      assert.notEqual(next, 'b');
      keep(rig, [at.b, at.c, at.remote], at);
      assert.equal(theOne(connect(rig, at, 43_000)), next);
    },
  },
  {
    name: 'so long after its last connection it is kept no more, and until then it is',
    needs: ['clock'],
    run: (rig, at) => {
      keep(rig, [at.b], at);
      connect(rig, at, 40_000, 1);
      keep(rig, [at.b, at.c, at.remote], at);
      for (let turn = 0; turn < 3; turn++) {
        rig.harness.advance?.(SECONDS - 2);
        assert.equal(theOne(connect(rig, at, 41_000 + turn, 1)), 'b', 'each one counts');
      }
      // Each time somebody else may be chosen; never all of them the same.
      const seen = Array.from({ length: FLOWS }, (_, turn) => {
        rig.harness.advance?.(SECONDS + 1);
        return theOne(connect(rig, at, 42_000 + turn, 1));
      });
      assert.ok(new Set(seen).size > 1, seen.join());
    },
  },
  {
    name: 'clients are kept each by itself, and one of another Service by that',
    run: (rig, at) => {
      keep(rig, [at.c], at);
      assert.equal(theOne(connect(rig, at, 40_000, 1)), 'c');
      serve(rig, at, { by: [`${at.remote} ${LISTENS}`], port: 81, affinitySeconds: SECONDS });
      assert.equal(destinationOf(rig.pass('from a', tcp({ ...client(at), dport: 81 })), at), 'remote');
      keep(rig, [at.c, at.remote], at);
      assert.equal(theOne(connect(rig, at, 41_000)), 'c');
      const ports = Array.from({ length: FLOWS }, (_, index) => 42_000 + index);
      const ofB = (sport: number): string =>
        destinationOf(rig.pass('from b', tcp({ ...client(at, sport), from: at.b })), at);
      keep(rig, [at.remote], at);
      assert.equal(ofB(41_999), 'remote');
      keep(rig, [at.c, at.remote], at);
      assert.equal(theOne(new Set(ports.map(ofB))), 'remote');
    },
  },
  {
    name: 'a client stays with a backend that spoke first, too',
    run: (rig, at) => {
      keep(rig, [at.b], at, UDP);
      rig.pass('from b', udp({ from: at.b, to: at.a, sport: LISTENS, dport: 40_000 }));
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'b');
      keep(rig, [at.b, at.c, at.remote], at, UDP);
      const frames = Array.from({ length: FLOWS }, (_, index) => udp(client(at, 41_000 + index)));
      assert.equal(theOne(new Set(frames.map((frame) => destinationOf(rig.pass('from a', frame), at)))), 'b');
    },
  },
  {
    name: 'a backend that SCTP can’t go to keeps nobody',
    run: (rig, at) => {
      const how = { protocol: SCTP, affinitySeconds: SECONDS };
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], ...how });
      rig.drop('from a', sctp(client(at)), 'no-backend');
      serve(rig, at, { by: [`${at.b} ${LISTENS}`, `${at.remote} ${PORT}`], ...how });
      const ports = Array.from({ length: FLOWS }, (_, index) => 41_000 + index);
      const verdicts = ports.map((sport) => rig.inject('from a', sctp(client(at, sport))).verdict);
      assert.equal(verdicts.at(-1), 'pass', verdicts.join());
    },
  },
  {
    name: 'nobody is sent where somebody else was',
    run: (rig, at) => {
      const differ = Array.from({ length: FLOWS / 2 }, (_, index) => 100 + index).filter((port) => {
        serve(rig, at, { by: [at.c, at.remote].map((each) => `${each} ${LISTENS}`), port, affinitySeconds: SECONDS });
        const asked = { ...client(at, 40_000 + port), dport: port };
        const ofA = destinationOf(rig.pass('from a', tcp(asked)), at);
        return ofA !== destinationOf(rig.pass('from b', tcp({ ...asked, from: at.b })), at);
      });
      assert.ok(differ.length > 0);
    },
  },
  {
    name: 'what keeps a client opens nothing: policy judges the backend',
    run: (rig, at) => {
      keep(rig, [at.b], at);
      connect(rig, at, 40_000, 1);
      rig.policy('b', 'ingress', ['deny a']);
      rig.drop('from a', tcp(client(at, 40_001)), 'policy ingress deny a');
    },
  },
];
