// Verdicts: what happens to a connection, which leg decided, by which rule.
import type { Address } from '#net/address.ts';
import type { Protocol } from '#net/protocol.ts';
import type { Direction, RuleId } from './model.ts';

export type Verdict = 'deny' | 'allow' | 'reject';

/**
 * Why a leg has its verdict.
 * rule: a rule matched · default-deny: an end of tier · open: no policy isolates this end · not-endpoint: this end is
 * no pod of ours · self: a pod to its own address · own-node: from the pod's node · peer-unknown: an address in a pod
 * block that no known pod has, where a rule could have matched some pod.
 */
export type LegReason = 'rule' | 'default-deny' | 'open' | 'not-endpoint' | 'self' | 'own-node' | 'peer-unknown';

/**
 * One end's verdict. `rule` is null where no rule (not even a synthetic one) decided. `audited`: what it would be were it
 * enforced; then it is allow, by audit alone, and `rule` and `reason` are those of the denial.
 */
export type LegVerdict = {
  readonly verdict: Verdict;
  readonly rule: RuleId | null;
  readonly reason: LegReason;
  readonly audited?: Exclude<Verdict, 'allow'>;
};

/** A connection as policy sees it: after DNAT, before SNAT. For ICMP, `port` is type << 8 | code. */
export type Flow = {
  readonly from: Address;
  readonly to: Address;
  readonly protocol: Protocol;
  readonly port: number;
};

export type FlowVerdict = {
  readonly verdict: Verdict;
  readonly egress: LegVerdict;
  readonly ingress: LegVerdict;
  /** The first leg that denies or rejects; null where the flow is allowed. */
  readonly decidedBy: Direction | null;
};

/** A connection needs egress at its source AND ingress at its destination. */
export function combineLegs(egress: LegVerdict, ingress: LegVerdict): FlowVerdict {
  if (egress.verdict !== 'allow') return { verdict: egress.verdict, egress, ingress, decidedBy: 'egress' };
  if (ingress.verdict !== 'allow') return { verdict: ingress.verdict, egress, ingress, decidedBy: 'ingress' };
  return { verdict: 'allow', egress, ingress, decidedBy: null };
}

/** The leg that would deny or reject what passes by audit alone, the first of them; null for any other flow. */
export function auditedBy({ verdict, egress, ingress }: FlowVerdict): Direction | null {
  if (verdict !== 'allow') return null;
  return egress.audited !== undefined ? 'egress' : ingress.audited !== undefined ? 'ingress' : null;
}
