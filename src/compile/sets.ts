// Policy sets: short lists of layers, shared by all endpoints that meet the same ones.
import type { LayerEntry, Layers } from './layers.ts';
import type { SetNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';

export type SetEntry = {
  readonly number: SetNumber;
  readonly key: string;
  readonly layers: readonly LayerEntry[];
  uses: number;
};

export class Sets {
  readonly #recorder: Recorder;
  readonly #layers: Layers;
  readonly #byKey = new Map<string, SetEntry>();
  readonly #idle = new Set<SetEntry>();
  #next = 1;

  constructor(recorder: Recorder, layers: Layers) {
    this.#recorder = recorder;
    this.#layers = layers;
  }

  /** One more use of the set of these layers. The layers' own uses are the caller's no longer. */
  take(layers: readonly LayerEntry[]): SetEntry {
    const key = layers.map((layer) => layer.number).join();
    const found = this.#byKey.get(key);
    if (found !== undefined) {
      for (const layer of layers) this.#layers.give(layer);
      found.uses++;
      return found;
    }
    const entry = { number: this.#next++, key, layers, uses: 1 };
    this.#byKey.set(key, entry);
    this.#recorder.set(entry.number, { layers: layers.map((layer) => layer.number) });
    return entry;
  }

  give(entry: SetEntry): void {
    entry.uses--;
    if (entry.uses === 0) this.#idle.add(entry);
  }

  /** The sets that judge anything. */
  judging(): SetNumber[] {
    return [...this.#byKey.values()].filter((set) => set.layers.length > 0).map((set) => set.number);
  }

  /** Forgets the sets that nothing uses. */
  sweep(): void {
    for (const entry of this.#idle) {
      if (entry.uses > 0) continue;
      this.#byKey.delete(entry.key);
      this.#recorder.set(entry.number, null);
      for (const layer of entry.layers) this.#layers.give(layer);
    }
    this.#idle.clear();
  }
}
