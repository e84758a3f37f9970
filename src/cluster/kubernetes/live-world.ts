// What an API server has told so far, and which world events its lists and changes amount to. Pure.

import type { ClusterEvent, PodKey } from '#policy/world.ts';
import type { Tell, WatchState } from '../follower.ts';
import { goneEvent, type ObjectKind, type Reading } from './kinds.ts';

type Kept = Pick<Reading, 'digest' | 'findings' | 'uid'> & { readonly isRefused: boolean };

/** An object that is not understood as a whole. */
export type Trouble = Pick<Reading, 'id' | 'findings' | 'uid'> & {
  readonly kind: ObjectKind;
  readonly isRefused: boolean;
};

/**
 * Each kind comes over its own connection, in its own time. A pod waits for its namespace: without its labels,
 * selectors such as `NotIn` would match it. A namespace goes after the pods in it, for the same reason.
 */
export class LiveWorld {
  readonly #tell: Tell;
  readonly #kept = new Map<ObjectKind, Map<string, Kept>>();
  readonly #namespaces = new Set<string>();
  /** Deleted, while pods in them are known. */
  readonly #leaving = new Map<string, ClusterEvent>();
  readonly #podsIn = new Map<string, Set<PodKey>>();
  readonly #waiting = new Map<string, Map<PodKey, ClusterEvent>>();

  /** `tell` gets what is wrong with an object, once. */
  constructor(tell: Tell) {
    this.#tell = tell;
  }

  /** All objects of a kind: what is not among them is gone. */
  list(kind: ObjectKind, readings: readonly Reading[]): readonly ClusterEvent[] {
    const listed = new Set(readings.map(({ id }) => id));
    const gone = [...this.#of(kind).keys()].filter((id) => !listed.has(id));
    return [...readings.flatMap((each) => this.set(kind, each)), ...gone.flatMap((id) => this.delete(kind, id))];
  }

  /** An object that is new or has changed. No event where the world stays the same. */
  set(kind: ObjectKind, { id, event, digest, findings, uid }: Reading): readonly ClusterEvent[] {
    const kept = this.#of(kind);
    const before = kept.get(id);
    kept.set(id, { digest, findings, uid, isRefused: event === null });
    for (const finding of findings) if (!before?.findings.includes(finding)) this.#tell(finding);
    if (before?.digest === digest) return [];
    return this.#inOrder(event ?? goneEvent(kind, id));
  }

  delete(kind: ObjectKind, id: string): readonly ClusterEvent[] {
    return this.#of(kind).delete(id) ? this.#inOrder(goneEvent(kind, id)) : [];
  }

  /** What is known of the objects of a kind in a namespace: their digests, by id. */
  digests(kind: ObjectKind, namespace: string): ReadonlyMap<string, string> {
    const own = [...this.#of(kind)].filter(([id]) => id.startsWith(`${namespace}/`));
    return new Map(own.map(([id, { digest }]) => [id, digest]));
  }

  /** How many objects of a kind there are, by what could be made of them. */
  count(kind: ObjectKind): WatchState['objects'] {
    const counts = { understood: 0, partly: 0, refused: 0 };
    for (const { findings, isRefused } of this.#of(kind).values()) {
      counts[isRefused ? 'refused' : hasError(findings) ? 'partly' : 'understood']++;
    }
    return counts;
  }

  /** What is wrong with objects. */
  *findings(): Generator<string> {
    for (const kept of this.#kept.values()) for (const { findings } of kept.values()) yield* findings;
  }

  /** The objects of a kind that are not understood as a whole. */
  *troubles(kind: ObjectKind): Generator<Trouble> {
    for (const id of this.#of(kind).keys()) {
      const trouble = this.trouble(kind, id);
      if (trouble !== null) yield trouble;
    }
  }

  /** What is wrong with one; null where nothing is, or where it is gone. */
  trouble(kind: ObjectKind, id: string): Trouble | null {
    const kept = this.#of(kind).get(id);
    return kept === undefined || kept.findings.length === 0 ? null : { kind, id, ...kept };
  }

  /** The names of all objects of a kind that has no namespaces. */
  names(kind: ObjectKind): readonly string[] {
    return [...this.#of(kind).keys()].map((id) => id.slice(1));
  }

  #of(kind: ObjectKind): Map<string, Kept> {
    return valueAt(this.#kept, kind, () => new Map());
  }

  #inOrder(event: ClusterEvent): readonly ClusterEvent[] {
    if (event.kind === 'namespace') return this.#namespace(event);
    if (event.kind === 'pod')
      return event.value === null ? this.#podGone(event) : this.#pod(event, event.value.namespace);
    return [event];
  }

  #namespace(event: ClusterEvent & { readonly kind: 'namespace' }): readonly ClusterEvent[] {
    const { name, value } = event;
    if (value === null) {
      this.#namespaces.delete(name);
      if (!this.#podsIn.has(name)) return [event];
      this.#leaving.set(name, event);
      return [];
    }
    this.#namespaces.add(name);
    this.#leaving.delete(name);
    const waiting = [...(this.#waiting.get(name)?.values() ?? [])];
    this.#waiting.delete(name);
    return [event, ...waiting.flatMap((pod) => this.#inOrder(pod))];
  }

  #pod(event: ClusterEvent & { readonly kind: 'pod' }, namespace: string): readonly ClusterEvent[] {
    if (!this.#namespaces.has(namespace) && !this.#podsIn.get(namespace)?.has(event.key)) {
      valueAt(this.#waiting, namespace, () => new Map<PodKey, ClusterEvent>()).set(event.key, event);
      return [];
    }
    valueAt(this.#podsIn, namespace, () => new Set()).add(event.key);
    return [event];
  }

  #podGone(event: ClusterEvent & { readonly kind: 'pod' }): readonly ClusterEvent[] {
    const namespace = event.key.slice(0, event.key.indexOf('/'));
    const waiting = this.#waiting.get(namespace);
    if (waiting?.delete(event.key)) {
      if (waiting.size === 0) this.#waiting.delete(namespace);
      return [];
    }
    const pods = this.#podsIn.get(namespace);
    if (!pods?.delete(event.key)) return [];
    if (pods.size > 0) return [event];
    this.#podsIn.delete(namespace);
    const left = this.#leaving.get(namespace);
    this.#leaving.delete(namespace);
    return left === undefined ? [event] : [event, left];
  }
}

function valueAt<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = make();
  map.set(key, made);
  return made;
}

/** Some of the object means nothing; a warning alone says that it means what it may not have been meant to. */
export function hasError(findings: readonly string[]): boolean {
  return findings.some((finding) => finding.startsWith('error: '));
}
