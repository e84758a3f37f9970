// Judging a connection's legs on the Plan, and whether an earlier judgement still holds.
import { type Decision, decide, decideProtocol, identityOf } from '#compile/lookup.ts';
import type { Plan, PlanEndpoint, RuleNumber, Step } from '#compile/plan.ts';
import type { DropReason } from '#datapath/port.ts';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { axisPosition } from '#net/axis.ts';
import type { Direction } from '#policy/model.ts';
import type { Leg } from './conntrack.ts';
import type { Tuple } from './packet.ts';
import { isAudited } from './verdict.ts';

/** A leg's verdict now. `reason` is none where it lets pass; `audited`: why it would not, by audit alone. */
export type Judgement = {
  readonly reason: DropReason;
  readonly rule: RuleNumber | null;
  readonly audited?: DropReason;
};

/** Which endpoint a leg belongs to, and who its peer is, in the initiator's direction. */
export type LegPlace = { readonly direction: Direction; readonly own: PlanEndpoint; readonly peer: Address };

/** The legs of a connection whose endpoints are this node's. */
export function ownedLegs(plan: Plan, initiator: Tuple): readonly LegPlace[] {
  const source = plan.endpoints.get(formatAddress(initiator.source));
  const destination = plan.endpoints.get(formatAddress(initiator.destination));
  return [
    ...(source === undefined ? [] : [{ direction: 'egress' as const, own: source, peer: initiator.destination }]),
    ...(destination === undefined ? [] : [{ direction: 'ingress' as const, own: destination, peer: initiator.source }]),
  ];
}

/** The verdict of one leg at the port that the initiator asked for. */
export function judgePort(plan: Plan, place: LegPlace, initiator: Tuple): Judgement {
  const position = axisPosition(initiator.protocol, initiator.policyPort);
  return judgeWith(plan, place, (peer) => decide(plan, { set: place.own[place.direction], peer, position }));
}

/** The verdict of one leg where the port is not known: allowed only where no port would change it. */
export function judgeProtocol(plan: Plan, place: LegPlace, initiator: Tuple): Judgement {
  const { protocol } = initiator;
  return judgeWith(plan, place, (peer) => decideProtocol(plan, { set: place.own[place.direction], peer, protocol }));
}

type Look = (peer: number) => Decision | { readonly kind: 'mixed' };

function judgeWith(plan: Plan, place: LegPlace, look: Look): Judgement {
  const peer = identityOf(plan, place.peer);
  const identity = peer === null ? undefined : plan.identities.get(peer);
  const decision: ReturnType<Look> = peer === null || identity === undefined ? { kind: 'broken' } : look(peer);
  const judged = identity === undefined ? NO_IDENTITY : judgementOf(decision, identity.unknown);
  if (judged.reason === 'none' || !isAudited(plan, place.own.audit, decision)) return judged;
  return { reason: 'none', rule: judged.rule, audited: judged.reason };
}

const NO_IDENTITY: Judgement = { reason: 'no-identity', rule: null };

function judgementOf(decision: ReturnType<Look>, isUnknown: boolean): Judgement {
  if (decision.kind === 'open') return { reason: 'none', rule: null };
  if (decision.kind === 'mixed') return { reason: 'fragment-unknown', rule: null };
  if (decision.kind === 'broken') return { reason: 'table-error', rule: null };
  if (decision.action === 'allow') return { reason: 'none', rule: decision.rule };
  return { reason: isUnknown ? 'peer-unknown' : 'policy', rule: decision.rule };
}

/** Generations of local addresses and the epochs below which a judgement is stale. One monotonic counter for all. */
export class Epochs {
  #now = 0;
  #generation = 0;
  readonly #sets = new Map<number, number>();
  readonly #peers = new Map<AddressKey, number>();
  readonly #endpoints = new Map<AddressKey, number>();
  readonly #generations = new Map<AddressKey, number>();

  /** The epoch to store with a judgement; read it before any table. */
  get now(): number {
    return this.#now;
  }

  /** Makes every judgement by these sets, and with these peers, stale. */
  bump(step: Extract<Step, { kind: 'epoch' }>): void {
    this.#now++;
    for (const set of step.sets) this.#sets.set(set, this.#now);
    for (const peer of step.peers) this.#peers.set(formatAddress(peer), this.#now);
  }

  /** The endpoint may have moved to another set: what was judged for it is stale. */
  moved(address: Address): void {
    this.#endpoints.set(formatAddress(address), ++this.#now);
  }

  /** The address has another owner: nothing judged for the last one holds. */
  replaced(address: Address): void {
    this.#generations.set(formatAddress(address), ++this.#generation);
  }

  generationOf(address: Address): number {
    return this.#generations.get(formatAddress(address)) ?? 0;
  }

  /** True where nothing that the leg's judgement depends on changed since. */
  isCurrent(leg: Leg, place: LegPlace): boolean {
    // What audit let through holds for one packet.
    if (leg.verdict === 'audit') return false;
    const needed = [
      this.#sets.get(place.own[place.direction]),
      this.#peers.get(formatAddress(place.peer)),
      this.#endpoints.get(formatAddress(place.own.address)),
    ];
    return needed.every((epoch) => epoch === undefined || leg.epoch >= epoch);
  }
}
