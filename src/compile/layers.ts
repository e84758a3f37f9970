// Layers: a base table for any peer and a class table for each identity that some rule matches. Layers are shared by
// the content of their rules. One whose rules change for everybody who has it changes in place where that is safe.

import type { AtomNumber } from '#identity/atoms.ts';
import type { IdentityChanges } from '#identity/changes.ts';
import { push } from '#identity/collect.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import { mostAlike } from './alike.ts';
import { isBetween, type Pair, sayTheSame } from './between.ts';
import { LayerIndex } from './layer-index.ts';
import {
  askedBy,
  LayerRules,
  type RulesChange,
  sameTiers,
  saysNothing,
  type TierSpec,
  tiersKey,
} from './layer-rules.ts';
import { LayerTables } from './layer-tables.ts';
import { type Origin, originOf } from './origin.ts';
import type { IdentityNumber, LayerNumber, PortTable } from './plan.ts';
import type { Recorder } from './recorder.ts';
import { type Furnished, Room } from './room.ts';
import type { RuleEntry, Rules } from './rules.ts';
import type { Share } from './shares.ts';
import type { Shortage } from './shortage.ts';
import type { TableEntry, Tables } from './tables.ts';

/** What of a layer is in the Plan. */
type Body = Furnished & {
  readonly number: LayerNumber;
  base: TableEntry | null;
  readonly classes: Map<IdentityNumber, TableEntry>;
};

export type LayerEntry = {
  /** Names the entry among all that ever were; the Plan's number stays when rules change in place. */
  readonly serial: number;
  readonly key: string;
  readonly specs: readonly TierSpec[];
  readonly share: Share;
  /** Null: new since the last `settle`, or another one goes on with its body. */
  body: Body | null;
  /** Sets that have it. */
  uses: number;
};

/** New layers, each with the one that it takes the place of for everybody who has that. */
export type Successions = ReadonlyMap<LayerEntry, LayerEntry>;

/** What a change in place writes. The tables are taken. */
type Update = {
  readonly base: TableEntry | null;
  readonly classes: ReadonlyMap<IdentityEntry, TableEntry | null>;
};

const NO_TABLE: PortTable = [];
/** So many of the last layers are looked at to find one that a new layer is like. */
const RECENT = 10;

export class Layers {
  readonly #recorder: Recorder;
  readonly #tables: Tables;
  readonly #rules: Rules;
  readonly #identifier: Identifier;
  readonly #contents: LayerTables;
  readonly #room: Room<Body>;
  readonly #byKey = new Map<string, LayerEntry[]>();
  readonly #bodies = new Set<Body>();
  readonly #index: LayerIndex<Body>;
  readonly #fresh = new Set<LayerEntry>();
  readonly #idle = new Set<LayerEntry>();
  /** Rules that layers changed in place had until now. */
  readonly #left: RuleEntry[] = [];
  #serial = 1;
  #next = 1;

  constructor(uses: {
    readonly recorder: Recorder;
    readonly tables: Tables;
    readonly rules: Rules;
    readonly identifier: Identifier;
  }) {
    this.#recorder = uses.recorder;
    this.#tables = uses.tables;
    this.#rules = uses.rules;
    this.#identifier = uses.identifier;
    this.#contents = new LayerTables(uses.tables, uses.identifier);
    this.#room = new Room(this.#contents, uses.tables);
    this.#index = new LayerIndex(uses.identifier);
  }

  /** One more use of the layer of these tiers; null where they say nothing. Its tables come with `settle`. */
  take(specs: readonly TierSpec[], share: Share): LayerEntry | null {
    if (specs.every(saysNothing)) return null;
    const key = tiersKey(specs);
    const layer = this.#byKey.get(key)?.find((one) => sameTiers(one.specs, specs)) ?? this.#make(key, specs, share);
    layer.uses++;
    return layer;
  }

  give(layer: LayerEntry): void {
    layer.uses--;
    if (layer.uses === 0) this.#idle.add(layer);
  }

  /** Gives new layers their tables, in place of those they follow where that is safe, and all layers the new identities. */
  settle({ created, gained }: Pick<IdentityChanges, 'created' | 'gained'>, successions: Successions): void {
    const newcomers = new Set(created);
    this.#tables.publish();
    this.#contents.begin();
    for (const layer of this.#fresh) {
      const before = successions.get(layer);
      if (before !== undefined && this.#follow(layer, before, newcomers)) this.#fresh.delete(layer);
    }
    // Before others take over the classes of those that gained.
    for (const { identity, atom } of gained) {
      if (newcomers.has(identity)) continue;
      const asked = this.#identifier.atomOf(atom);
      for (const body of this.#index.layersOf(identity))
        if (body.rules.dependsOn(asked)) this.#changeClass(body, identity, asked);
    }
    for (const identity of created) {
      const origin = originOf(identity, newcomers, this.#identifier);
      for (const body of this.#index.layersOf(identity)) this.#addClass(body, identity, origin);
    }
    for (const layer of this.#fresh) this.#publish(layer, successions.get(layer)?.body ?? null);
    this.#fresh.clear();
  }

  /** Whose policies find no room for all their tables. */
  get shortages(): readonly Shortage[] {
    return this.#room.shortages;
  }

  /** Forgets layers that nothing uses. */
  sweep(): void {
    for (const layer of this.#idle) if (layer.uses === 0) this.#remove(layer);
    this.#idle.clear();
    for (const rule of this.#left) this.#rules.give(rule);
    this.#left.length = 0;
  }

  /** Forgets retired identities. */
  forget(retired: readonly IdentityEntry[]): void {
    for (const identity of retired) {
      for (const body of this.#bodies) this.#dropClass(body, identity.number);
      this.#room.forget(identity);
    }
  }

  #make(key: string, specs: readonly TierSpec[], share: Share): LayerEntry {
    const layer: LayerEntry = { serial: this.#serial++, key, specs, share, body: null, uses: 0 };
    push(this.#byKey, key, layer);
    this.#fresh.add(layer);
    return layer;
  }

  /** `before`: what the layer takes the place of, where that did not change in place. */
  #publish(layer: LayerEntry, before: Body | null): void {
    const rules = new LayerRules(layer.specs, layer.share);
    for (const rule of rules.entries()) this.#rules.take(rule);
    const own = { classes: new Map(), lacking: new Set<IdentityEntry>(), closed: false };
    const body: Body = { number: this.#next++, rules, base: null, ...own };
    body.base = this.#room.base(body);
    layer.body = body;
    this.#recorder.layer(body.number, body.base?.number ?? null);
    this.#index.update(body, rules.atoms());
    this.#fill(body, before === null ? [...this.#bodies].slice(-RECENT) : [before]);
    this.#bodies.add(body);
  }

  #remove(layer: LayerEntry): void {
    const others = (this.#byKey.get(layer.key) ?? []).filter((one) => one !== layer);
    if (others.length === 0) this.#byKey.delete(layer.key);
    else this.#byKey.set(layer.key, others);
    this.#fresh.delete(layer);
    const { body } = layer;
    if (body === null) return;
    this.#bodies.delete(body);
    this.#room.remove(body);
    this.#index.remove(body);
    this.#recorder.removeLayer(body.number);
    if (body.base !== null) this.#tables.give(body.base);
    for (const table of body.classes.values()) this.#tables.give(table);
    body.rules.share.give({ classes: body.classes.size });
    for (const rule of body.rules.entries()) this.#rules.give(rule);
  }

  /** Makes the body of one layer that of the next. False where a packet in between could see what neither says. */
  #follow(layer: LayerEntry, before: LayerEntry, newcomers: ReadonlySet<IdentityEntry>): boolean {
    const { body } = before;
    if (body === null) return false;
    const wide = body.rules.merged;
    const guarded = body.rules.guarded;
    const change = body.rules.change(layer.specs);
    const touched = this.#touched(body, change, { all: wide || body.rules.merged, unknown: guarded });
    const update = this.#updateOf(body, change, { touched, newcomers });
    if (!this.#isSafe(body, update, { change, newcomers })) {
      body.rules.change(before.specs);
      this.#giveUpdate(update);
      return false;
    }
    before.body = null;
    layer.body = body;
    for (const rule of change.come) this.#rules.take(rule);
    this.#left.push(...change.gone);
    this.#index.update(body, new Set(change.parts.flatMap(askedBy)));
    this.#write(body, update);
    return true;
  }

  /** Identities whose class may be another one after a change of rules. */
  #touched(
    body: Body,
    change: RulesChange,
    also: { readonly all: boolean; readonly unknown: boolean },
  ): Set<IdentityEntry> {
    const atoms = new Set(change.parts.flatMap(askedBy));
    if (also.all && (change.base || change.parts.length > 0)) for (const atom of body.rules.atoms()) atoms.add(atom);
    return this.#index.identitiesWith(atoms, also.unknown || body.rules.guarded);
  }

  #updateOf(
    body: Body,
    change: RulesChange,
    who: { readonly touched: ReadonlySet<IdentityEntry>; readonly newcomers: ReadonlySet<IdentityEntry> },
  ): Update {
    const classes = new Map<IdentityEntry, TableEntry | null>();
    const classOf = this.#classes(body);
    for (const identity of who.touched) {
      // What nobody is any more stays as packets under way knew it.
      if (who.newcomers.has(identity) || identity.members === 0) continue;
      const table = classOf(identity);
      if (table !== (body.classes.get(identity.number) ?? null)) classes.set(identity, table);
      else if (table !== null) this.#tables.give(table);
    }
    const base = change.base ? this.#room.base(body) : body.base;
    if (base !== null && !change.base) this.#tables.again(base);
    return { base, classes };
  }

  /**
   * Classes change before the base does, each in one write, so what a packet may see beside old and new is an old base
   * with a new class. Identities created with the change have their new class from the start.
   */
  #isSafe(
    body: Body,
    { base, classes }: Update,
    { change, newcomers }: { readonly change: RulesChange; readonly newcomers: ReadonlySet<IdentityEntry> },
  ): boolean {
    const bases = { old: this.#content(body.base), now: this.#content(base) };
    if (base === body.base || sayTheSame(bases.old, bases.now)) return true;
    for (const [identity, table] of classes) {
      const old = this.#content(body.classes.get(identity.number) ?? null);
      const now = this.#content(table);
      const pair = (base: PortTable, own: PortTable): Pair => ({ base, class: own });
      if (!isBetween(pair(bases.old, now), pair(bases.old, old), pair(bases.now, now))) return false;
    }
    const onlyBase = change.parts.every((part) => askedBy(part).length === 0) && !body.rules.merged;
    return newcomers.size === 0 || (onlyBase && !body.rules.guarded);
  }

  #content(table: TableEntry | null): PortTable {
    return table === null ? NO_TABLE : this.#tables.contentOf(table);
  }

  #giveUpdate({ base, classes }: Update): void {
    if (base !== null) this.#tables.give(base);
    for (const table of classes.values()) if (table !== null) this.#tables.give(table);
  }

  #write(body: Body, { base, classes }: Update): void {
    for (const [{ number }, table] of classes) {
      this.#enter(body, number, table);
      this.#recorder.classInPlace(body.number, number, table?.number ?? null);
    }
    if (body.base !== null) this.#tables.give(body.base);
    if (base !== body.base) this.#recorder.baseInPlace(body.number, base?.number ?? null);
    body.base = base;
  }

  #addClass(body: Body, identity: IdentityEntry, origin: Origin | null): void {
    const isLess = origin === null || origin.lost.some((atom) => body.rules.dependsOn(atom));
    const table = isLess ? this.#wholeClass(body, identity) : this.#classAfter(body, identity, origin);
    if (table !== null) this.#setClass(body, identity, table);
  }

  #wholeClass(body: Body, identity: IdentityEntry): TableEntry | null {
    return this.#room.class(body, identity, () => this.#contents.class(body.rules, identity));
  }

  /** The class of one that is as another was, or as it was itself, but for what it gained. */
  #classAfter(body: Body, identity: IdentityEntry, before: Pick<Origin, 'identity' | 'gained'>): TableEntry | null {
    if (body.lacking.has(before.identity)) return this.#wholeClass(body, identity);
    const known = body.classes.get(before.identity.number) ?? null;
    return this.#room.class(body, identity, () => {
      const table = this.#contents.gained(body.rules, { identity, known }, before.gained);
      return table === undefined ? this.#contents.class(body.rules, identity) : table;
    });
  }

  /** The same for an identity that rules of the layer match since now. */
  #changeClass(body: Body, identity: IdentityEntry, atom: AtomNumber): void {
    const table = this.#classAfter(body, identity, { identity, gained: [atom] });
    this.#enter(body, identity.number, table);
    this.#recorder.classInPlace(body.number, identity.number, table?.number ?? null);
  }

  /** The first class of an identity in a layer. */
  #setClass(body: Body, { number }: IdentityEntry, table: TableEntry): void {
    body.classes.set(number, table);
    body.rules.share.take({ classes: 1 });
    this.#recorder.newClass(body.number, number, table.number);
  }

  /** Gives a new layer its classes: those of a layer that it is like, but where the two differ. */
  #fill(body: Body, others: readonly Body[]): void {
    const classOf = this.#classes(body);
    const like = mostAlike(body.rules, others);
    const apart = this.#index.identitiesWith(new Set(like?.apart.flatMap(askedBy)), false);
    const sameOf = (identity: IdentityEntry): TableEntry | null => {
      const known = like?.layer.classes.get(identity.number);
      return known === undefined ? null : this.#room.class(body, identity, () => this.#tables.again(known));
    };
    for (const identity of this.#index.identitiesWith(body.rules.atoms(), body.rules.guarded)) {
      // Classes of what nobody is any more are not kept up to date.
      const isSame = like !== null && identity.members > 0 && !apart.has(identity);
      const table = isSame ? sameOf(identity) : classOf(identity);
      if (table !== null) this.#setClass(body, identity, table);
    }
  }

  /** Takes the class of one identity after the other. */
  #classes(body: Body): (identity: IdentityEntry) => TableEntry | null {
    const look = this.#contents.classes(body.rules);
    return (identity) => this.#room.class(body, identity, () => look(identity));
  }

  /** What lacks room is tried again where some was given back. */
  retry(): void {
    for (const body of this.#room.open()) {
      if (body.closed) this.#openBase(body);
      for (const [identity, table] of this.#room.classes(body)) {
        this.#enter(body, identity.number, table);
        this.#recorder.classInPlace(body.number, identity.number, table.number);
      }
    }
  }

  #openBase(body: Body): void {
    const before = body.base;
    body.base = this.#room.base(body);
    if (before !== null) this.#tables.give(before);
    if (body.base !== before) this.#recorder.baseInPlace(body.number, body.base?.number ?? null);
  }

  /** Puts a class in the place of what was there. */
  #enter(body: Body, identity: IdentityNumber, table: TableEntry | null): void {
    const before = body.classes.get(identity);
    if (before !== undefined) this.#tables.give(before);
    if (before !== undefined) body.rules.share.give({ classes: 1 });
    if (table === null) {
      body.classes.delete(identity);
      return;
    }
    body.classes.set(identity, table);
    body.rules.share.take({ classes: 1 });
  }

  #dropClass(body: Body, identity: IdentityNumber): void {
    if (!body.classes.has(identity)) return;
    this.#enter(body, identity, null);
    this.#recorder.class(body.number, identity, null);
  }
}
