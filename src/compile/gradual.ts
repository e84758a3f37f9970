// World events in, steps out, for those who must not be held up. A change whose selectors move many addresses waits
// until they are introduced, some addresses at a time; changes of other things go ahead of it.
import { LOOKS, type Waiting } from '#identity/waiting.ts';
import type { Address } from '#net/address.ts';
import type { Policy } from '#policy/model.ts';
import type { PodKey, WorldEvent } from '#policy/world.ts';
import type { ApplyOptions, Compiler, Foreseen } from './compiler.ts';
import type { Plan, Step } from './plan.ts';
import type { Write } from './recorder.ts';
import type { Shortage } from './shortage.ts';
import { nextTurn, ownerOf, type Turn } from './turns.ts';

/** So many addresses move with the change itself. */
const FEW = 128;
/** So often a change that waits may be joined by later ones that make it wait longer. */
const MOST_JOINS = 8;

/** A change that waits, with those that came after it and speak of the same things. */
type Held = Turn & {
  /** The latest form of each thing, by what it is. */
  readonly events: Map<string, WorldEvent>;
  /** The first revision that it is part of. */
  revision: number;
  foreseen: Foreseen[];
  /** How often later changes joined it. */
  joins: number;
  /** Its turn has come. */
  started: boolean;
  /** It is a policy whose rules are in force already, as far as its selectors are introduced. */
  early: boolean;
};

type Change = { readonly events: readonly WorldEvent[]; readonly revision: number };

/** Changes of which some classes are behind, and the first revision of these. */
type Behind = { readonly events: (readonly WorldEvent[])[]; readonly revision: number };

/** What a slice does: one of each takes another time for as many. */
export type Work = 'classes' | 'selectors' | 'search' | 'moves' | 'twins';

export class GradualCompiler {
  readonly #compiler: Compiler;
  readonly #few: number;
  readonly #looks: number;
  /** What counts while the compiler is behind. */
  #behind: Behind | null = null;
  /** In the order of their turns. The first is being introduced. */
  #held: Held[] = [];
  #twins: Waiting | null = null;
  #revision = 0;
  /** Something is known that comes into force with the next batch, whatever that says. */
  #isNoted = true;
  /** The last slice was one of classes that are behind. */
  #catchesUp = false;

  /** `looks`: at how many places it is looked in the time in which one address moves. */
  constructor(compiler: Compiler, few: number = FEW, looks: number = LOOKS) {
    this.#compiler = compiler;
    this.#few = few;
    this.#looks = looks;
  }

  get plan(): Plan {
    return this.#compiler.plan;
  }

  get policies(): number {
    return this.#compiler.policies;
  }

  get identities(): number {
    return this.#compiler.identities;
  }

  /** The pod that owns an address as things are known now; null where none does. */
  podAt(address: Address): PodKey | null {
    return this.#compiler.podAt(address);
  }

  get shortages(): readonly Shortage[] {
    return this.#compiler.shortages;
  }

  /** The latest revision that is in force with all before it. */
  get revision(): number {
    const behind = this.#following?.revision ?? Number.POSITIVE_INFINITY;
    return this.#held.reduce(
      (least, { revision }) => Math.min(least, revision - 1),
      Math.min(this.#revision, behind - 1),
    );
  }

  /** Changes that are not in force yet, the next one first. */
  get held(): readonly (readonly WorldEvent[])[] {
    return this.#held.map(({ events }) => [...events.values()]);
  }

  /** Changes that are in force for some peers already, and not for others. */
  get behind(): readonly (readonly WorldEvent[])[] {
    return this.#following?.events ?? [];
  }

  get #following(): Behind | null {
    return this.#compiler.isBehind ? this.#behind : null;
  }

  /** What is in force is to be followed: by classes, and by identities that have selectors which nothing uses any more. */
  get #isLate(): boolean {
    return this.#compiler.isBehind || this.#compiler.isBurying;
  }

  /** True while there is something for `advance`. */
  get isBusy(): boolean {
    return this.#isLate || this.#held.length > 0 || this.#twins !== null;
  }

  /** A part of a list of everything. It says all that was held back, so that waits no longer. */
  note(events: readonly WorldEvent[]): void {
    for (const held of this.#held) this.#forget(held);
    this.#held = [];
    this.#isNoted = true;
    this.#compiler.note(events);
  }

  /** The deletion of each thing that it was told of. */
  *known(): Generator<WorldEvent> {
    yield* this.#compiler.known();
    for (const { events } of this.#held) for (const event of events.values()) yield { ...event, value: null };
  }

  /**
   * Takes changes that belong together. They are in force with the steps, or once `advance` has come so far. Those of a
   * first list are many: `write` gets the first of them in parts.
   */
  apply(all: readonly WorldEvent[], revision: number, write?: Write): readonly Step[] {
    this.#revision = revision;
    const events = this.#news(all);
    if (events.length === 0 && !this.#isNoted) return [];
    this.#isNoted = false;
    const named = events.map((event) => ({ event, name: nameOf(event) }));
    const joined = this.#held.filter((held) => this.#concerns(held, named));
    const [first, ...others] = joined;
    if (first !== undefined) return this.#join(first, others, events);
    const foreseen = this.#foresee(events);
    if (foreseen === null || (foreseen.waiting.left <= this.#few && this.#underWay(foreseen).length === 0)) {
      const seen = foreseen === null ? [] : [foreseen];
      return this.#settle({ events, revision }, write === undefined ? { foreseen: seen } : { foreseen: seen, write });
    }
    const changed = new Map(events.map((event) => [nameOf(event), event]));
    const [event] = events;
    const { place, ...turn } = nextTurn(this.#held, event === undefined ? '' : ownerOf(event));
    const fresh = { joins: 0, started: false, early: false };
    this.#held.splice(place, 0, { ...turn, events: changed, revision, foreseen: [foreseen], ...fresh });
    return [];
  }

  /** What `advance` does next. */
  get next(): Work {
    if (this.#isCatchingUpNext) return this.#compiler.isBehind ? 'classes' : 'selectors';
    const [held] = this.#held;
    const waiting = held === undefined ? this.#twins : held.foreseen.find((one) => one.waiting.left > 0)?.waiting;
    if (waiting?.isSearching) return 'search';
    return held === undefined ? 'twins' : 'moves';
  }

  /** In turn: who changes many classes again and again keeps nobody waiting. */
  get #isCatchingUpNext(): boolean {
    return this.#isLate && (this.#held.length === 0 || !this.#catchesUp);
  }

  /** Does about so much of what is next: of addresses, classes, identities. Or brings into force what they were waited for. */
  advance(most: number): readonly Step[] {
    const [held] = this.#held;
    this.#catchesUp = this.#isCatchingUpNext;
    if (this.#catchesUp) return this.#catchUp(most);
    if (held === undefined) return this.#mergeSome(most);
    if (!held.started) {
      held.started = true;
      const policy = this.#additionOf(held);
      held.early = policy !== null;
      if (policy !== null)
        return this.#applyNow([earlyForm(policy)], {}, { events: [...held.events.values()], revision: held.revision });
    }
    const next = held.foreseen.find(({ waiting }) => waiting.left > 0);
    if (next !== undefined) return this.#compiler.advance(next.waiting, most, this.#looks);
    return this.#release(held);
  }

  #catchUp(most: number): readonly Step[] {
    const steps = this.#compiler.isBehind ? this.#compiler.catchUp(most) : this.#compiler.bury(most);
    this.#lookForTwins();
    return steps;
  }

  #mergeSome(most: number): readonly Step[] {
    const twins = this.#twins;
    if (twins === null) return [];
    const steps = this.#compiler.advance(twins, most, this.#looks);
    if (twins.left === 0) this.#twins = null;
    return steps;
  }

  #foresee(events: readonly WorldEvent[]): Foreseen | null {
    return this.#compiler.foresee(events, this.#few * this.#looks);
  }

  /** Adds changes to one that waits, since they speak of the same things. */
  #join(held: Held, others: readonly Held[], events: readonly WorldEvent[]): readonly Step[] {
    const later = [...others.flatMap((other) => [...other.events.values()]), ...events];
    for (const event of later) held.events.set(nameOf(event), event);
    held.revision = others.reduce((least, { revision }) => Math.min(least, revision), held.revision);
    this.#held = this.#held.filter((one) => !others.includes(one));
    const foreseen = this.#foresee([...held.events.values()]);
    const before = [held, ...others].flatMap((one) => one.foreseen);
    held.foreseen = foreseen === null ? before : [...before, foreseen];
    held.joins++;
    return foreseen === null || this.#isOverdue(held) ? this.#release(held) : [];
  }

  /** Who changes a thing again and again would keep those waiting who come after it, and for ever. */
  #isOverdue(held: Held): boolean {
    return held.joins > MOST_JOINS || (held === this.#held[0] && this.#held.length > 1);
  }

  /** Brings a change into force whose selectors are introduced. */
  #release(held: Held): readonly Step[] {
    this.#held = this.#held.filter((one) => one !== held);
    const events = [...held.events.values()];
    // A policy that nobody thought of when the change came may use what the next ones are to introduce.
    const latest = this.#foresee(events);
    return this.#settle(
      { events, revision: held.revision },
      {
        foreseen: latest === null ? held.foreseen : [...held.foreseen, latest],
        waiting: latest === null ? [] : this.#underWay(latest),
        judge: held.early ? 'all' : 'changed',
      },
    );
  }

  /** Without pods that are nobody to policy and were nobody: most changes are of pods that begin or have ended. */
  #news(events: readonly WorldEvent[]): readonly WorldEvent[] {
    // Who comes and goes in one batch was somebody in between.
    const met = new Set<string>();
    return events.filter((event) => {
      const name = nameOf(event);
      const isNews =
        this.#compiler.isNews(event) || met.has(name) || this.#held.some(({ events: held }) => held.has(name));
      if (isNews) met.add(name);
      return isNews;
    });
  }

  #settle(change: Change, how: ApplyOptions): readonly Step[] {
    const steps = this.#applyNow(change.events, how, change);
    this.#lookForTwins();
    return steps;
  }

  /** `change`: what the events are a part of. */
  #applyNow(events: readonly WorldEvent[], how: ApplyOptions, change: Change): readonly Step[] {
    const caughtUp = this.behind.length < MOST_JOINS ? [] : this.#compiler.catchUp(Number.POSITIVE_INFINITY);
    const before = this.#following;
    const steps = [...caughtUp, ...this.#compiler.apply(events, { ...how, twins: 'leave', most: this.#few })];
    if (!this.#compiler.fellBehind) return steps;
    const revision = Math.min(change.revision, before?.revision ?? change.revision);
    this.#behind = { events: [...(before?.events ?? []), change.events], revision };
    return steps;
  }

  #lookForTwins(): void {
    if (!this.isBusy) this.#twins = this.#compiler.twins();
  }

  #forget({ foreseen }: Held): void {
    for (const one of foreseen) this.#compiler.forget(one);
  }

  /** True where changes must wait for one that waits: they change the same, or a pod that must not start without it. */
  #concerns({ events }: Held, later: readonly { readonly event: WorldEvent; readonly name: string }[]): boolean {
    return later.some(({ event, name }) => events.has(name) || this.#startsWithout(events.values(), event));
  }

  #startsWithout(held: Iterable<WorldEvent>, event: WorldEvent): boolean {
    if (event.kind !== 'pod' || event.value === null) return false;
    const pod = event.value;
    const selects = (policy: Policy): boolean => this.#compiler.wouldBegin(pod, policy);
    return [...held].some((one) => one.kind === 'policy' && one.value !== null && selects(one.value));
  }

  /** Those who wait for some of the same selectors, among what other changes introduce. */
  #underWay({ atoms }: Foreseen): readonly Waiting[] {
    const found: Waiting[] = [];
    const isIntroducedBy = ({ introduces }: Waiting): boolean => atoms.some(({ number }) => introduces.has(number));
    for (const { foreseen } of this.#held) {
      for (const { waiting } of foreseen) {
        if (waiting.introduces.size > 0 && isIntroducedBy(waiting) && waiting.left > 0) found.push(waiting);
      }
    }
    return found;
  }

  /** The policy, where the change is no more than that it is added, and all it does is allow. */
  #additionOf({ events }: Held): Policy | null {
    const [event, ...others] = events.values();
    if (event?.kind !== 'policy' || event.value === null || others.length > 0) return null;
    const { egress, ingress } = event.value;
    const allows = [...egress, ...ingress].every(({ action }) => action === 'allow');
    return allows && !this.#compiler.isActive(event.key) ? event.value : null;
  }
}

/** What a policy allows, and nothing that it denies by isolating. */
function earlyForm(policy: Policy): WorldEvent {
  const isolates = { egress: false, ingress: false };
  return { kind: 'policy', key: policy.key, value: { ...policy, isolates } };
}

function nameOf(event: WorldEvent): string {
  return `${event.kind} ${'key' in event ? event.key : event.name}`;
}
