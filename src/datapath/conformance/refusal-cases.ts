// Services that nobody serves: whoever asks is told at once, by what its own stack takes for an answer.
import assert from 'node:assert/strict';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import { icmpError, ip, sctp, tcp, udp, WHOLE } from '../packets.ts';
import { back, type Case } from './case.ts';
import { macOfPod, type Names } from './rig.ts';
import { arrives, client, destinationOf, LISTENS, PORT, same, serve, served } from './service-cases.ts';

const PAYLOAD = Buffer.from('more than is quoted of it');

/** What refuses is whole, and has no number of its own. */
function whole(at: Names): { readonly fragment?: typeof WHOLE } {
  return at.family === 4 ? { fragment: WHOLE } : {};
}

/** The answer goes back by the way that the frame came: MACs change places. */
function comesBack(answer: Uint8Array | null, frame: Uint8Array, expected: Uint8Array): void {
  assert.ok(answer, 'nobody is told');
  assert.deepEqual(Buffer.from(answer.subarray(0, 6)), Buffer.from(macOfPod('a')));
  assert.deepEqual(Buffer.from(answer.subarray(6, 12)), Buffer.from(frame.subarray(0, 6)));
  same(answer, () => expected);
}

function quotedOf(at: Names, frame: Uint8Array): Uint8Array {
  return frame.subarray(0, 14 + (at.family === 4 ? 20 : 40) + 8);
}

export const REFUSAL_CASES: readonly Case[] = [
  {
    name: 'a connection to a Service that nobody serves is reset, with the number that its SYN asks for',
    run: (rig, at) => {
      serve(rig, at, { by: [] });
      for (const [sequence, payload] of [
        [1000, Buffer.alloc(0)],
        [0xffff_ffff, Buffer.alloc(0)],
        [7, PAYLOAD],
      ] as const) {
        const frame = tcp({ ...client(at), sequence, payload });
        // What came with a SYN is not taken: the SYN alone is acknowledged, which its sender must accept (RFC 9293, 3.10.7.3).
        const ack = (sequence + 1) >>> 0;
        const reset = tcp({ ...back(client(at)), ...whole(at), flags: 'RA', sequence: 0, ack, window: 0 });
        comesBack(rig.refuse('from a', frame), frame, reset);
      }
    },
  },
  {
    name: 'a datagram to a Service that nobody serves is answered by an error that quotes its ports',
    run: (rig, at) => {
      for (const [protocol, make] of [
        [UDP, udp],
        [SCTP, sctp],
      ] as const) {
        serve(rig, at, { by: [], protocol });
        for (const payload of [Buffer.alloc(0), PAYLOAD, Buffer.alloc(1200)]) {
          const frame = make({ ...client(at), payload });
          const error = icmpError({ from: at.service, to: at.a, ...whole(at), inner: quotedOf(at, frame) });
          comesBack(rig.refuse('from a', frame), frame, error);
        }
      }
    },
  },
  {
    name: 'of what comes in parts the first alone is answered, and nothing that has options or extension headers',
    run: (rig, at) => {
      serve(rig, at, { by: [], protocol: UDP });
      const datagram = udp({ ...client(at), payload: Buffer.alloc(24) }).subarray(at.family === 4 ? 34 : 54);
      const first = { ...client(at), fragment: { id: 9, offset: 0, more: true } };
      const answer = rig.refuse('from a', ip(first, UDP, datagram.subarray(0, 16)));
      assert.equal(answer !== null, at.family === 4, 'an IPv6 fragment has an extension header');
      const more = at.family === 4 ? { options: Uint8Array.of(1, 1, 1, 1) } : { headers: [{ header: 60, body: PAD }] };
      assert.equal(rig.refuse('from a', udp({ ...client(at), ...more })), null);
    },
  },
  {
    name: 'what is refused otherwise, or to somebody else, is not answered',
    run: (rig, at) => {
      serve(rig, at, { by: [] });
      assert.equal(rig.inject('from a', tcp({ ...client(at), flags: 'A' })).answer, null, 'no SYN');
      assert.equal(rig.inject('from a', tcp({ ...client(at), dport: PORT + 1 })).answer, null, 'no Service');
      assert.equal(rig.inject('from a', tcp({ ...client(at), from: at.b })).answer, null, 'not its address');
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      rig.policy('a', 'egress', ['deny b']);
      assert.equal(rig.inject('from a', tcp(client(at))).answer, null, 'policy');
    },
  },
  {
    name: 'a pod that alone serves, by the port that it asks from, is told so, as is one whose ports are in use at every backend',
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.a} ${LISTENS}`] });
      assert.ok(rig.refuse('from a', tcp(client(at, LISTENS))));
      serve(rig, at, { by: [`${at.b} ${LISTENS}`] });
      arrives(rig, 'a', 'b', tcp(served(at, 41_000)));
      assert.ok(rig.refuse('from a', tcp(client(at, 41_000))));
    },
  },
  {
    name: 'datagrams go to a backend that spoke first, where policy lets them, and what it says is the Service’s then',
    needs: ['clock'],
    run: (rig, at) => {
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol: UDP });
      arrives(rig, 'a', 'b', udp(client(at)));
      rig.harness.advance?.(121);
      same(arrives(rig, 'b', 'a', udp(back(served(at)))), (hopLimit) => udp({ ...back(served(at)), hopLimit }));
      rig.policy('b', 'ingress', ['deny a']);
      rig.drop('from a', udp(client(at)), 'policy ingress deny a');
      rig.policy('b', 'ingress', ['allow a']);
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'b');
      same(arrives(rig, 'b', 'a', udp(back(served(at)))), (hopLimit) => udp({ ...back(client(at)), hopLimit }));
    },
  },
  {
    name: 'a backend that asks the Service of its client, from where it serves it, begins no answer',
    run: (rig, at) => {
      const by = [`${at.b} ${LISTENS}`, `${at.a} 40000`];
      const asks = udp({ from: at.b, to: at.service, sport: LISTENS, dport: PORT });
      serve(rig, at, { by, protocol: UDP });
      arrives(rig, 'a', 'b', udp(client(at)));
      rig.refuse('from b', asks);
      serve(rig, at, { by: [...by, `${at.c} ${LISTENS}`], protocol: UDP });
      assert.equal(destinationOf(rig.pass('from b', asks), at), 'c');
      same(arrives(rig, 'b', 'a', udp(back(served(at)))), (hopLimit) => udp({ ...back(client(at)), hopLimit }));
    },
  },
  {
    name: 'where another backend has room, one that spoke first keeps its flow',
    run: (rig, at) => {
      arrives(rig, 'b', 'a', udp(back(served(at))));
      serve(rig, at, { by: [`${at.b} ${LISTENS}`, `${at.c} ${LISTENS}`], protocol: UDP });
      assert.equal(destinationOf(rig.pass('from a', udp(client(at))), at), 'c');
      same(arrives(rig, 'a', 'b', udp(served(at))), (hopLimit) => udp({ ...served(at), hopLimit }));
      const tcpBack = { ...back(served(at)), flags: 'S' };
      serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol: TCP });
      arrives(rig, 'b', 'a', tcp(tcpBack));
      rig.drop('from a', tcp(client(at)), 'no-backend');
    },
  },
];

/** A destination options header of eight bytes, all of them padding. */
const PAD = Uint8Array.of(0, 1, 4, 0, 0, 0, 0);
