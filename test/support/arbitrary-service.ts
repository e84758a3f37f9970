// Random Services that change, and packets of the flows that go through them: there, back, and in errors about them.
import fc from 'fast-check';
import type { Backend, Step } from '#compile/plan.ts';
import type { TestPacket } from '#datapath/conformance/harness.ts';
import { icmpError, type PortSpec, sctp, tcp, udp } from '#datapath/packets.ts';
import { type Address, formatAddress, parseAddress } from '#net/address.ts';
import { type Cidr, maskAddress } from '#net/cidr.ts';
import { type Protocol, SCTP, TCP, UDP } from '#net/protocol.ts';
import { maglevPlaces, sortedBackends } from '#service/maglev.ts';
import { arbitraryFrame, type FrameSpec } from './arbitrary-frame.ts';
import { AFFINITIES } from './arbitrary-time.ts';

/** Where Services of random worlds are: one inside a pod block, the others in none. */
export const SERVICE_ADDRESSES: readonly Address[] = ['10.0.3.50', '10.96.0.1', 'fd00:0:0:3::50', 'fd96::1'].map(
  (text) => {
    const address = parseAddress(text);
    if (address === null) throw new Error(`not an address: ${text}`);
    return address;
  },
);

/** A change of one Service as numbers; `backends` are picked from the addresses of the world. Null = it goes. */
export type ServiceSpec = {
  readonly address: number;
  readonly protocol: Protocol;
  readonly port: number;
  readonly value: {
    readonly backends: readonly { readonly at: number; readonly port: number }[];
    readonly affinitySeconds: number | null;
    /** Blocks around addresses of the world; null = all. */
    readonly clients: readonly { readonly at: number; readonly host: number }[] | null;
  } | null;
};

/** Mostly the first pods: those that frames go between. */
const at = fc.oneof({ weight: 3, arbitrary: fc.nat({ max: 5 }) }, { weight: 1, arbitrary: fc.nat({ max: 1000 }) });

export const arbitraryServiceSpec: fc.Arbitrary<ServiceSpec> = fc.record({
  address: fc.nat({ max: SERVICE_ADDRESSES.length - 1 }),
  protocol: fc.constantFrom(TCP, TCP, UDP, UDP, SCTP),
  port: fc.constantFrom(80, 80, 80, 53, 40000),
  value: fc.option(
    fc.record({
      // SCTP reaches only backends with the Service's own port.
      backends: fc.array(fc.record({ at, port: fc.constantFrom(80, 80, 81, 53, 40000) }), { maxLength: 4 }),
      affinitySeconds: fc.constantFrom(null, null, ...AFFINITIES),
      clients: fc.option(fc.array(fc.record({ at, host: fc.constantFrom(0, 0, 1, 2, 8, 24, 31) }), { maxLength: 6 }), {
        freq: 1,
      }),
    }),
    { freq: 6 },
  ),
});

/** The step of a change; `backends` are the addresses of the family from which they are picked. */
export function serviceStep(spec: ServiceSpec, all: readonly Address[]): Extract<Step, { kind: 'service' }> {
  const address = SERVICE_ADDRESSES[spec.address % SERVICE_ADDRESSES.length];
  if (address === undefined) throw new Error('no address');
  const where = { address, protocol: spec.protocol, port: spec.port };
  if (spec.value === null) return { kind: 'service', at: where, value: null };
  const { affinitySeconds, clients } = spec.value;
  const own = all.filter(({ family }) => family === address.family);
  const backends = sortedBackends(
    spec.value.backends.flatMap(({ at, port }): Backend[] => {
      const picked = own[at % own.length];
      return picked === undefined ? [] : [{ address: picked, port }];
    }),
  );
  const affinity = affinitySeconds === null ? {} : { affinitySeconds };
  const blocks = (clients ?? []).flatMap(({ at, host }): Cidr[] => {
    const picked = own[at % own.length];
    if (picked === undefined) return [];
    const length = picked.words.length * 32 - host;
    return [{ address: maskAddress(picked, length), length }];
  });
  const limits = clients === null ? {} : { clients: { blocks, node: true } };
  const value = { ...where, ...affinity, ...limits, backends, places: maglevPlaces(backends) };
  return { kind: 'service', at: where, value };
}

/** A frame, and where it goes rather than anywhere: to a Service, or with a flow that went to one, or began, before. */
export type Sent = {
  readonly frame: FrameSpec;
  readonly toward:
    | { readonly kind: 'service'; readonly index: number; readonly port: number }
    | FlowSpec
    | TalkSpec
    | null;
};

/** What may come next on a TCP connection that a SYN before may have begun, with all in order. */
type TalkSpec = {
  readonly kind: 'talk';
  /** Which, from the newest. */
  readonly index: number;
  /** Its initiator's; the other's. */
  readonly way: 'asked' | 'answered';
};

type FlowSpec = {
  readonly kind: 'flow';
  /** Which, from the newest. */
  readonly index: number;
  /** The pod's own packets; its packets as they go on; the backend's answers; answers as the pod gets them. */
  readonly way: 'asked' | 'carried' | 'answered' | 'told';
  /** An ICMP error that quotes it instead, cut after so many bytes of its transport; type and who sends it. */
  readonly error: { readonly length: number; readonly type: number; readonly from: 'end' | 'anyone' } | null;
};

const arbitraryTalk: fc.Arbitrary<Sent> = fc
  .record({
    frame: arbitraryFrame,
    index: fc.nat({ max: 1 }),
    segment: fc.constantFrom(
      ...([
        ['answered', 'SA'],
        ['answered', 'SA'],
        ['asked', 'A'],
        ['asked', 'A'],
        ['asked', 'PA'],
      ] as const),
      ...([
        ['answered', 'PA'],
        ['answered', 'A'],
        ['asked', 'FA'],
        ['answered', 'FA'],
        ['asked', 'R'],
      ] as const),
    ),
  })
  .map(({ frame, index, segment: [way, flags] }) => ({
    frame: { ...frame, ...IN_ORDER, flags },
    toward: { kind: 'talk', index, way },
  }));

const IN_ORDER = {
  ...{ kind: 'tcp', numbers: null, fragment: null, headers: [], options: new Uint8Array(), bending: null },
  ...{ odd: null, padding: 0, place: 'own', mac: 'own', sender: 'source' },
} as const satisfies Partial<FrameSpec>;

const arbitraryOther: fc.Arbitrary<Sent> = fc.record({
  frame: arbitraryFrame,
  toward: fc.oneof(
    { weight: 3, arbitrary: fc.constant(null) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('service' as const),
        index: fc.nat({ max: 7 }),
        port: fc.constantFrom(80, 80, 80, 53, 40000),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('flow' as const),
        index: fc.nat({ max: 11 }),
        way: fc.constantFrom('asked', 'carried', 'answered', 'answered', 'told'),
        error: fc.option(
          fc.record({
            length: fc.constantFrom(0, 4, 7, 8, 8, 12, 18, 20, 64),
            type: fc.nat({ max: 3 }),
            from: fc.constantFrom('end', 'end', 'anyone'),
          }),
          { freq: 1 },
        ),
      }),
    },
  ),
});

export const arbitrarySent: fc.Arbitrary<Sent> = fc.oneof(
  { weight: 3, arbitrary: arbitraryOther },
  { weight: 1, arbitrary: arbitraryTalk },
);

/** One end's packet: from, to and ports. */
type Leg = { readonly from: Address; readonly to: Address; readonly sport: number; readonly dport: number };

/** A flow that a datapath sent to a backend: as its pod sent it, and as it went on. */
export type ServedFlow = { readonly protocol: Protocol; readonly asked: Leg; readonly carried: Leg };

/** The flow of a packet that went on to somebody else; null where it goes where it was sent. */
export function servedFlow({ hook, frame }: TestPacket, gone: Uint8Array): ServedFlow | null {
  if (hook !== 'from-pod') return null;
  const [asked, carried] = [readLeg(frame), readLeg(gone)];
  if (asked === null || carried === null) return null;
  if (formatAddress(asked.leg.to) === formatAddress(carried.leg.to)) return null;
  return { protocol: asked.protocol, asked: asked.leg, carried: carried.leg };
}

/** The connection that a plain SYN begins; null of any other frame. */
export function begunTalk(frame: Uint8Array, gone: Uint8Array): ServedFlow | null {
  const [asked, carried] = [readLeg(frame), readLeg(gone)];
  const flags = frame[frame[12] === 0x86 ? 67 : 47] ?? 0;
  if (asked?.protocol !== TCP || carried === null || (flags & SYN_OR_ACK) !== SYN) return null;
  return { protocol: TCP, asked: asked.leg, carried: carried.leg };
}

const SYN = 0x02;
const SYN_OR_ACK = 0x12;

/** Of packets without options, extension headers and fragments alone. */
function readLeg(frame: Uint8Array): { readonly protocol: Protocol; readonly leg: Leg } | null {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const v6 = frame[12] === 0x86;
  if (frame.length < (v6 ? 58 : 38) || (!v6 && frame[14] !== 0x45)) return null;
  const words = (start: number): number[] =>
    Array.from({ length: v6 ? 4 : 1 }, (_, i) => view.getUint32(start + 4 * i));
  const protocol = frame[v6 ? 20 : 23] ?? 0;
  const whole = v6 || (view.getUint16(20) & 0x3fff) === 0;
  if (![TCP, UDP, SCTP].includes(protocol) || !whole) return null;
  const addressAt = (start: number): Address => readAddress(words(start));
  const [from, to] = v6 ? [addressAt(22), addressAt(38)] : [addressAt(26), addressAt(30)];
  const ports = v6 ? 54 : 34;
  return { protocol, leg: { from, to, sport: view.getUint16(ports), dport: view.getUint16(ports + 2) } };
}

function readAddress(words: readonly number[]): Address {
  const [a = 0, b = 0, c = 0, d = 0] = words;
  return words.length === 1 ? { family: 4, words: [a] } : { family: 6, words: [a, b, c, d] };
}

/** Who the packet of a flow is from and to, and its bytes, by what the flow was asked as and carried as. */
export function ofFlow(
  flow: ServedFlow,
  { way, error }: Pick<FlowSpec, 'way' | 'error'>,
  spec: FrameSpec,
  anyone: Address,
): Built {
  const leg = legOf(flow, way);
  if (error === null) return { ...leg, frame: packetOf(flow.protocol, spec, leg) };
  const whole = packetOf(flow.protocol, { ...spec, fragment: null, headers: [], options: new Uint8Array() }, leg);
  const inner = whole.subarray(0, 14 + (leg.from.family === 6 ? 40 : 20) + error.length);
  const type = (leg.from.family === 4 ? [3, 3, 11, 12] : [1, 2, 3, 4])[error.type] ?? 3;
  const from = error.from === 'end' ? leg.to : anyone;
  const { headers, options, fragment } = spec;
  const place = fragment === null ? {} : { fragment };
  return { from, to: leg.from, frame: icmpError({ from, to: leg.from, inner, type, headers, options, ...place }) };
}

type Built = { readonly from: Address; readonly to: Address; readonly frame: Uint8Array };

function legOf({ asked, carried }: ServedFlow, way: FlowSpec['way']): Leg {
  const leg = way === 'asked' || way === 'told' ? asked : carried;
  const isThere = way === 'asked' || way === 'carried';
  return isThere ? leg : { from: leg.to, to: leg.from, sport: leg.dport, dport: leg.sport };
}

function packetOf(protocol: Protocol, spec: FrameSpec, leg: Leg): Uint8Array {
  const { headers, options, fragment, numbers, flags } = spec;
  const common: PortSpec = { ...leg, headers, options, ...(fragment === null ? {} : { fragment }) };
  if (protocol === UDP) return udp(common);
  if (protocol === SCTP) return sctp(common);
  return tcp({ ...common, flags, ...(numbers === null ? {} : { sequence: numbers[0], ack: numbers[1] }) });
}
