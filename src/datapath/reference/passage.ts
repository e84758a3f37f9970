// A packet on its way through conntrack and policy, and what becomes of it.
import type { RuleNumber } from '#compile/plan.ts';
import type { DropReason } from '#datapath/port.ts';
import { ICMP, ICMPV6 } from '#net/protocol.ts';
import type { Direction } from '#policy/model.ts';
import type { Judgement, LegPlace } from './legs.ts';
import type { TcpFlags, Transport, Tuple } from './packet.ts';

/** A frame at a pod's interface. */
export type Injection = {
  readonly interfaceIndex: number;
  readonly hook: 'from-pod' | 'to-pod';
  /** True where this node's own stack made the packet (`ingress_ifindex == 0`). */
  readonly locallyGenerated: boolean;
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
};

export const PASS: Outcome = { verdict: 'pass', reason: 'none', leg: null, egressRule: null, ingressRule: null };

/** A packet after admission. */
export type Passage = {
  readonly tuple: Tuple;
  /** null where the packet has none to tell: not TCP, or a later fragment. */
  readonly flags: TcpFlags | null;
  /** True where this packet may be the first of a connection that replies belong to. */
  readonly opens: boolean;
  readonly ownNode: boolean;
  readonly nowNs: bigint;
};

/** Only a request or a packet of a two-way protocol opens; other ICMP messages have no replies to let in. */
export function passageOf(transport: Transport, from: { readonly ownNode: boolean; readonly nowNs: bigint }): Passage {
  const flags = transport.kind === 'tcp' ? transport.flags : null;
  const asks = transport.kind === 'echo' && !transport.reply;
  const opens = transport.kind === 'tcp' || transport.kind === 'flow' || asks;
  return { ...from, tuple: transport.tuple, flags, opens };
}

/** A later fragment of a datagram whose first one had this tuple. It has no flags and no type: it opens no ICMP flow. */
export function laterPassage(tuple: Tuple, from: { readonly ownNode: boolean; readonly nowNs: bigint }): Passage {
  return { ...from, tuple, flags: null, opens: !isIcmp(tuple) };
}

/** True for ICMP in IPv4 and ICMPv6 in IPv6. */
export function isIcmp(tuple: Tuple): boolean {
  return tuple.protocol === (tuple.source.family === 4 ? ICMP : ICMPV6);
}

/** The outcome with one more leg judged. */
export function withLeg(outcome: Outcome, place: LegPlace, judgement: Judgement): Outcome {
  const rule = place.direction === 'egress' ? { egressRule: judgement.rule } : { ingressRule: judgement.rule };
  if (judgement.reason === 'none') return { ...outcome, ...rule };
  return { ...outcome, ...rule, verdict: 'drop', reason: judgement.reason, leg: place.direction };
}

/** A drop that no leg decided. */
export function dropped(reason: DropReason): Outcome {
  return { ...PASS, verdict: 'drop', reason };
}
