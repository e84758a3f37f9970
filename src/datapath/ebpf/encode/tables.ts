// Port tables, layers, classes and policy sets: from the Plan's numbers to places in the kernel's arrays.
import type { IdentityNumber, LayerNumber, PolicySet, PortTable, SetNumber, TableNumber } from '#compile/plan.ts';
import { Arena } from './arena.ts';
import { classBytes, MAX_LAYERS, setBytes, taggedBytes, taggedWord } from './bytes.ts';
import { type Sink, type Sizes, StepOrderError } from './sink.ts';
import { bankExtent, type Limbo, Space } from './space.ts';
import { classTag } from './tag.ts';

type KnownLayer = { base: TableNumber | null; readonly classes: Map<IdentityNumber, TableNumber> };
type KnownSet = { readonly index: number; layers: readonly LayerNumber[]; slot: number };

/** What all the tables share. `base` is added to the Plan's numbers (an earlier agent's may still be in the kernel). */
export type Ground = {
  readonly sink: Sink;
  readonly limbo: Limbo;
  readonly sizes: Sizes;
  readonly base: number;
  readonly bank: 0 | 1;
};

export class PolicyTables {
  readonly #ground: Ground;
  readonly #arena: Arena;
  readonly #slots: Space;
  readonly #indexes: Space;
  readonly #layers = new Map<LayerNumber, KnownLayer>();
  readonly #sets = new Map<SetNumber, KnownSet>();

  constructor(ground: Ground) {
    this.#ground = ground;
    const space = new Space('arena', bankExtent(ground.sizes.arena, ground.bank), ground.limbo);
    this.#arena = new Arena({ sink: ground.sink, limbo: ground.limbo, base: ground.base, space });
    this.#slots = new Space('set_slots', bankExtent(ground.sizes.setSlots, ground.bank), ground.limbo);
    this.#indexes = new Space('set_map', bankExtent(ground.sizes.sets, ground.bank), ground.limbo);
  }

  hasSet(set: SetNumber): boolean {
    return this.#sets.has(set);
  }

  /** The kernel's index of a set. */
  setIndex(set: SetNumber): number {
    return this.#known(this.#sets, set, 'set').index;
  }

  table(number: TableNumber, value: PortTable | null): void {
    if (value === null) this.#arena.remove(number);
    else if (this.#arena.place(number, value)) this.#repoint(number);
  }

  /** How many tables found no room: they deny until they do. */
  get refused(): number {
    return this.#arena.refused;
  }

  /** Places what found no room before, where there is some now. */
  retry(): void {
    for (const table of this.#arena.retry()) this.#repoint(table);
  }

  layer(number: LayerNumber, value: { readonly base: TableNumber | null } | null): void {
    const known = this.#layers.get(number);
    if (value === null) {
      for (const identity of known?.classes.keys() ?? []) this.#removeClass(number, identity);
      this.#layers.delete(number);
      return;
    }
    if (known === undefined) this.#layers.set(number, { base: value.base, classes: new Map() });
    else if (known.base !== value.base) {
      known.base = value.base;
      this.#republishSets((set) => set.layers.includes(number));
    }
  }

  /** `dying`: the identity or layer goes with these steps, so packets under way may still ask for the class. */
  class(key: readonly [LayerNumber, IdentityNumber], table: TableNumber | null, dying: 'dying' | 'stays'): void {
    const [layer, identity] = key;
    const known = this.#known(this.#layers, layer, 'layer');
    if (table !== null) {
      known.classes.set(identity, table);
      this.#putClass(layer, identity, table);
      return;
    }
    known.classes.delete(identity);
    if (dying === 'dying') this.#removeClass(layer, identity);
    else this.#ground.sink.remove('class_map', this.#classKey(layer, identity));
  }

  set(number: SetNumber, value: PolicySet | null): void {
    const known = this.#sets.get(number);
    if (value === null) {
      if (known !== undefined) this.#removeSet(number, known);
      return;
    }
    if (value.layers.length > MAX_LAYERS) {
      throw new StepOrderError(
        `set ${number} has ${value.layers.length} layers, the kernel's tables hold ${MAX_LAYERS}`,
      );
    }
    const set = known ?? { index: this.#indexes.allocate(1), layers: value.layers, slot: 0 };
    set.layers = value.layers;
    this.#sets.set(number, set);
    this.#publishSet(set);
  }

  #putClass(layer: LayerNumber, identity: IdentityNumber, table: TableNumber): void {
    const { base, sink } = this.#ground;
    const offset = this.#arena.offsetOf(table);
    const value = taggedBytes(offset, classTag(layer + base, identity + base));
    sink.put('class_map', this.#classKey(layer, identity), value);
  }

  #classKey(layer: LayerNumber, identity: IdentityNumber): Uint8Array {
    return classBytes(layer + this.#ground.base, identity + this.#ground.base);
  }

  #removeClass(layer: LayerNumber, identity: IdentityNumber): void {
    const { limbo, sink } = this.#ground;
    limbo.later(() => sink.remove('class_map', this.#classKey(layer, identity)));
  }

  #removeSet(number: SetNumber, set: KnownSet): void {
    const { limbo, sink } = this.#ground;
    this.#sets.delete(number);
    limbo.later(() => {
      sink.word('set_map', set.index, 0n);
      // The slot may be read until the word is gone for everybody: one round more.
      limbo.later(() => {
        this.#slots.release(set.slot, 1);
        this.#indexes.release(set.index, 1);
      });
    });
  }

  #publishSet(set: KnownSet): void {
    const { base, limbo, sink } = this.#ground;
    const before = set.slot;
    set.slot = this.#slots.allocate(1);
    const layers = set.layers.map((layer) => {
      const table = this.#known(this.#layers, layer, 'layer').base;
      return { layer: layer + base, base: table === null ? 0 : this.#arena.offsetOf(table) };
    });
    sink.record('set_slots', set.slot, setBytes(layers));
    sink.word('set_map', set.index, taggedWord(set.slot, set.index + 1));
    if (before !== 0) limbo.later(() => this.#slots.release(before, 1));
  }

  #republishSets(chosen: (set: KnownSet) => boolean): void {
    for (const set of this.#sets.values()) if (chosen(set)) this.#publishSet(set);
  }

  /** A table number got new content: everything that points to the old place turns to the new one. */
  #repoint(table: TableNumber): void {
    const layers = new Set<LayerNumber>();
    for (const [layer, known] of this.#layers) {
      if (known.base === table) layers.add(layer);
      for (const [identity, each] of known.classes) if (each === table) this.#putClass(layer, identity, table);
    }
    if (layers.size > 0) this.#republishSets((set) => set.layers.some((layer) => layers.has(layer)));
  }

  #known<K extends number, V>(table: ReadonlyMap<K, V>, key: K, what: string): V {
    const found = table.get(key);
    if (found === undefined) throw new StepOrderError(`${what} ${key} is used before it is published`);
    return found;
  }
}
