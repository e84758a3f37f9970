// Random frames at random hooks: mostly what pods and the network send, some of it forged, cut or bent.
import fc from 'fast-check';
import { arp, concat, echo, icmp, icmpError, ip, neighbour, type PortSpec, sctp, tcp, udp } from '#datapath/packets.ts';
import type { Address } from '#net/address.ts';
import { arbitraryBending, type Bending, bend } from './mutate-frame.ts';

/** A frame as numbers, so that it can be shrunk: addresses are picked from what the world has. */
export type FrameSpec = {
  readonly kind: Kind;
  readonly from: number;
  readonly to: number;
  readonly sport: number;
  readonly dport: number;
  readonly flags: string;
  /** Sequence number and acknowledgement; null = those of a connection on which nothing was sent yet. */
  readonly numbers: readonly [number, number] | null;
  readonly number: number;
  readonly fragment: { readonly id: number; readonly offset: number; readonly more: boolean } | null;
  readonly headers: readonly { readonly header: number; readonly body: Uint8Array }[];
  readonly options: Uint8Array;
  readonly bending: Bending | null;
  /** An IPv6 source that is an IPv4 address, or another ethertype. */
  readonly odd: 'mapped' | 'type' | null;
  /** Bytes after the packet. */
  readonly padding: number;
  /** own: sent where it would be · else the interface, the hook and the MAC are anyone's. */
  readonly place: { readonly interfaces: number; readonly hook: 'from-pod' | 'to-pod' } | 'own';
  readonly mac: 'own' | 'foreign';
  readonly sender: 'source' | 'afar' | 'stack';
};

const MAPPED: Address = { family: 6, words: [0, 0, 0xffff, 0x0a010001] };

type Ends = { readonly from: Address; readonly to: Address };

const flags = fc.constantFrom(
  'S',
  'S',
  'S',
  'SA',
  'SA',
  'A',
  'A',
  'A',
  'PA',
  'FA',
  'FA',
  'R',
  'RA',
  'F',
  'SF',
  '',
  'SU',
);
/** Few, so that what one end sends next, or has received, is hit as well as missed. */
const sequence = fc.constantFrom(0, 1, 2, 2, 2, 3, 3, 4, 10, 0xffff_ffff, 0x8000_0002);
/** Few ports and few ends, so that packets meet the connections of earlier ones. */
const port = fc.constantFrom(80, 80, 80, 80, 53, 40000, 40000, 40000, 40000, 81, 0, 65535);
const end = fc.oneof({ weight: 3, arbitrary: fc.nat({ max: 2 }) }, { weight: 1, arbitrary: fc.nat({ max: 1000 }) });
const rarely = <Value>(value: fc.Arbitrary<Value>, usual: Value, weight = 9): fc.Arbitrary<Value> =>
  fc.oneof({ weight, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: value });

const fragment = fc.record({
  id: fc.constantFrom(1, 2),
  offset: fc.constantFrom(0, 0, 1, 2, 100, 4096, 8191),
  more: fc.boolean(),
});

const header = fc.oneof(
  fc
    .constantFrom(0, 60, 60, 43, 51, 135)
    .map((number) => ({ header: number, body: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) })),
  fc.constantFrom(43, 60, 0).map((number) => ({ header: number, body: Uint8Array.of(0, 0, 0, 0, 0, 0, 0) })),
  fc.constantFrom(0, 1, 8).map((offset) => ({ header: 44, body: Uint8Array.of(0, 0, offset, 0, 0, 0, 1) })),
);

const options = fc.constantFrom(
  Uint8Array.of(1, 1, 1, 1),
  Uint8Array.of(68, 4, 5, 0),
  Uint8Array.of(131, 3, 4, 0),
  Uint8Array.of(7, 0, 0, 0),
  Uint8Array.of(0, 131, 3, 4),
);

export const arbitraryFrame: fc.Arbitrary<FrameSpec> = fc.record({
  kind: fc.constantFrom(
    ...(['tcp', 'tcp', 'tcp', 'tcp', 'udp', 'udp', 'udp', 'sctp', 'echo', 'echo', 'reply', 'message'] as const),
    ...(['error', 'error', 'protocol', 'arp', 'neighbour', 'listener'] as const),
  ),
  from: end,
  to: end,
  sport: port,
  dport: port,
  flags,
  numbers: rarely<FrameSpec['numbers']>(fc.tuple(sequence, sequence), null, 1),
  number: fc.nat({ max: 255 }),
  fragment: rarely<FrameSpec['fragment']>(fragment, null, 3),
  headers: rarely<FrameSpec['headers']>(fc.array(header, { minLength: 1, maxLength: 7 }), []),
  options: rarely<Uint8Array>(options, new Uint8Array()),
  bending: rarely<FrameSpec['bending']>(arbitraryBending, null, 2),
  odd: rarely<FrameSpec['odd']>(fc.constantFrom('mapped', 'type'), null, 30),
  padding: rarely(fc.nat({ max: 40 }), 0),
  place: rarely<FrameSpec['place']>(
    fc.record({ interfaces: fc.nat({ max: 100 }), hook: fc.constantFrom('from-pod', 'to-pod') }),
    'own',
  ),
  mac: rarely<FrameSpec['mac']>(fc.constant('foreign'), 'own', 19),
  sender: fc.constantFrom('source', 'afar', 'stack'),
});

/** Whether ICMP types of this spec are IPv6's. */
const v6 = (ends: Ends): boolean => ends.from.family === 6;

type Builder = (spec: FrameSpec, ends: Ends) => Uint8Array;

type Kind =
  | 'tcp'
  | 'udp'
  | 'sctp'
  | 'echo'
  | 'reply'
  | 'message'
  | 'error'
  | 'protocol'
  | 'arp'
  | 'neighbour'
  | 'listener';

const BUILDERS: Readonly<Record<Kind, Builder>> = {
  tcp: (spec, ends) => tcp({ ...common(spec, ends), flags: spec.flags, ...numbers(spec) }),
  udp: (spec, ends) => udp(common(spec, ends)),
  sctp: (spec, ends) => sctp(common(spec, ends)),
  echo: (spec, ends) => echo({ ...common(spec, ends), id: spec.sport }),
  reply: (spec, ends) => echo({ ...common(spec, ends), id: spec.dport, reply: true }),
  message: (spec, ends) => icmp({ ...common(spec, ends), type: spec.number, code: 0, body: new Uint8Array(20) }),
  error: (spec, ends) => icmpError({ ...common(spec, ends), inner: quoted(spec, ends) }),
  protocol: (spec, ends) => ip(common(spec, ends), spec.number, new Uint8Array(16)),
  arp: (spec, ends) => {
    if (v6(ends)) return udp(common(spec, ends));
    const sender = spec.number < 200 ? ends.from : '0.0.0.0';
    return arp({
      operation: 1 + (spec.number % 2),
      senderMac: Uint8Array.of(2, 0, 0, 0, 0, 9),
      sender,
      target: ends.to,
    });
  },
  neighbour: (spec, ends) => {
    if (!v6(ends)) return udp(common(spec, ends));
    const type = spec.number % 2 === 0 ? 'solicitation' : 'advertisement';
    const option = Uint8Array.of(2, 0, 0, 0, 0, 9);
    const to = spec.number < 200 ? 'ff02::1' : ends.to;
    return neighbour({ from: ends.from, to, type, target: spec.number % 3 === 0 ? ends.to : ends.from, option });
  },
  listener: (spec, ends) => {
    if (!v6(ends)) return udp({ ...common(spec, ends), to: '224.0.0.251' });
    const type = [130, 131, 132, 143][spec.number % 4] ?? 143;
    return icmp({ from: ends.from, to: 'ff02::16', hopLimit: 1, type, code: 0, body: new Uint8Array(20) });
  },
};

function numbers({ numbers: given }: FrameSpec): { readonly sequence?: number; readonly ack?: number } {
  return given === null ? {} : { sequence: given[0], ack: given[1] };
}

function common(spec: FrameSpec, ends: Ends): PortSpec {
  const { sport, dport, headers, options: bytes } = spec;
  const place = spec.fragment === null ? {} : { fragment: spec.fragment };
  return { ...ends, sport, dport, headers, options: bytes, ...place };
}

/** The packet that an error speaks of: what its receiver may have sent. */
function quoted(spec: FrameSpec, ends: Ends): Uint8Array {
  const sent = { from: ends.to, to: ends.from, sport: spec.sport, dport: spec.dport };
  if (spec.number % 11 === 0) return icmpError({ from: ends.to, to: ends.from, inner: udp({ ...sent, ...ends }) });
  if (spec.number % 3 === 0) return tcp({ ...sent, flags: 'A' });
  return spec.number % 3 === 1 ? udp(sent) : echo({ ...sent, id: spec.sport });
}

/** The frame of a spec. `own`: the MAC of the interface that it goes by; ARP and NDP name it too. */
export function frameOf(spec: FrameSpec, ends: Ends, own: Uint8Array): Uint8Array {
  return dressed(
    spec,
    BUILDERS[spec.kind](spec, spec.odd === 'mapped' && v6(ends) ? { ...ends, from: MAPPED } : ends),
    own,
  );
}

/** A built frame as the spec has it sent: its MAC, its ethertype, bent, padded. */
export function dressed(spec: FrameSpec, built: Uint8Array, own: Uint8Array): Uint8Array {
  const mac = spec.mac === 'own' ? own : Uint8Array.of(2, 9, 9, 9, 9, 9);
  const frame = concat(built.subarray(0, 6), mac, built.subarray(12));
  if (spec.odd === 'type') frame.set([0x81, spec.number], 12);
  replace(frame, Uint8Array.of(2, 0, 0, 0, 0, 9), spec.number % 7 === 0 ? mac.with(5, 99) : own);
  const bent = spec.bending === null ? frame : bend(frame, spec.bending);
  return concat(bent, new Uint8Array(spec.padding));
}

function replace(frame: Uint8Array, what: Uint8Array, by: Uint8Array): void {
  for (let at = 12; at + what.length <= frame.length; at++) {
    if (what.every((byte, index) => frame[at + index] === byte)) frame.set(by, at);
  }
}
