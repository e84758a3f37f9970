// What the evidence of one attempt proves. Pure: a verdict is never guessed from silence alone.
import type { FlowEvent, NamedRule } from '#agent/protocol.ts';
import type { Direction, RuleId } from '#policy/model.ts';
import type { Verdict } from '#policy/verdict.ts';
import type { Outcome } from './probe-attempt.ts';

/** How long nothing may come back before a drop event counts as a denial. */
export const SILENCE_MS = 60;

/** What was seen of one attempt. */
export type Evidence = {
  readonly outcome: Outcome;
  /** Kernel events with exactly this attempt's tuple. */
  readonly events: readonly FlowEvent[];
  /** Nodes whose datapath judges the source, the destination; null where the end is no endpoint, or is not judged. */
  readonly egressNode: string | null;
  readonly ingressNode: string | null;
  readonly elapsedMs: number;
};

/** A verdict that packets and kernel events agree on. */
export type Proof = {
  readonly kind: 'proved';
  readonly verdict: Verdict;
  readonly egress: NamedRule | null;
  readonly ingress: NamedRule | null;
  readonly decidedBy: Direction | null;
  /** The first leg that denies what passed by audit alone. */
  readonly audited: Direction | null;
  /** The kernel's drop reason where it is not a plain policy verdict. */
  readonly reason: string | null;
};

/** `missing`: not yet, and why it would be an error if nothing more came. `contradiction`: no more can help. */
export type Judgement =
  | Proof
  | { readonly kind: 'missing'; readonly what: string }
  | { readonly kind: 'contradiction'; readonly what: string };

/** Judges an attempt by what is known now. */
export function judgeEvidence(evidence: Evidence): Judgement {
  const { outcome, events } = evidence;
  const drop = events.find((event) => event.kind === 'drop') ?? null;
  if (drop !== null) return judgeDrop(evidence, drop);
  switch (outcome.kind) {
    case 'echoed':
      return judgeEcho(evidence);
    case 'failed':
      // The event may be on its way still: it travels slower than the refusal.
      return { kind: 'missing', what: `${outcome.code}, and no drop event ${seen(events)}` };
    case 'silent':
      return { kind: 'missing', what: `no answer and no drop event ${seen(events)}` };
  }
}

function judgeEcho(evidence: Evidence): Judgement {
  const silent = silentNode(evidence, [evidence.egressNode, evidence.ingressNode]);
  if (silent !== null) return { kind: 'missing', what: `an answer, but no event from node ${silent}` };
  return proof(evidence, 'allow', null);
}

function judgeDrop(evidence: Evidence, drop: FlowEvent): Judgement {
  const { outcome, elapsedMs } = evidence;
  if (outcome.kind === 'echoed') return { kind: 'contradiction', what: `an answer, and a drop event (${drop.reason})` };
  if (drop.reason !== 'policy' && drop.reason !== 'peer-unknown') {
    return { kind: 'contradiction', what: `node ${drop.node} dropped it as ${drop.reason}` };
  }
  if (drop.leg === null) return { kind: 'contradiction', what: `node ${drop.node} dropped it by no leg` };
  const deciding = drop.leg === 'egress' ? drop.egress : drop.ingress;
  if (deciding === null) return { kind: 'contradiction', what: `node ${drop.node} dropped it by no rule` };
  const rejected = deciding.action === 'reject';
  if (outcome.kind === 'failed' && !rejected)
    return { kind: 'contradiction', what: `${outcome.code} after a silent drop` };
  if (rejected && outcome.kind === 'silent')
    return { kind: 'missing', what: 'a drop by a rule that rejects, and no refusal' };
  if (elapsedMs < SILENCE_MS) return { kind: 'missing', what: 'a moment of silence' };
  const judged = drop.leg === 'egress' ? [evidence.egressNode] : [evidence.egressNode, evidence.ingressNode];
  const silent = silentNode(evidence, judged);
  if (silent !== null) return { kind: 'missing', what: `a drop event, but none from node ${silent}` };
  return proof(evidence, rejected ? 'reject' : 'deny', drop);
}

/** The first of these nodes that said nothing. */
function silentNode(evidence: Evidence, nodes: readonly (string | null)[]): string | null {
  return nodes.find((node) => node !== null && !evidence.events.some((event) => event.node === node)) ?? null;
}

function proof(evidence: Evidence, verdict: Verdict, drop: FlowEvent | null): Proof {
  const egress = evidence.events.find((event) => event.egress !== null)?.egress ?? null;
  const ingress = evidence.events.find((event) => event.ingress !== null)?.ingress ?? null;
  // A leg behind the one that denied was not judged by this packet, whatever an event carries.
  const shown =
    drop === null
      ? { egress, ingress }
      : drop.leg === 'egress'
        ? { egress: drop.egress, ingress: null }
        : { egress, ingress: drop.ingress };
  const audits = evidence.events.filter(({ kind }) => kind === 'audit').sort(byLeg);
  const audited = drop === null ? (audits[0] ?? null) : null;
  const said = drop ?? audited;
  const reason = said === null || said.reason === 'policy' ? null : said.reason;
  return { kind: 'proved', verdict, ...shown, decidedBy: drop?.leg ?? null, audited: audited?.leg ?? null, reason };
}

/** Egress first. */
function byLeg(a: FlowEvent, b: FlowEvent): number {
  return Number(a.leg !== 'egress') - Number(b.leg !== 'egress');
}

function seen(events: readonly FlowEvent[]): string {
  const kinds = events.map((event) => `${event.kind} on ${event.node}`);
  return kinds.length === 0 ? '(no event at all)' : `(only: ${kinds.join(', ')})`;
}

/** One connection that was tried, by packets or by simulation, as JSON shows it. */
export type ProbeRow = {
  readonly from: string;
  readonly to: string;
  /** `TCP`, `UDP`, `SCTP`, `ICMP`. */
  readonly protocol: string;
  /** Of an ICMP echo request type × 256 + code. */
  readonly port: number;
  readonly verdict: Verdict;
  readonly rule: { readonly egress: RuleId | null; readonly ingress: RuleId | null };
  readonly decidedBy: Direction | null;
  /** It passes by audit alone: the first leg that denies it. */
  readonly audited?: Direction;
  readonly reason?: string;
};
