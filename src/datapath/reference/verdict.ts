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
const BROKEN: LegVerdict = { verdict: 'deny', rule: null, reason: 'default-deny' };

/** What a Plan says of one flow: egress where the source is an endpoint, ingress where the destination is one. */
export function judge(plan: Plan, flow: Flow): FlowVerdict {
  const source = plan.endpoints.get(formatAddress(flow.from)) ?? null;
  const destination = plan.endpoints.get(formatAddress(flow.to)) ?? null;
  if (source !== null && source.pod === destination?.pod) return combineLegs(SELF, SELF);
  const egress = source === null ? NOT_ENDPOINT : judgeLeg(plan, flow, { set: source.egress, peer: flow.to });
  if (destination === null) return combineLegs(egress, NOT_ENDPOINT);
  if (isOwnNode(plan, destination, flow.from)) return combineLegs(egress, OWN_NODE);
  return combineLegs(egress, judgeLeg(plan, flow, { set: destination.ingress, peer: flow.from }));
}

/** True where the address belongs to the endpoint's node. */
export function isOwnNode(plan: Plan, endpoint: PlanEndpoint, address: Address): boolean {
  const key = formatAddress(address);
  return plan.nodes.get(endpoint.node)?.some((own) => formatAddress(own) === key) ?? false;
}

function judgeLeg(plan: Plan, flow: Flow, leg: { readonly set: SetNumber; readonly peer: Address }): LegVerdict {
  const peer = identityOf(plan, leg.peer);
  const identity = peer === null ? undefined : plan.identities.get(peer);
  if (peer === null || identity === undefined) return BROKEN;
  const decision = decide(plan, { set: leg.set, peer, position: axisPosition(flow.protocol, flow.port) });
  return legVerdict(plan, decision, identity.unknown);
}

function legVerdict(plan: Plan, decision: Decision, peerUnknown: boolean): LegVerdict {
  if (decision.kind === 'open') return { verdict: 'allow', rule: null, reason: 'open' };
  const info = decision.kind === 'broken' ? undefined : plan.rules.get(decision.rule);
  if (decision.kind === 'broken' || info === undefined) return BROKEN;
  const reason: LegReason = info.source === null ? 'default-deny' : 'rule';
  if (decision.action === 'allow' || !peerUnknown) return { verdict: decision.action, rule: info.id, reason };
  return { verdict: decision.action, rule: info.id, reason: 'peer-unknown' };
}
