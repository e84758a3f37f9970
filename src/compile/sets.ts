// Policy sets: short lists of layers, shared by all endpoints that meet the same ones.
import type { LayerEntry, Layers, Successions } from './layers.ts';
import type { LayerNumber, SetNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';

export type SetEntry = {
  /** The Plan's number; null until `settle`. */
  number: SetNumber | null;
  readonly key: string;
  readonly layers: readonly LayerEntry[];
  uses: number;
  /** Where the endpoints that had it went since the last sweep: all to one set, or not. */
  next: SetEntry | 'apart' | null;
  /** True where another one goes on with its number. */
  followed: boolean;
};

export class Sets {
  readonly #recorder: Recorder;
  readonly #layers: Layers;
  readonly #byKey = new Map<string, SetEntry>();
  readonly #fresh = new Set<SetEntry>();
  readonly #idle = new Set<SetEntry>();
  /** Sets that another one may follow in place, by that one. */
  readonly #followed = new Map<SetEntry, SetEntry>();
  readonly #left = new Set<SetEntry>();
  /** Numbers of sets whose layers changed in place since the last `takeChanged`. */
  #changed: SetNumber[] = [];
  #next = 1;

  constructor(recorder: Recorder, layers: Layers) {
    this.#recorder = recorder;
    this.#layers = layers;
  }

  /** One more use of the set of these layers. The layers' own uses are the caller's no longer. */
  take(layers: readonly LayerEntry[]): SetEntry {
    const key = layers.map((layer) => layer.serial).join();
    const found = this.#byKey.get(key);
    if (found !== undefined) {
      for (const layer of layers) this.#layers.give(layer);
      return this.again(found);
    }
    const entry: SetEntry = { number: null, key, layers, uses: 1, next: null, followed: false };
    this.#byKey.set(key, entry);
    this.#fresh.add(entry);
    return entry;
  }

  /** One more use of a set. */
  again(entry: SetEntry): SetEntry {
    entry.uses++;
    return entry;
  }

  /** `to`: what the endpoint has from now on; null where it is not the same endpoint any more. */
  give(entry: SetEntry, to: SetEntry | null): void {
    entry.uses--;
    if (entry.uses === 0) this.#idle.add(entry);
    if (entry === to) return;
    const next = to ?? 'apart';
    entry.next = entry.next === null || entry.next === next ? next : 'apart';
    this.#left.add(entry);
  }

  /**
   * Layers that could change in place: every set that has the one has no endpoint any more, all of them went to one new
   * set, and that differs in nothing but the layer.
   */
  successions(): Successions {
    const pairs = new Map<LayerEntry, { readonly before: LayerEntry; count: number }>();
    for (const entry of this.#idle) {
      const to = entry.next;
      if (entry.uses > 0 || to === null || to === 'apart' || !this.#fresh.has(to) || this.#followed.has(to)) continue;
      const change = onlyChange(entry.layers, to.layers);
      if (change === null) continue;
      const pair = pairs.get(change.now) ?? { before: change.before, count: 0 };
      pairs.set(change.now, pair);
      if (pair.before !== change.before) continue;
      pair.count++;
      this.#followed.set(to, entry);
    }
    const whole = [...pairs].filter(([, { before, count }]) => before.uses === count);
    return new Map(whole.map(([now, { before }]) => [now, before]));
  }

  /** Gives new sets their numbers; layers have theirs by now. */
  settle(): void {
    for (const entry of this.#fresh) {
      const before = this.#followed.get(entry);
      if (before?.layers.some(({ body }) => body === null)) {
        before.followed = true;
        entry.number = before.number;
        this.#changed.push(numberOf(before));
        continue;
      }
      entry.number = this.#next++;
      this.#recorder.set(entry.number, { layers: entry.layers.map(layerNumber) });
    }
    this.#fresh.clear();
    this.#followed.clear();
  }

  /** The sets that judge anything. */
  judging(): SetNumber[] {
    return [...this.#byKey.values()].filter((set) => set.layers.length > 0).map(numberOf);
  }

  /** The sets that have one of these layers. */
  having(layers: ReadonlySet<LayerNumber>): SetNumber[] {
    if (layers.size === 0) return [];
    return [...this.#byKey.values()]
      .filter((set) => set.layers.some(({ body }) => body !== null && layers.has(body.number)))
      .map(numberOf);
  }

  /** The sets whose layers changed in place since the last call. */
  takeChanged(): SetNumber[] {
    const changed = this.#changed;
    this.#changed = [];
    return changed;
  }

  /** Forgets the sets that nothing uses. */
  sweep(): void {
    for (const entry of this.#left) entry.next = null;
    this.#left.clear();
    for (const entry of this.#idle) {
      if (entry.uses > 0) continue;
      this.#byKey.delete(entry.key);
      if (!entry.followed) this.#recorder.set(numberOf(entry), null);
      for (const layer of entry.layers) this.#layers.give(layer);
    }
    this.#idle.clear();
  }
}

/** The Plan's number of a set that has one. */
export function numberOf({ number, key }: SetEntry): SetNumber {
  if (number === null) throw new Error(`set ${key} is used before it is settled`);
  return number;
}

function layerNumber({ body, serial }: LayerEntry): LayerNumber {
  if (body === null) throw new Error(`layer ${serial} is used before it is settled`);
  return body.number;
}

/** The one layer that differs between two lists; null where they differ in another way. */
function onlyChange(
  before: readonly LayerEntry[],
  now: readonly LayerEntry[],
): { readonly before: LayerEntry; readonly now: LayerEntry } | null {
  if (before.length !== now.length) return null;
  const changes = before.flatMap((layer, index) => {
    const other = now[index];
    return other === undefined || other === layer ? [] : [{ before: layer, now: other }];
  });
  return changes.length === 1 ? (changes[0] ?? null) : null;
}
