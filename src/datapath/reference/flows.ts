// Conntrack, then policy: what becomes of a packet that may cross its interface at all (datapath.md §2).
import type { Backend, Plan } from '#compile/plan.ts';
import { formatAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import type { Direction } from '#policy/model.ts';
import {
  Conntrack,
  type ConntrackLimits,
  type Entry,
  type Leg,
  NO_LEG,
  newEntry,
  type StoredAt,
  travelOf,
} from './conntrack.ts';
import { type Epochs, type Judgement, judgePort, judgeProtocol, type LegPlace, ownedLegs } from './legs.ts';
import type { Tuple } from './packet.ts';
import { dropped, isOpening, type Outcome, PASS, type Passage, withLeg } from './passage.ts';
import { isToItself, type Standing, sameBackend } from './services.ts';
import { advance } from './tcp.ts';

export type FlowOptions = {
  readonly limits: ConntrackLimits;
  /** Called between judging a packet and writing its entry: where another CPU's update can come in between. */
  readonly beforeStore: () => void;
};

/** What a packet did to the table of connections. */
export type FlowOutcome = {
  readonly outcome: Outcome;
  readonly change: 'new' | 'close' | null;
  /** The Service that the packet answers for. */
  readonly answers: Backend | null;
};

const ALLOWED: Judgement = { reason: 'none', rule: null };

type Legs = { readonly egress: Leg; readonly ingress: Leg };
type Judged = { readonly outcome: Outcome; readonly legs: Legs };

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
    if (entry === null || this.#isDead(passage, entry)) return this.#judgeNew(passage, 'store');
    const { meant } = passage;
    // A backend spoke first.
    if (meant !== null && !isMeant(entry, passage.tuple, meant)) return this.#judgeNew(passage, 'store');
    if (!isOpening(passage.segment)) return this.#judgeKnown(passage, entry);
    // On a closing or cut connection a SYN is a new one; from the side that was asked it is never this one.
    if (entry.state === 'closing' || entry.tombstone) return this.#judgeNew(passage, 'store');
    if (travelOf(entry, passage.tuple) === 'request') return this.#judgeKnown(passage, entry);
    return this.#judgeNew(passage, entry.state === 'established' ? 'keep' : 'store');
  }

  /** Judges a later fragment whose first one was not seen: no ports, no connection. */
  judgePortless(tuple: Tuple): Outcome {
    return this.#judgeLegs(tuple, judgeProtocol).outcome;
  }

  /** The connection of the tuple, where it passes now; null where it does not. Refreshes nothing. */
  live(tuple: Tuple, nowNs: bigint): Entry | null {
    const entry = this.#conntrack.find(tuple, nowNs);
    return entry !== null && this.#isLive(entry) ? entry : null;
  }

  /** Whether this answers a flow of its sender's with itself, which a Service sent back there. */
  isTurned(tuple: Tuple, nowNs: bigint): boolean {
    const entry = this.#conntrack.find(tuple, nowNs);
    return entry !== null && entry.meant !== null && travelOf(entry, tuple) === 'reply' && !this.#isInherited(entry);
  }

  #isLive(entry: Entry): boolean {
    if (entry.tombstone || this.#isInherited(entry)) return false;
    if (entry.host) return true;
    // What audit let through is judged anew, as the flow's own packets are.
    return ownedLegs(this.#plan, entry.initiator).every((place) => {
      const leg = entry[place.direction];
      if (leg.verdict !== 'audit') return this.#epochs.isCurrent(leg, place);
      return judgePort(this.#plan, place, entry.initiator).reason === 'none';
    });
  }

  /** What stands under a tuple, seen by who wants to send it to this Service. */
  standing(tuple: Tuple, service: Backend, nowNs: bigint): Standing {
    const entry = this.#conntrack.find(tuple, nowNs);
    if (entry !== null && isMeant(entry, tuple, service)) return 'this';
    if (entry === null || entry.tombstone || entry.state === 'closing') return 'none';
    if (entry.meant !== null) return 'another';
    const isAnswerable = tuple.protocol === UDP && !entry.host && travelOf(entry, tuple) === 'reply';
    return isAnswerable ? 'spare' : 'another';
  }

  /** `keep`: an open connection of these ports stands already. */
  #judgeNew(passage: Passage, entry: 'store' | 'keep'): FlowOutcome {
    const { tuple, ownNode } = passage;
    if (passage.kind === 'belongs') return unchanged(dropped('mid-flow'));
    const { outcome, legs } = ownNode ? this.#hostLegs(tuple) : this.#judgeLegs(tuple, judgePort);
    if (outcome.verdict === 'drop' || entry === 'keep') return unchanged(outcome);
    return this.#store(passage, newEntry(tuple, legs, passage), { outcome, change: 'new', answers: null });
  }

  #judgeKnown(passage: Passage, entry: Entry): FlowOutcome {
    if (entry.host || (!entry.tombstone && this.#isCurrent(entry))) return this.#proceed(passage, entry);
    const isCutForGood = entry.tombstone && (entry.initiator.protocol === TCP || this.#stillDenies(entry));
    if (isCutForGood) return unchanged(deniedEarlier(entry));
    const { outcome, legs } = this.#judgeLegs(entry.initiator, judgePort);
    if (outcome.verdict === 'pass') {
      const anew: Entry = { ...entry, ...legs, tombstone: false };
      return this.#proceed(passage, anew, travelOf(entry, passage.tuple) === 'request' ? outcome.audited : null);
    }
    const buried: Entry = { ...entry, ...legs, tombstone: true, lastSeenNs: passage.nowNs };
    return this.#store(passage, buried, { outcome, change: null, answers: null });
  }

  /** `audited`: what there is to tell of it; answers say nothing new. */
  #proceed(passage: Passage, entry: Entry, audited: Outcome['audited'] = null): FlowOutcome {
    const { nowNs } = passage;
    const moved = this.#advance(passage, entry);
    const change = moved.state === 'closing' && entry.state !== 'closing' ? 'close' : null;
    const outcome: Outcome = { ...PASS, egressRule: entry.egress.rule, ingressRule: entry.ingress.rule, audited };
    const answers = travelOf(entry, passage.tuple) === 'reply' ? entry.meant : null;
    return this.#store(passage, { ...moved, lastSeenNs: nowNs }, { outcome, change, answers });
  }

  #advance({ segment, tuple, ownNode }: Passage, entry: Entry): Entry {
    if (segment === null) return entry;
    const believed = ownNode || this.#plan.endpoints.has(formatAddress(tuple.source));
    const outbound = !this.#plan.endpoints.has(formatAddress(tuple.destination));
    return advance(entry, { segment, travel: travelOf(entry, tuple), believed, outbound });
  }

  #store(passage: Passage, entry: Entry, done: FlowOutcome): FlowOutcome {
    this.#options.beforeStore();
    const at = this.#storedAt(passage, entry);
    const isStored = done.change === 'new' ? this.#conntrack.open(entry, at) : this.#conntrack.store(entry, at);
    return isStored ? done : unchanged(dropped('conntrack-full'));
  }

  /** Its holder: the pod that asked; where that is elsewhere, the one that was asked. */
  #storedAt({ nowNs, tuple }: Passage, entry: Entry): StoredAt {
    const holder = ownedLegs(this.#plan, entry.initiator)[0]?.own.pod ?? '';
    const speaker = this.#plan.endpoints.get(formatAddress(tuple.source))?.pod ?? null;
    return { nowNs, holder, speaker };
  }

  /** Judges every leg that is ours, so that an event names both rules; the first that denies is the reason. */
  #judgeLegs(initiator: Tuple, judge: (plan: Plan, place: LegPlace, initiator: Tuple) => Judgement): Judged {
    // Read before any table: an update that comes in between makes what is stored here stale, never current.
    const epoch = this.#epochs.now;
    let outcome = PASS;
    let legs: Legs = { egress: NO_LEG, ingress: NO_LEG };
    for (const place of ownedLegs(this.#plan, initiator)) {
      // A pod may always speak to itself.
      const judgement = isToItself(initiator) ? ALLOWED : judge(this.#plan, place, initiator);
      outcome = withLeg(outcome, place, judgement);
      const passes = judgement.audited === undefined ? 'allow' : 'audit';
      const verdict = judgement.reason === 'none' ? passes : 'deny';
      const generation = this.#epochs.generationOf(place.own.address);
      legs = { ...legs, [place.direction]: { verdict, generation, epoch, rule: judgement.rule } };
    }
    return { outcome, legs };
  }

  /** Ingress from the endpoint's own node is not judged. */
  #hostLegs(initiator: Tuple): Judged {
    const generation = this.#epochs.generationOf(initiator.destination);
    const ingress: Leg = { verdict: 'allow', generation, epoch: this.#epochs.now, rule: null };
    return { outcome: PASS, legs: { egress: NO_LEG, ingress } };
  }

  /** What the own node opened passes only while it still comes from the node itself, and the other way round. */
  #isDead(passage: Passage, entry: Entry): boolean {
    if (this.#isInherited(entry)) return true;
    const asks = passage.hook === 'to-pod' && travelOf(entry, passage.tuple) === 'request';
    return asks && passage.ownNode !== entry.host;
  }

  /** What an earlier owner of an address opened is dead for its next owner. */
  #isInherited(entry: Entry): boolean {
    return ownedLegs(this.#plan, entry.initiator).some(
      (place) => entry[place.direction].generation !== this.#epochs.generationOf(place.own.address),
    );
  }

  /** What one leg denies is denied, whatever is to be said of the other: that may be audited, and is never current then. */
  #stillDenies(entry: Entry): boolean {
    const places = ownedLegs(this.#plan, entry.initiator);
    const holds = (direction: Direction): boolean =>
      places.every((place) => place.direction !== direction || this.#epochs.isCurrent(entry[direction], place));
    return (['egress', 'ingress'] as const).some(
      (direction) => entry[direction].verdict === 'deny' && holds(direction),
    );
  }

  #isCurrent(entry: Entry): boolean {
    return ownedLegs(this.#plan, entry.initiator).every((place) =>
      this.#epochs.isCurrent(entry[place.direction], place),
    );
  }
}

/** The packet's own side began the flow, and meant this Service. */
function isMeant(entry: Entry, tuple: Tuple, service: Backend): boolean {
  return entry.meant !== null && sameBackend(entry.meant, service) && travelOf(entry, tuple) === 'request';
}

function deniedEarlier(entry: Entry): Outcome {
  const leg = entry.egress.verdict === 'deny' ? 'egress' : 'ingress';
  const rules = { egressRule: entry.egress.rule, ingressRule: entry.ingress.rule };
  return { ...dropped('denied-earlier'), leg, ...rules };
}

function unchanged(outcome: Outcome): FlowOutcome {
  return { outcome, change: null, answers: null };
}
