// Whole sets of hostile packets, none left out, through both datapaths: every cut, every chain of extension headers,
// every mix of TCP flags in every state. Both must say the same, and nothing passes that may not. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { back, close, establish } from '#datapath/conformance/case.ts';
import type { Judged, Met } from '#datapath/conformance/harness.ts';
import { IPV4, IPV6, macOfPod, type Names, type Place, PODS, Rig } from '#datapath/conformance/rig.ts';
import { client, LISTENS, serve, served } from '#datapath/conformance/service-cases.ts';
import { DEFAULT } from '#datapath/conformance/tables.ts';
import {
  arp,
  concat,
  type ExtensionHeader,
  echo,
  icmpError,
  ip,
  neighbour,
  sctp,
  tcp,
  udp,
} from '#datapath/packets.ts';
import { referenceHarness } from '#datapath/reference/harness.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { bend } from './support/mutate-frame.ts';
import { needsRoot } from './support/needs.ts';
import { TestRunBed } from './support/test-run-bed.ts';

const ESTABLISHED = 8192;
/** Up to so many of the headers below in a row. */
const DEPTH = 3;

/** One node in both datapaths. */
class Pair {
  readonly rigs: readonly [Rig, Rig];
  judged = 0;

  constructor(bed: TestRunBed) {
    const options = { establishedLimit: ESTABLISHED, unassuredLimit: null };
    this.rigs = [new Rig(referenceHarness(options)), new Rig(bed.harness(options))];
  }

  both(step: (rig: Rig) => void): void {
    for (const rig of this.rigs) step(rig);
  }

  /** What both say of the frame; null where BPF_PROG_TEST_RUN refuses it. */
  judge(place: Place, frame: Uint8Array): Judged | null {
    return this.meet(place, frame)?.[0] ?? null;
  }

  /** As `judge`, with what becomes of the frame in each; `next`: past this hook, too, where the frame goes on to it. */
  meet(place: Place, frame: Uint8Array, next?: (met: Met) => Place | null): readonly [Met, Met] | null {
    const own = place.startsWith('from')
      ? concat(frame.subarray(0, 6), macOfPod(PODS.find((pod) => place.includes(` ${pod}`)) ?? 'a'), frame.subarray(12))
      : frame;
    const [reference, ebpf] = this.rigs.map((rig) => {
      const met = rig.injectAsIs(place, own);
      const then = met === 'refused' || met.verdict !== 'pass' || met.entered ? null : (next?.(met) ?? null);
      return met === 'refused' || then === null ? met : rig.injectAsIs(then, met.frame);
    });
    if (ebpf === 'refused' || reference === 'refused' || ebpf === undefined || reference === undefined) return null;
    const what = `${place}: ${Buffer.from(own).toString('hex')}`;
    assert.equal(this.rigs[1].describe(ebpf), this.rigs[0].describe(reference), what);
    if (reference.verdict === 'pass') assert.equal(packetOf(ebpf.frame), packetOf(reference.frame), what);
    this.judged++;
    return [reference, ebpf];
  }

  close(): void {
    this.both((rig) => rig.harness.close());
  }
}

const ask = (at: Names) => ({ from: at.a, to: at.b, sport: 40000, dport: 53 });

function baseFrames(at: Names): readonly Uint8Array[] {
  const first = { id: 5, offset: 0, more: true };
  const [header] = [{ header: 60, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) }];
  const common = [
    tcp({ ...ask(at), payload: new Uint8Array(8) }),
    udp({ ...ask(at), payload: new Uint8Array(8) }),
    sctp(ask(at)),
    echo({ from: at.a, to: at.b, id: 9 }),
    icmpError({ from: at.a, to: at.b, inner: udp(back(ask(at))) }),
    udp({ ...ask(at), fragment: first, payload: new Uint8Array(8) }),
    ip({ from: at.a, to: at.b, fragment: { id: 5, offset: 2, more: false } }, 17, new Uint8Array(16)),
    ip({ from: at.a, to: at.b }, 47, new Uint8Array(16)),
  ];
  if (at.family === 4) {
    const own = { operation: 1, senderMac: macOfPod('a'), sender: at.a, target: at.b };
    return [...common, tcp({ ...ask(at), options: Uint8Array.of(68, 4, 5, 0, 1, 1, 0, 0) }), arp(own)];
  }
  const asks = { type: 'solicitation', from: at.a, to: 'ff02::1', target: at.b, option: macOfPod('a') } as const;
  return [...common, udp({ ...ask(at), headers: [header, header] }), neighbour(asks)];
}

/** Every shorter frame, as it is and with a length that fits; every header byte changed in a few ways. */
function variants(frame: Uint8Array): readonly Uint8Array[] {
  const lengths = Array.from({ length: frame.length - 14 }, (_, index) => index);
  const cuts = lengths.flatMap((count) => {
    const mutations = [{ kind: 'cut' as const, count }];
    return (['nothing', 'all'] as const).map((repair) => bend(frame, { mutations, repair }));
  });
  const bytes = lengths.slice(0, 90).flatMap((at) => {
    const now = frame[14 + at] ?? 0;
    return [0, 255, now ^ 1, now ^ 0x80].map((value) => frame.with(14 + at, value));
  });
  return [...cuts, ...bytes];
}

/** What is left of a frame on its way: its packet, but for the hops that it may go, and for the sum over these. */
function packetOf(frame: Uint8Array): string {
  const packet = Buffer.from(frame.subarray(14));
  if (frame[12] === 0x08 && frame[13] === 0 && packet.length >= 12) packet.fill(0, 8, 9).fill(0, 10, 12);
  if (frame[12] === 0x86 && frame[13] === 0xdd && packet.length >= 8) packet.fill(0, 7, 8);
  return packet.toString('hex');
}

/** True where the frame is a neighbour's message, or says by its own bytes that it is for somebody else. */
function isForAnother(frame: Uint8Array, at: Names, b: string): boolean {
  const type = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  if (type === 0x0806) return true;
  return sentTo(frame, at) !== b;
}

/** Where its bytes send a packet. */
function sentTo(frame: Uint8Array, at: Names): string {
  const [start, size] = at.family === 4 ? [30, 4] : [38, 16];
  return Buffer.from(frame.subarray(start, start + size)).toString('hex');
}

function sentFrom(frame: Uint8Array, at: Names): string {
  const [start, size] = at.family === 4 ? [26, 4] : [22, 16];
  return Buffer.from(frame.subarray(start, start + size)).toString('hex');
}

/** Which flow an answer says by its bytes to be of: whole, the first of a fragmented one, and an error about what was asked. */
function flowOf(answer: Uint8Array, at: Names, turn: number): string {
  const [addresses, ports, end] = at.family === 4 ? [26, 34, 34] : [22, 54, 54];
  const before = turn === 2 ? end + 8 - 14 : 0;
  const first = turn === 1 && at.family === 6 ? ports + 8 : ports + before;
  const parts = [
    [addresses, end],
    [addresses + before, end + before],
    [first, first + 4],
  ];
  return parts.map(([from = 0, to]) => Buffer.from(answer.subarray(from, to)).toString('hex')).join();
}

const LINKS: readonly (ExtensionHeader & { readonly passes: boolean })[] = [
  { header: 0, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0), passes: true },
  { header: 60, body: Uint8Array.of(1, 1, 12, ...new Uint8Array(12)), passes: true },
  { header: 43, body: Uint8Array.of(0, 4, 0, 0, 0, 0, 0), passes: true },
  { header: 43, body: Uint8Array.of(0, 4, 1, 0, 0, 0, 0), passes: false },
  { header: 44, body: Uint8Array.of(0, 0, 0, 0, 0, 0, 8), passes: true },
  { header: 51, body: Uint8Array.of(2, 0, 0, ...new Uint8Array(12)), passes: false },
  { header: 50, body: new Uint8Array(15), passes: false },
  { header: 59, body: new Uint8Array(7), passes: false },
  { header: 135, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0), passes: false },
  { header: 60, body: Uint8Array.of(255, 1, 4, 0, 0, 0, 0), passes: false },
];

function chains(depth: number): readonly (readonly (typeof LINKS)[number][])[] {
  if (depth === 0) return [[]];
  return [[], ...chains(depth - 1).flatMap((rest) => LINKS.map((link) => [link, ...rest]))];
}

type Connection = ReturnType<typeof ask>;

/** How a connection gets to each state. */
const STATES: Readonly<Record<string, (rig: Rig, on: Connection) => void>> = {
  none: () => {},
  'SYN sent': (rig, on) => void rig.pass('from a', tcp(on)),
  answered: (rig, on) => {
    rig.pass('from a', tcp(on));
    rig.pass('from b', tcp({ ...back(on), flags: 'SA' }));
  },
  established: (rig, on) => establish(rig, ['a', 'b'], on),
  'half closed': (rig, on) => {
    establish(rig, ['a', 'b'], on);
    rig.pass('from a', tcp({ ...on, flags: 'FA' }));
    rig.pass('from b', tcp({ ...back(on), flags: 'A', ack: 3 }));
  },
  closed: (rig, on) => {
    establish(rig, ['a', 'b'], on);
    close(rig, ['a', 'b'], on);
  },
  reset: (rig, on) => {
    establish(rig, ['a', 'b'], on);
    rig.pass('from a', tcp({ ...on, flags: 'R' }));
  },
};

const LETTERS = 'FSRPAUEC';
/** All of them; the first 64 are those without ECE and CWR. */
const mixes = Array.from({ length: 256 }, (_, bits) =>
  [...LETTERS].filter((_letter, bit) => bits & (1 << bit)).join(''),
);

describe('sweeps (root)', needsRoot, () => {
  let bed: TestRunBed;
  let pair: Pair;

  before(() => {
    bed = new TestRunBed('sweep', { kept: PODS.length });
  });

  after(() => bed?.destroy());

  function sweep(context: { diagnostic(message: string): void }, run: () => void): void {
    pair = new Pair(bed);
    try {
      run();
      context.diagnostic(`${pair.judged} packets`);
    } finally {
      pair.close();
    }
  }

  for (const at of [IPV4, IPV6]) {
    it(`no cut or changed packet reaches a pod that nobody may reach (IPv${at.family})`, (context) => {
      sweep(context, () => {
        pair.both((rig) => rig.policy('b', 'ingress', [DEFAULT]));
        const b = sentTo(udp(ask(at)), at);
        for (const frame of baseFrames(at).flatMap(variants)) {
          const judged = pair.judge('from a', frame);
          const passes = judged?.verdict === 'pass';
          assert.ok(!passes || isForAnother(frame, at, b), Buffer.from(frame).toString('hex'));
        }
        assert.ok(pair.judged > 2000, `only ${pair.judged} judged`);
      });
    });

    it(`no cut or changed packet to a Service, or about what it answered, reaches a backend that nobody may reach (IPv${at.family})`, (context) => {
      sweep(context, () => {
        const b = sentTo(udp(ask(at)), at);
        const sent = (frame: Uint8Array): string => sentTo(frame, at);
        for (const [protocol, make] of [
          [TCP, tcp],
          [UDP, udp],
        ] as const) {
          pair.both((rig) => serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol }));
          const ends = client(at);
          const first = { id: 5, offset: 0, more: true };
          const frames = [
            make({ ...ends, payload: new Uint8Array(8) }),
            make({ ...ends, fragment: first, payload: new Uint8Array(8) }),
            icmpError({ from: at.a, to: at.service, inner: make(back(ends)) }),
          ];
          for (const [turn, frame] of frames.entries()) {
            pair.both((rig) => rig.policy('b', 'ingress'));
            const [reference, ebpf] = pair.meet('from a', frame) ?? assert.fail();
            if (turn === 0) assert.deepEqual([sent(reference.frame), sent(ebpf.frame)], [b, b]);
            pair.both((rig) => rig.policy('b', 'ingress', [DEFAULT]));
            for (const variant of variants(frame)) {
              for (const met of pair.meet('from a', variant) ?? []) {
                const reaches = met.verdict === 'pass' && sent(met.frame) === b;
                assert.ok(!reaches || sent(variant) === b, Buffer.from(variant).toString('hex'));
              }
            }
          }
        }
        assert.ok(pair.judged > 1500, `only ${pair.judged} judged`);
      });
    });

    it(`no cut or changed answer reaches who asked a Service, but what is of the flow, as the Service’s (IPv${at.family})`, (context) => {
      sweep(context, () => {
        const source = (frame: Uint8Array): string => sentFrom(frame, at);
        const onward = ({ frame }: Met): Place | null => (isForAnother(frame, at, a) ? null : 'to a');
        const [a, service] = [sentTo(udp(back(ask(at))), at), sentFrom(udp(back(client(at))), at)];
        for (const [protocol, make] of [
          [TCP, tcp],
          [UDP, udp],
        ] as const) {
          pair.both((rig) => {
            serve(rig, at, { by: [`${at.b} ${LISTENS}`], protocol });
            rig.policy('a', 'ingress', [DEFAULT]);
            rig.pass('from a', make(client(at)));
          });
          const flags = 'SA';
          const answers = back(served(at));
          const first = { id: 6, offset: 0, more: true };
          const frames = [
            make({ ...answers, flags, payload: new Uint8Array(8) }),
            make({ ...answers, flags, fragment: first, payload: new Uint8Array(8) }),
            icmpError({ from: at.b, to: at.a, inner: make(served(at)) }),
          ];
          for (const [turn, frame] of frames.entries()) {
            const [reference, ebpf] = pair.meet('from b', frame, onward) ?? assert.fail();
            const heard = [reference, ebpf].map((met) => [met.verdict, source(met.frame)]);
            assert.deepEqual(
              heard,
              [0, 1].map(() => ['pass', service]),
              `${protocol}, ${turn}`,
            );
            for (const variant of variants(frame)) {
              for (const met of pair.meet('from b', variant, onward) ?? []) {
                if (met.verdict !== 'pass' || isForAnother(met.frame, at, a)) continue;
                assert.equal(source(met.frame), service, Buffer.from(variant).toString('hex'));
                assert.equal(flowOf(variant, at, turn), flowOf(frame, at, turn), Buffer.from(variant).toString('hex'));
              }
            }
          }
        }
        assert.ok(pair.judged > 1500, `only ${pair.judged} judged`);
      });
    });

    it(`in no state does a mix of TCP flags open what may not be opened (IPv${at.family})`, (context) => {
      sweep(context, () => {
        pair.both((rig) => rig.policy('b', 'egress', [DEFAULT]));
        let sport = 1024;
        for (const [state, reach] of Object.entries(STATES)) {
          for (const flags of at.family === 4 ? mixes : mixes.slice(0, 64)) {
            for (const sender of ['a', 'b'] as const) {
              const on = { ...ask(at), sport: sport++ };
              pair.both((rig) => reach(rig, on));
              const ends = sender === 'a' ? on : back(on);
              const judged = pair.judge(`from ${sender}`, tcp({ ...ends, flags }));
              assert.ok(judged !== null);
              checkFlags(judged, { state, flags, sender });
              // Whatever it was, b may still not open.
              assert.equal(
                pair.judge('from b', tcp({ ...back(on), sequence: 999 }))?.verdict,
                'drop',
                `${state} ${flags}`,
              );
            }
          }
        }
      });
    });
  }

  it(`no chain of up to ${DEPTH} extension headers hides a port`, (context) => {
    sweep(context, () => {
      const at = IPV6;
      pair.both((rig) => rig.policy('b', 'ingress', ['allow a udp/53', DEFAULT]));
      for (const headers of chains(DEPTH)) {
        const passes = headers.every((link) => link.passes);
        const named = headers.map(({ header }) => header).join(' ');
        assert.equal(pair.judge('from a', udp({ ...ask(at), headers }))?.verdict === 'pass', passes, named);
        assert.equal(pair.judge('from a', udp({ ...ask(at), dport: 54, headers }))?.verdict, 'drop', named);
      }
      assert.ok(pair.judged >= 2 * LINKS.length ** DEPTH);
    });
  });
});

/** RFC 9293 §3.10.7: without a connection only a SYN opens; SYN with FIN or RST is nobody's. */
function checkFlags(
  judged: Judged,
  { state, flags, sender }: { readonly state: string; readonly flags: string; readonly sender: 'a' | 'b' },
): void {
  const has = (letter: string): boolean => flags.includes(letter);
  const what = `${state}, ${sender} sends ${flags}`;
  if (has('S') && (has('F') || has('R'))) assert.equal(judged.reason, 'malformed', what);
  else if (has('S') && !has('A')) assert.equal(judged.verdict, sender === 'a' ? 'pass' : 'drop', what);
  else assert.equal(judged.reason, state === 'none' ? 'mid-flow' : 'none', what);
}
