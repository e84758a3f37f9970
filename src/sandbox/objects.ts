// The objects a sandbox is made of: those of the watched files, and those that somebody applied. The last word counts.
import { objectKey, takeInventory } from '#cluster/world/inventory.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';

/** Keeps one object a name. */
export class ObjectStore {
  #objects: Map<string, SourceObject> = new Map();
  #watched: ReadonlyMap<string, SourceObject> = new Map();

  /** Another store of the same objects: what is tried on it changes nothing here. */
  copy(): ObjectStore {
    const copy = new ObjectStore();
    copy.#objects = new Map(this.#objects);
    copy.#watched = this.#watched;
    return copy;
  }

  get all(): readonly SourceObject[] {
    return [...this.#objects.values()];
  }

  /** Adds or replaces objects. Returns what is wrong with the set as a whole, as `watch` does. */
  put(objects: readonly SourceObject[]): readonly Diagnostic[] {
    const inventory = takeInventory(objects);
    for (const object of inventory.objects) this.#objects.set(objectKey(object), object);
    return inventory.diagnostics;
  }

  /** Replaces everything. */
  replace(objects: readonly SourceObject[]): readonly Diagnostic[] {
    this.#objects = new Map();
    this.#watched = new Map();
    return this.put(objects);
  }

  /**
   * Takes what the watched files hold now. An object that a file has changed replaces one that was applied; one that
   * no file holds any more goes. Returns what is wrong with the set as a whole: of two objects with one name the
   * first counts, and of two policies the isolation alone.
   */
  watch(objects: readonly SourceObject[]): readonly Diagnostic[] {
    const inventory = takeInventory(objects);
    const next = new Map(inventory.objects.map((object) => [objectKey(object), object]));
    for (const key of this.#watched.keys()) if (!next.has(key)) this.#objects.delete(key);
    // An unchanged object is the same value: it must not undo what was applied since.
    for (const [key, object] of next) if (this.#watched.get(key) !== object) this.#objects.set(key, object);
    this.#watched = next;
    return inventory.diagnostics;
  }
}
