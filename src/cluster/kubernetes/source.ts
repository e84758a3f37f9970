// A cluster as its API server tells it: a reflector for each kind, and world events for whoever follows.

import type { ClusterEvent } from '#policy/world.ts';
import { type Follower, PAGE, type Source, type Tell, type WatchState } from '../follower.ts';
import type { NoteEvent } from './event-note.ts';
import { type ObjectKind, type Reading, readObject } from './kinds.ts';
import { LiveWorld } from './live-world.ts';
import { NewPods } from './new-pods.ts';
import { PolicyCheck } from './policy-check.ts';
import { REFLECTOR_DEFAULTS, Reflector, type ReflectorOptions, type Requests } from './reflector.ts';
import { EVENT_TIMES, type EventTimes, SourceEvents } from './source-events.ts';

/** So many findings are told at once. */
const MOST_FINDINGS = 20;

/** Who is told. */
export type SourceAudience = {
  readonly kinds: readonly ObjectKind[];
  /** The node whose pods are told of only after the policies that were there before them. */
  readonly node: string;
  readonly follower: Follower;
  readonly tell: Tell;
  /** Is told what is worth an Event. */
  readonly note: NoteEvent;
};

/**
 * Nothing is applied before every kind was listed. From then on, a kind that can't be followed stays as it was last
 * known, and `problem` says so.
 */
export class KubernetesSource implements Source {
  readonly #follower: Follower;
  readonly #tell: Tell;
  readonly #requests: Requests;
  readonly #options: ReflectorOptions;
  readonly #world: LiveWorld;
  readonly #events: SourceEvents;
  readonly #newPods: NewPods;
  readonly #check: PolicyCheck;
  readonly #reflectors = new Map<ObjectKind, Reflector<Reading>>();
  /** Kinds that select pods are listed after all others: so they are at least as new as each pod of the first list. */
  readonly #last: readonly ObjectKind[];
  readonly #kinds: readonly ObjectKind[];
  readonly #unlisted: Set<ObjectKind>;
  /** Why a kind is not known as it is now. */
  readonly #problems = new Map<ObjectKind, string>();
  /** Why new pods of a namespace wait. */
  readonly #waits = new Map<string, string>();
  /** How often each kind was listed, and when it was last heard of. */
  readonly #heard = new Map<ObjectKind, { lists: number; atMs: number }>();
  #pending: ClusterEvent[] = [];
  #flush: NodeJS.Immediate | null = null;
  #revision = 0;
  #closed = false;

  constructor(
    requests: Requests,
    { kinds, node, follower, tell, note }: SourceAudience,
    options: ReflectorOptions = REFLECTOR_DEFAULTS,
    times: EventTimes = EVENT_TIMES,
  ) {
    this.#requests = requests;
    this.#options = options;
    this.#last = kinds.filter(({ selecting }) => selecting !== null);
    this.#kinds = kinds;
    this.#unlisted = new Set(kinds);
    this.#follower = follower;
    this.#tell = tell;
    this.#world = new LiveWorld(tell);
    const problemOf = (kind: ObjectKind): string | null => {
      const why = this.#problems.get(kind);
      return why === undefined ? null : this.#problemText(kind, why);
    };
    this.#events = new SourceEvents({ node, note, times, problemOf, world: this.#world });
    this.#newPods = new NewPods(node);
    this.#check = new PolicyCheck(requests, options.pageSize, {
      waiting: (namespace) => this.#newPods.waitingIn(namespace),
      known: (kind, namespace) => this.#world.digests(kind, namespace),
      admit: (pods) => this.#tellOf(this.#newPods.admit(pods)),
      state: (namespace, problem) => this.#setWait(namespace, problem),
      stalled: (kind) => this.#reflectors.get(kind)?.giveUp(new Error('its watch has not told what a list has')),
    });
    this.#start(kinds.filter(({ selecting }) => selecting === null));
  }

  get problem(): string | null {
    const unlisted = [...this.#unlisted].filter((kind) => !this.#problems.has(kind));
    const waiting = unlisted.length === 0 ? [] : [`not listed yet: ${unlisted.map(({ kind }) => kind).join(', ')}`];
    const kinds = [...this.#problems].map(([kind, why]) => this.#problemText(kind, why));
    const said = [...kinds, ...waiting, ...this.waits];
    return said.length === 0 ? null : said.join('; ');
  }

  get waits(): readonly string[] {
    return [...this.#waits].map(([namespace, why]) => waitText(namespace, why));
  }

  get watches(): readonly WatchState[] {
    return this.#kinds.map((kind) => {
      const { lists = 0, atMs = null } = this.#heard.get(kind) ?? {};
      const unlisted = this.#unlisted.has(kind) ? 'it is not listed yet' : null;
      const why = this.#problems.get(kind);
      const problem = why === undefined ? unlisted : this.#problemText(kind, why);
      const restarts = Math.max(0, lists - 1);
      return { kind: kind.kind, problem, restarts, heardMs: atMs, objects: this.#world.count(kind) };
    });
  }

  get findings(): readonly string[] {
    const all = [...this.#world.findings()];
    const more = all.length - MOST_FINDINGS;
    return more > 0 ? [...all.slice(0, MOST_FINDINGS), `${more} more`] : all;
  }

  close(): void {
    this.#closed = true;
    if (this.#flush !== null) clearImmediate(this.#flush);
    this.#check.close();
    this.#events.close();
    for (const reflector of this.#reflectors.values()) reflector.close();
  }

  #start(kinds: readonly ObjectKind[]): void {
    for (const kind of kinds) {
      this.#reflectors.set(kind, new Reflector(this.#requests, kind, this.#listener(kind), this.#options));
    }
  }

  #listener(kind: ObjectKind): ConstructorParameters<typeof Reflector<Reading>>[2] {
    return {
      read: (object) => {
        const reading = readObject(kind, object);
        if (reading === null) throw new Error(`${kind.path}: an object has no name`);
        return reading;
      },
      list: (readings) => {
        if (this.#closed) return;
        this.#hear(kind, 1);
        this.#take(this.#world.list(kind, readings));
        for (const { id } of readings) this.#events.read(kind, id);
        this.#listed(kind);
        if (kind.selecting !== null) this.#check.news(null);
      },
      set: (reading) => {
        if (this.#closed) return;
        this.#hear(kind, 0);
        this.#take(this.#world.set(kind, reading));
        this.#events.read(kind, reading.id);
        if (kind.selecting !== null) this.#check.news(namespaceOf(reading));
      },
      gone: (reading) => {
        if (this.#closed) return;
        this.#hear(kind, 0);
        this.#take(this.#world.delete(kind, reading.id));
        this.#events.read(kind, reading.id);
        if (kind.selecting !== null) this.#check.news(namespaceOf(reading));
      },
      state: (problem) => this.#setProblem(kind, problem),
    };
  }

  #hear(kind: ObjectKind, lists: number): void {
    this.#heard.set(kind, { lists: (this.#heard.get(kind)?.lists ?? 0) + lists, atMs: Date.now() });
  }

  #take(events: readonly ClusterEvent[]): void {
    this.#tellOf(events.flatMap((event) => this.#newPods.follow(event)));
    this.#lookForThem();
  }

  /** What is listed is known as a whole first. */
  #lookForThem(): void {
    if (this.#unlisted.size === 0) for (const namespace of this.#newPods.namespaces) this.#check.look(namespace);
  }

  #tellOf(events: readonly ClusterEvent[]): void {
    if (events.length === 0) return;
    if (this.#revision === 0) {
      for (let from = 0; from < events.length; from += PAGE) this.#follower.note(events.slice(from, from + PAGE));
      return;
    }
    for (const event of events) this.#pending.push(event);
    // What came in one piece belongs together.
    this.#flush ??= setImmediate(() => this.#apply());
  }

  #listed(kind: ObjectKind): void {
    if (!this.#unlisted.delete(kind)) return;
    if (this.#unlisted.size === 0) {
      this.#apply();
      this.#lookForThem();
    } else if (this.#unlisted.size === this.#last.length) {
      this.#newPods.keep();
      this.#start(this.#last);
    }
  }

  #apply(): void {
    this.#flush = null;
    const events = this.#pending;
    this.#pending = [];
    this.#revision++;
    this.#follower.apply({ events, revision: this.#revision });
  }

  #setProblem(kind: ObjectKind, problem: string | null): void {
    const before = this.#problems.get(kind) ?? null;
    if (this.#closed || before === problem) return;
    if (problem === null) this.#problems.delete(kind);
    else this.#problems.set(kind, problem);
    this.#events.unknown(kind);
    this.#tell(problem === null ? `${kind.kind}: followed again` : this.#problemText(kind, problem));
  }

  #setWait(namespace: string, problem: string | null): void {
    const before = this.#waits.get(namespace) ?? null;
    if (before === problem) return;
    if (problem === null) this.#waits.delete(namespace);
    else this.#waits.set(namespace, problem);
    this.#tell(problem === null ? `new pods of ${namespace} wait no more` : waitText(namespace, problem));
  }

  #problemText(kind: ObjectKind, problem: string): string {
    const meanwhile = this.#unlisted.has(kind)
      ? 'nothing is changed before it is listed'
      : 'what was known last stays in force';
    return `${kind.kind} is not known: ${problem}; ${meanwhile}`;
  }
}

function waitText(namespace: string, problem: string): string {
  return `new pods of ${namespace} wait for its policies: ${problem}`;
}

function namespaceOf({ id }: Reading): string {
  return id.slice(0, id.indexOf('/'));
}
