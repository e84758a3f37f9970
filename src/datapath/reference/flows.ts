// Conntrack, then policy: what becomes of a packet that may cross its interface at all (datapath.md §2).
import type { Plan } from '#compile/plan.ts';
import { TCP } from '#net/protocol.ts';
import {
  Conntrack,
  type ConntrackLimits,
  type Entry,
  isEnding,
  isTombstone,
  type Leg,
  NO_LEG,
  newEntry,
  nextState,
  travelOf,
} from './conntrack.ts';
import { type Epochs, type Judgement, judgePort, judgeProtocol, type LegPlace, ownedLegs } from './legs.ts';
import type { TcpFlags, Tuple } from './packet.ts';
import { dropped, type Outcome, PASS, type Passage, withLeg } from './passage.ts';

export type FlowOptions = {
  readonly limits: ConntrackLimits;
  /** Called between judging a packet and writing its entry: where another CPU's update can come in between. */
  readonly beforeStore: () => void;
};

/** What a packet did to the table of connections. */
export type FlowOutcome = { readonly outcome: Outcome; readonly change: 'new' | 'close' | null };

type Legs = { readonly egress: Leg; readonly ingress: Leg };

const NO_LEGS: Legs = { egress: NO_LEG, ingress: NO_LEG };

export class Flows {
  readonly #plan: Plan;
  readonly #epochs: Epochs;
  readonly #conntrack: Conntrack;
  readonly #options: FlowOptions;

  constructor(plan: Plan, epochs: Epochs, options: FlowOptions) {
    this.#plan = plan;
    this.#epochs = epochs;
    this.#options = options;
    this.#conntrack = new Conntrack(options.limits);
  }

  /** Judges a packet whose ports are known. */
  judge(passage: Passage): FlowOutcome {
    const entry = this.#conntrack.find(passage.tuple, passage.nowNs);
    const reopens = entry !== null && isEnding(entry) && !isTombstone(entry) && isOpening(passage.flags);
    return entry === null || reopens ? this.#judgeNew(passage) : this.#judgeKnown(passage, entry);
  }

  /** Judges a later fragment whose first one was not seen: no ports, no connection. */
  judgePortless(tuple: Tuple): Outcome {
    let outcome = PASS;
    for (const place of ownedLegs(this.#plan, tuple)) {
      outcome = withLeg(outcome, place, judgeProtocol(this.#plan, place, tuple));
      if (outcome.verdict === 'drop') break;
    }
    return outcome;
  }

  /** True where the tuple is of a connection that passes now. Refreshes nothing. */
  isLive(tuple: Tuple, nowNs: bigint): boolean {
    const entry = this.#conntrack.find(tuple, nowNs);
    if (entry === null || isTombstone(entry)) return false;
    return ownedLegs(this.#plan, entry.initiator).every((place) => {
      const leg = entry[place.direction];
      if (leg.host && leg.generation === this.#epochs.generationOf(place.own.address)) return true;
      if (this.#epochs.isCurrent(leg, place)) return leg.verdict === 'allow';
      return judgePort(this.#plan, place, entry.initiator).reason === 'none';
    });
  }

  #judgeNew(passage: Passage): FlowOutcome {
    if (passage.tuple.protocol === TCP && !isOpening(passage.flags)) return unchanged(dropped('mid-flow'));
    const { outcome, legs } = this.#judgeLegs(passage, newEntry(passage.tuple, NO_LEGS, passage.nowNs));
    if (outcome.verdict === 'drop' || !passage.opens) return unchanged(outcome);
    return this.#store(passage, newEntry(passage.tuple, legs, passage.nowNs), { outcome, change: 'new' });
  }

  #judgeKnown(passage: Passage, entry: Entry): FlowOutcome {
    const { outcome, legs } = this.#judgeLegs(passage, entry);
    // Tables that can't be followed deny this packet and cut nothing for good.
    if (outcome.reason === 'no-identity' || outcome.reason === 'table-error') return unchanged(outcome);
    const stays = outcome.verdict === 'drop' || passage.flags === null;
    const state = stays ? entry.state : nextState(entry.state, travelOf(entry, passage.tuple), passage.flags);
    const change = state === 'closing' && entry.state !== 'closing' ? 'close' : null;
    return this.#store(passage, { ...entry, ...legs, state, lastSeenNs: passage.nowNs }, { outcome, change });
  }

  #store(passage: Passage, entry: Entry, done: FlowOutcome): FlowOutcome {
    this.#options.beforeStore();
    return this.#conntrack.store(entry, passage.nowNs) ? done : unchanged(dropped('conntrack-full'));
  }

  /** Judges what is not current, always in the initiator's direction; egress first, and no further than a deny. */
  #judgeLegs(passage: Passage, entry: Entry): { readonly outcome: Outcome; readonly legs: Legs } {
    // Read before any table: an update that comes in between makes what is stored here stale, never current.
    const epoch = this.#epochs.now;
    let outcome = PASS;
    let legs: Legs = { egress: entry.egress, ingress: entry.ingress };
    for (const place of ownedLegs(this.#plan, entry.initiator)) {
      const judged = this.#judgeLeg(passage, entry, { place, epoch });
      outcome = withLeg(outcome, place, judged.judgement);
      legs = { ...legs, [place.direction]: judged.leg };
      if (outcome.verdict === 'drop') break;
    }
    return { outcome, legs };
  }

  #judgeLeg(
    passage: Passage,
    entry: Entry,
    at: { readonly place: LegPlace; readonly epoch: number },
  ): { readonly judgement: Judgement; readonly leg: Leg } {
    const { place, epoch } = at;
    const before = entry[place.direction];
    const generation = this.#epochs.generationOf(place.own.address);
    if (isHostLeg(passage, entry, { place, generation })) {
      const leg: Leg = { verdict: 'allow', generation, epoch, rule: null, host: true };
      return { judgement: { reason: 'none', rule: null }, leg };
    }
    if (!before.host && this.#epochs.isCurrent(before, place)) {
      const reason = before.verdict === 'allow' ? 'none' : 'denied-earlier';
      return { judgement: { reason, rule: before.rule }, leg: before };
    }
    const judgement = judgePort(this.#plan, place, entry.initiator);
    const verdict = judgement.reason === 'none' ? 'allow' : 'deny';
    return { judgement, leg: { verdict, generation, epoch, rule: judgement.rule, host: false } };
  }
}

/** Ingress from the endpoint's own node, and the replies to it. Its address alone does not make a packet the node's. */
function isHostLeg(
  passage: Passage,
  entry: Entry,
  at: { readonly place: LegPlace; readonly generation: number },
): boolean {
  if (at.place.direction !== 'ingress') return false;
  if (travelOf(entry, passage.tuple) === 'request') return passage.ownNode;
  return entry.ingress.host && entry.ingress.generation === at.generation;
}

function isOpening(flags: TcpFlags | null): boolean {
  return flags?.syn === true && !flags.ack;
}

function unchanged(outcome: Outcome): FlowOutcome {
  return { outcome, change: null };
}
