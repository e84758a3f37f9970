// A packet on its way through conntrack and policy, and what becomes of it.
import type { Backend, RuleNumber } from '#compile/plan.ts';
import type { Sender } from '#datapath/conformance/harness.ts';
import type { DropReason } from '#datapath/port.ts';
import { ICMP, ICMPV6, TCP } from '#net/protocol.ts';
import type { Direction } from '#policy/model.ts';
import type { Judgement, LegPlace } from './legs.ts';
import { ICMP_RESPONDER, type TcpSegment, type Transport, type Tuple } from './packet.ts';

/** A frame at a pod's interface. */
export type Injection = {
  readonly interfaceIndex: number;
  readonly hook: 'from-pod' | 'to-pod';
  readonly sender: Sender;
  readonly frame: Uint8Array;
  /** Monotonic clock, nanoseconds. */
  readonly nowNs: bigint;
};

/** What became of a frame. `leg` is the first one that denied. */
export type Outcome = {
  readonly verdict: 'pass' | 'drop';
  readonly reason: DropReason;
  readonly leg: Direction | null;
  readonly egressRule: RuleNumber | null;
  readonly ingressRule: RuleNumber | null;
  /** As it goes on; null = as it came. */
  readonly frame: Uint8Array | null;
  /** Of what passes by audit alone: what would have been, and the first leg that says so. */
  readonly audited: { readonly reason: DropReason; readonly leg: Direction } | null;
  /** What its sender is told of a drop; null = nothing. */
  readonly answer: Uint8Array | null;
  /** It comes back to its sender past the stack. */
  readonly turned: boolean;
};

export const PASS: Outcome = {
  verdict: 'pass',
  reason: 'none',
  leg: null,
  egressRule: null,
  ingressRule: null,
  frame: null,
  audited: null,
  answer: null,
  turned: false,
};

/** A packet after admission. */
export type Passage = {
  readonly tuple: Tuple;
  /** null where the packet has none to tell: not TCP, or a later fragment. */
  readonly segment: TcpSegment | null;
  /** opens: it may be the first of a connection · belongs: it passes with a connection or not at all. */
  readonly kind: 'opens' | 'belongs';
  /** The Service that it was sent to, where `tuple` is of the backend that it goes to. */
  readonly meant: Backend | null;
  readonly hook: Injection['hook'];
  readonly ownNode: boolean;
  /** It could go past the stack: whole, and with hops to go. */
  readonly mayTurn: boolean;
  readonly nowNs: bigint;
};

/** What every passage of one frame has. */
export type From = Pick<Passage, 'hook' | 'ownNode' | 'mayTurn' | 'nowNs'>;

/** The passage of a packet that is whole, or the first fragment of one. */
export function passageOf(transport: Transport, from: From): Passage {
  const { tuple } = transport;
  if (transport.kind === 'echo')
    return { ...from, meant: null, tuple, segment: null, kind: transport.reply ? 'belongs' : 'opens' };
  if (transport.kind !== 'tcp') return { ...from, meant: null, tuple, segment: null, kind: 'opens' };
  const { segment } = transport;
  return { ...from, meant: null, tuple, segment, kind: isOpening(segment) ? 'opens' : 'belongs' };
}

/** A later fragment of a datagram whose first one had this tuple. */
export function laterPassage(tuple: Tuple, from: From): Passage {
  const isReply = isIcmp(tuple) && tuple.sourcePort === ICMP_RESPONDER;
  return { ...from, meant: null, tuple, segment: null, kind: tuple.protocol === TCP || isReply ? 'belongs' : 'opens' };
}

/** True for ICMP in IPv4 and ICMPv6 in IPv6. */
export function isIcmp(tuple: Tuple): boolean {
  return tuple.protocol === (tuple.source.family === 4 ? ICMP : ICMPV6);
}

/** The outcome with one more leg judged. */
export function withLeg(outcome: Outcome, place: LegPlace, judgement: Judgement): Outcome {
  const rule = place.direction === 'egress' ? { egressRule: judgement.rule } : { ingressRule: judgement.rule };
  const reason = judgement.audited;
  if (reason !== undefined)
    return { ...outcome, ...rule, audited: outcome.audited ?? { reason, leg: place.direction } };
  if (judgement.reason === 'none' || outcome.verdict === 'drop') return { ...outcome, ...rule };
  return { ...outcome, ...rule, verdict: 'drop', reason: judgement.reason, leg: place.direction };
}

/** A drop that no leg decided. */
export function dropped(reason: DropReason): Outcome {
  return { ...PASS, verdict: 'drop', reason };
}

/** The first segment of a connection. */
export function isOpening(segment: TcpSegment | null): boolean {
  return segment?.syn === true && !segment.ack;
}
