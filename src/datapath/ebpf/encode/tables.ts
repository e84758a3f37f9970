// Port tables, layers, classes and policy sets: from the Plan's numbers to places in the kernel's arrays.
import { ByIdentity } from '#compile/by-identity.ts';
import type {
  IdentityNumber,
  LayerNumber,
  PolicySet,
  PortTable,
  RuleInfo,
  RuleNumber,
  SetNumber,
  TableNumber,
} from '#compile/plan.ts';
import type { Fill, Lack } from '#datapath/port.ts';
import { CLASS_KEY, TAGGED } from './abi.gen.ts';
import { Arena } from './arena.ts';
import { classBytes, MAX_LAYERS, setBytes, taggedBytes, taggedWord } from './bytes.ts';
import { type Sink, type Sizes, StepOrderError } from './sink.ts';
import { bankExtent, type Limbo, Space } from './space.ts';
import { classTag } from './tag.ts';

/** `lacking`: identities whose class found no room and does more than allow. Then nobody is let through. */
type KnownLayer = {
  base: TableNumber | null;
  readonly classes: ByIdentity<TableNumber>;
  readonly lacking: Set<IdentityNumber>;
};
/** `index` or `slot` 0: no room, and everybody who has the set is denied. */
type KnownSet = { index: number; layers: readonly LayerNumber[]; slot: number };

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
  readonly #arenaSpace: Space;
  readonly #slots: Space;
  readonly #indexes: Space;
  readonly #layers = new Map<LayerNumber, KnownLayer>();
  readonly #sets = new Map<SetNumber, KnownSet>();
  /** Sets that found no room. */
  readonly #roomless = new Set<SetNumber>();
  /** The class that is being written: a change writes hundreds, and sinks copy what they keep. */
  readonly #key = new Uint8Array(CLASS_KEY.size);
  readonly #value = new Uint8Array(TAGGED.size);
  /** A rule of the class that found no room last. */
  #refusedRule: RuleNumber | null = null;

  constructor(ground: Ground) {
    this.#ground = ground;
    const space = new Space('arena', bankExtent(ground.sizes.arena, ground.bank), ground.limbo);
    this.#arenaSpace = space;
    this.#arena = new Arena({ sink: ground.sink, limbo: ground.limbo, base: ground.base, space });
    this.#slots = new Space('set_slots', bankExtent(ground.sizes.setSlots, ground.bank), ground.limbo);
    this.#indexes = new Space('set_map', bankExtent(ground.sizes.sets, ground.bank), ground.limbo);
  }

  hasSet(set: SetNumber): boolean {
    return this.#sets.has(set);
  }

  /** The kernel's index of a set; 0, which denies, where it found no room. */
  setIndex(set: SetNumber): number {
    return this.#known(this.#sets, set, 'set').index;
  }

  rule(number: RuleNumber, value: RuleInfo | null): void {
    this.#arena.rule(number, value);
  }

  table(number: TableNumber, value: PortTable | null): void {
    if (value === null) this.#arena.remove(number);
    else if (this.#arena.place(number, value)) this.#repoint(number);
  }

  /** How full the arrays are: each of two agents has a half of every one. */
  get fills(): readonly Fill[] {
    return [this.#arenaSpace.fill, this.#slots.fill, this.#indexes.fill];
  }

  /** How many classes are in the kernel. */
  get classes(): number {
    let count = 0;
    for (const { classes } of this.#layers.values()) count += classes.size;
    return count - (this.#ground.sink.waiting.get('class_map') ?? 0);
  }

  /** What found no room: it denies until it does. */
  get lacks(): readonly Lack[] {
    const classes = this.#ground.sink.waiting.get('class_map') ?? 0;
    const rule = this.#refusedRule;
    return [
      ...this.#arena.lacks,
      ...(classes === 0 ? [] : [{ table: 'class_map', count: classes, rule } as const]),
      ...(this.#roomless.size === 0 ? [] : [{ table: 'set_map', count: this.#roomless.size, rule: null } as const]),
    ];
  }

  /** Places what found no room before, where there is some now. Returns the sets that have an index only now. */
  retry(): ReadonlySet<SetNumber> {
    for (const table of this.#arena.retry()) this.#repoint(table);
    const placed = new Set<SetNumber>();
    for (const number of this.#roomless) {
      const set = this.#known(this.#sets, number, 'set');
      const hadIndex = set.index !== 0;
      this.#publishSet(number, set);
      if (this.#roomless.has(number)) break;
      if (!hadIndex) placed.add(number);
    }
    return placed;
  }

  /** A class found no room. Where it does more than allow, its layer lets nobody through; else its peer is denied. */
  refused(key: Uint8Array): void {
    const { layer, identity } = this.#readKey(key);
    const known = this.#layers.get(layer);
    const table = known?.classes.get(identity);
    if (known === undefined || table === undefined) return;
    this.#refusedRule = this.#arena.ruleOf(table);
    const wasOpen = known.lacking.size === 0;
    if (this.#arena.allows(table)) known.lacking.delete(identity);
    else known.lacking.add(identity);
    if (wasOpen !== (known.lacking.size === 0)) this.#republishSets((set) => set.layers.includes(layer));
  }

  /** A class that found no room has some now, or is not wanted any more. */
  placed(key: Uint8Array): void {
    const { layer, identity } = this.#readKey(key);
    const known = this.#layers.get(layer);
    if (known?.lacking.delete(identity) !== true || known.lacking.size > 0) return;
    this.#republishSets((set) => set.layers.includes(layer));
  }

  #readKey(key: Uint8Array): { readonly layer: LayerNumber; readonly identity: IdentityNumber } {
    const from = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const { base } = this.#ground;
    return {
      layer: from.getUint32(CLASS_KEY.layer, true) - base,
      identity: from.getUint32(CLASS_KEY.identity, true) - base,
    };
  }

  layer(number: LayerNumber, value: { readonly base: TableNumber | null } | null): void {
    const known = this.#layers.get(number);
    if (value === null) {
      for (const identity of known?.classes.keys() ?? []) this.#removeClass(number, identity);
      this.#layers.delete(number);
      return;
    }
    if (known === undefined)
      this.#layers.set(number, { base: value.base, classes: new ByIdentity(), lacking: new Set() });
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
    const set = known ?? { index: 0, layers: value.layers, slot: 0 };
    set.layers = value.layers;
    this.#sets.set(number, set);
    this.#publishSet(number, set);
  }

  #putClass(layer: LayerNumber, identity: IdentityNumber, table: TableNumber): void {
    const { base, sink } = this.#ground;
    const offset = this.#arena.offsetOf(table);
    const value = taggedBytes(offset, classTag(layer + base, identity + base), this.#value);
    sink.put('class_map', this.#classKey(layer, identity), value);
  }

  #classKey(layer: LayerNumber, identity: IdentityNumber): Uint8Array {
    return classBytes(layer + this.#ground.base, identity + this.#ground.base, this.#key);
  }

  #removeClass(layer: LayerNumber, identity: IdentityNumber): void {
    const { limbo, sink } = this.#ground;
    limbo.later(() => sink.remove('class_map', this.#classKey(layer, identity)));
  }

  #removeSet(number: SetNumber, set: KnownSet): void {
    const { limbo, sink } = this.#ground;
    this.#sets.delete(number);
    this.#roomless.delete(number);
    if (set.index === 0) return;
    limbo.later(() => {
      sink.word('set_map', set.index, 0n);
      // The slot may be read until the word is gone for everybody: one round more.
      limbo.later(() => {
        if (set.slot !== 0) this.#slots.release(set.slot, 1);
        this.#indexes.release(set.index, 1);
      });
    });
  }

  #publishSet(number: SetNumber, set: KnownSet): void {
    const { base, limbo, sink } = this.#ground;
    // Which of its layers lack a class must be known first.
    sink.flush();
    const before = set.slot;
    if (set.index === 0) set.index = this.#place(this.#indexes);
    set.slot = set.index === 0 ? 0 : this.#place(this.#slots);
    if (set.slot === 0) {
      this.#roomless.add(number);
      if (set.index !== 0) sink.word('set_map', set.index, 0n);
    } else {
      this.#roomless.delete(number);
      const layers = set.layers.map((layer) => ({ layer: layer + base, base: this.#baseOf(layer) }));
      sink.record('set_slots', set.slot, setBytes(layers));
      sink.word('set_map', set.index, taggedWord(set.slot, set.index + 1));
    }
    if (before !== 0) limbo.later(() => this.#slots.release(before, 1));
  }

  /** A place; 0 where there is none. Where others lack one already, waiting for it would hold up every change. */
  #place(space: Space): number {
    return (this.#roomless.size > 0 ? space.find(1) : space.findOrWait(1)) ?? 0;
  }

  #baseOf(layer: LayerNumber): number {
    const { base, lacking } = this.#known(this.#layers, layer, 'layer');
    if (lacking.size > 0) return this.#arena.denying;
    return base === null ? 0 : this.#arena.offsetOf(base);
  }

  #republishSets(chosen: (set: KnownSet) => boolean): void {
    for (const [number, set] of this.#sets) if (chosen(set)) this.#publishSet(number, set);
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
