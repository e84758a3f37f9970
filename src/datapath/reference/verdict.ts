// The verdict of a flow by a Plan alone: no packets, no connections. What `simulate`, `reach` and `explain` ask.

import { type Decision, decide, identityOf } from '#compile/lookup.ts';
import type { Plan, PlanEndpoint, SetNumber } from '#compile/plan.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { axisPosition } from '#net/axis.ts';
import { combineLegs, type Flow, type FlowVerdict, type LegReason, type LegVerdict } from '#policy/verdict.ts';

const NOT_ENDPOINT: LegVerdict = { verdict: 'allow', rule: null, reason: 'not-endpoint' };
const SELF: LegVerdict = { verdict: 'allow', rule: null, reason: 'self' };
const OWN_NODE: LegVerdict = { verdict: 'allow', rule: null, reason: 'own-node' };
/** A reference that the Plan does not hold: closed. A compiler's Plan has none. */
const BROKEN_DECISION: Decision = { kind: 'broken' };
const BROKEN: LegVerdict = { verdict: 'deny', rule: null, reason: 'default-deny' };

/** What a Plan says of one flow: egress where the source is an endpoint, ingress where the destination is one. */
export function judge(plan: Plan, flow: Flow): FlowVerdict {
  const source = plan.endpoints.get(formatAddress(flow.from)) ?? null;
  const destination = plan.endpoints.get(formatAddress(flow.to)) ?? null;
  if (source !== null && source.pod === destination?.pod) return combineLegs(SELF, SELF);
  const egress =
    source === null ? NOT_ENDPOINT : judgeLeg(plan, flow, { own: source, set: source.egress, peer: flow.to });
  if (destination === null) return combineLegs(egress, NOT_ENDPOINT);
  if (isOwnNode(plan, destination, flow.from)) return combineLegs(egress, OWN_NODE);
  return combineLegs(egress, judgeLeg(plan, flow, { own: destination, set: destination.ingress, peer: flow.from }));
}

/** True where the address belongs to the endpoint's node. */
export function isOwnNode(plan: Plan, endpoint: PlanEndpoint, address: Address): boolean {
  const key = formatAddress(address);
  return plan.nodes.get(endpoint.node)?.some((own) => formatAddress(own) === key) ?? false;
}

type Leg = { readonly own: PlanEndpoint; readonly set: SetNumber; readonly peer: Address };

function judgeLeg(plan: Plan, flow: Flow, leg: Leg): LegVerdict {
  const peer = identityOf(plan, leg.peer);
  const identity = peer === null ? undefined : plan.identities.get(peer);
  const position = axisPosition(flow.protocol, flow.port);
  const isKnown = peer !== null && identity !== undefined;
  const decision = isKnown ? decide(plan, { set: leg.set, peer, position }) : BROKEN_DECISION;
  const verdict = legVerdict(plan, decision, identity?.unknown === true);
  if (verdict.verdict === 'allow' || !isAudited(plan, leg.own.audit, decision)) return verdict;
  return { ...verdict, verdict: 'allow', audited: verdict.verdict };
}

/** True where an endpoint's audit lets pass what was decided, were it a denial. */
export function isAudited(
  plan: Plan,
  audit: PlanEndpoint['audit'],
  decision: Decision | { readonly kind: 'mixed' },
): boolean {
  if (decision.kind !== 'decided') return audit === 'all';
  return audit === 'all' || (audit === 'own' && plan.rules.get(decision.rule)?.own === true);
}

function legVerdict(plan: Plan, decision: Decision, peerUnknown: boolean): LegVerdict {
  if (decision.kind === 'open') return { verdict: 'allow', rule: null, reason: 'open' };
  const info = decision.kind === 'broken' ? undefined : plan.rules.get(decision.rule);
  if (decision.kind === 'broken' || info === undefined) return BROKEN;
  const reason: LegReason = info.source === null ? 'default-deny' : 'rule';
  if (decision.action === 'allow' || !peerUnknown) return { verdict: decision.action, rule: info.id, reason };
  return { verdict: decision.action, rule: info.id, reason: 'peer-unknown' };
}
