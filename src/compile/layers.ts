// Layers: a base table for any peer and a class table for each identity that some rule matches. Layers are shared by
// the content of their rules. One whose rules change for everybody who has it changes in place where that is safe.

import type { AtomNumber } from '#identity/atoms.ts';
import type { IdentityChanges } from '#identity/changes.ts';
import { push, remember } from '#identity/collect.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import { type IsOwn, isBetween, type Pair, sayTheSame } from './between.ts';
import { ByIdentity } from './by-identity.ts';
import { type Body, type Changes, LayerClasses, type View } from './layer-classes.ts';
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
import { originOf } from './origin.ts';
import type { IdentityNumber, LayerNumber, PortTable } from './plan.ts';
import type { Recorder } from './recorder.ts';
import { Room } from './room.ts';
import type { RuleEntry, Rules } from './rules.ts';
import type { Share } from './shares.ts';
import type { Shortage } from './shortage.ts';
import type { TableEntry, Tables } from './tables.ts';

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
  readonly classes: Changes;
};

/** What changed besides rules: identities that are new, or have more atoms. `most`: see `settle`. */
type Batch = {
  readonly newcomers: ReadonlySet<IdentityEntry>;
  readonly gainers: ReadonlySet<IdentityEntry>;
  readonly most: number;
};

type Living = { readonly entries: readonly IdentityEntry[]; readonly numbers: ReadonlySet<IdentityNumber> };

const NO_CLASSES: Changes = new Map();
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
  readonly #classes: LayerClasses;
  readonly #fresh = new Set<LayerEntry>();
  readonly #idle = new Set<LayerEntry>();
  /** Rules that layers changed in place had until now. */
  readonly #left: RuleEntry[] = [];
  /** Of identities that a change of rules is about, those whose class packets may meet: once for all layers of a batch. */
  readonly #living = new Map<ReadonlySet<IdentityEntry>, Living>();
  /** Layers whose last class followed since the last `takeFollowed`. */
  readonly #followed = new Set<LayerNumber>();
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
    const own = { contents: this.#contents, room: this.#room, index: this.#index };
    this.#classes = new LayerClasses({ ...uses, ...own });
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

  /**
   * Gives new layers their tables, in place of those they follow where that is safe, and all layers the new identities.
   * `most`: where more classes of a layer in use change than that, they stay behind until `catchUp`.
   * Returns whether some do.
   */
  settle(
    { created, gained }: Pick<IdentityChanges, 'created' | 'gained'>,
    successions: Successions,
    most: number = Number.POSITIVE_INFINITY,
  ): boolean {
    const newcomers = new Set(created);
    const gainers = new Set(gained.map(({ identity }) => identity));
    let fellBehind = false;
    this.#tables.publish();
    this.#contents.begin();
    for (const layer of this.#fresh) {
      const before = successions.get(layer);
      if (before === undefined) continue;
      const follows = this.#follow(layer, before, { newcomers, gainers, most });
      if (follows !== 'no') this.#fresh.delete(layer);
      fellBehind ||= follows === 'later';
    }
    // Before others take over the classes of those that gained.
    for (const { identity, atom } of gained) {
      if (newcomers.has(identity)) continue;
      const asked = this.#identifier.atomOf(atom);
      for (const body of this.#index.layersOf(identity))
        if (body.rules.dependsOn(asked)) this.#classes.gain(body, identity, asked);
    }
    for (const identity of created) {
      const origin = originOf(identity, newcomers, this.#identifier);
      for (const body of this.#index.layersOf(identity)) this.#classes.add(body, identity, origin);
    }
    for (const layer of this.#fresh) this.#publish(layer, successions.get(layer)?.body ?? null);
    this.#fresh.clear();
    this.#index.settled();
    this.#living.clear();
    this.#classes.settled();
    return fellBehind;
  }

  /** True while classes are behind the rules of their layers. */
  get isBehind(): boolean {
    return !this.#classes.behind.isEmpty;
  }

  /** Lets up to so many classes follow. */
  catchUp(most: number): void {
    this.#tables.publish();
    this.#contents.begin();
    for (const [body, identities] of this.#classes.behind.next(most)) this.#classes.renew(body, identities);
  }

  /** Lets all classes of some layers follow: somebody is about to have these layers who had others before. */
  complete(layers: Iterable<LayerEntry>): void {
    for (const { body } of layers) if (body !== null) this.#classes.renew(body, [...this.#classes.behind.of(body)]);
  }

  /** The layers whose last class followed since the last call. */
  takeFollowed(): ReadonlySet<LayerNumber> {
    const followed = new Set(this.#followed);
    this.#followed.clear();
    return followed;
  }

  /** Whose policies find no room for all their tables. */
  get shortages(): readonly Shortage[] {
    return this.#room.shortages;
  }

  /** Forgets layers that nothing uses. */
  sweep(): void {
    for (const layer of this.#idle) if (layer.uses === 0) this.#remove(layer);
    this.#idle.clear();
    for (const [{ number }, rules] of this.#classes.behind.take()) {
      this.#left.push(...rules);
      this.#followed.add(number);
    }
    for (const rule of this.#left) this.#rules.give(rule);
    this.#left.length = 0;
  }

  /** Forgets retired identities. */
  forget(retired: readonly IdentityEntry[]): void {
    for (const identity of retired) {
      for (const body of this.#bodies) this.#classes.drop(body, identity.number);
      this.#classes.behind.forget(identity.number);
      this.#room.forget(identity);
    }
  }

  #make(key: string, specs: readonly TierSpec[], share: Share): LayerEntry {
    const layer: LayerEntry = { serial: this.#serial++, key, specs, share, body: null, uses: 0 };
    push(this.#byKey, key, layer);
    share.layers++;
    this.#fresh.add(layer);
    return layer;
  }

  /** `before`: what the layer takes the place of, where that did not change in place. */
  #publish(layer: LayerEntry, before: Body | null): void {
    const rules = new LayerRules(layer.specs, layer.share);
    for (const rule of rules.entries()) this.#rules.take(rule);
    const own = { classes: new ByIdentity<TableEntry>(), lacking: new Set<IdentityEntry>(), closed: false };
    const body: Body = { number: this.#next++, rules, base: null, ...own };
    body.base = this.#room.base(body);
    layer.body = body;
    this.#recorder.layer(body.number, body.base?.number ?? null);
    this.#index.update(body, rules.atoms());
    this.#classes.fill(body, before === null ? [...this.#bodies].slice(-RECENT) : [before]);
    this.#bodies.add(body);
  }

  #remove(layer: LayerEntry): void {
    layer.share.layers--;
    const others = (this.#byKey.get(layer.key) ?? []).filter((one) => one !== layer);
    if (others.length === 0) this.#byKey.delete(layer.key);
    else this.#byKey.set(layer.key, others);
    this.#fresh.delete(layer);
    const { body } = layer;
    if (body === null) return;
    this.#bodies.delete(body);
    this.#left.push(...this.#classes.behind.remove(body));
    this.#room.remove(body);
    this.#index.remove(body);
    this.#recorder.removeLayer(body.number);
    if (body.base !== null) this.#tables.give(body.base);
    for (const table of body.classes.values()) this.#tables.give(table);
    body.rules.share.give({ classes: body.classes.size });
    for (const rule of body.rules.entries()) this.#rules.give(rule);
  }

  /** Makes the body of one layer that of the next. 'no' where a packet in between could see what neither says. */
  #follow(layer: LayerEntry, before: LayerEntry, { newcomers, gainers, most }: Batch): 'no' | 'now' | 'later' {
    const { body } = before;
    if (body === null) return 'no';
    const wasMerged = body.rules.merged;
    const guarded = body.rules.guarded;
    const change = body.rules.change(layer.specs);
    const merged = wasMerged || body.rules.merged;
    const atoms = new Set([...change.parts.gone, ...change.parts.come].flatMap(askedBy));
    const known = this.#touched(body, change, { atoms, all: merged, unknown: guarded });
    const base = this.#baseAfter(body, change);
    const isOwn = this.#rules.ownAmong(change.entries.come);
    const contentOf = (table: TableEntry | null): PortTable => this.#tables.contentOf(table);
    const isQuiet = base === body.base || sayTheSame(contentOf(body.base), contentOf(base), isOwn);
    // Under another base, what is behind could say what neither the rules before nor those now say.
    const late = isQuiet ? [] : this.#classes.entries(this.#classes.behind.of(body));
    const touched = late.length === 0 ? known : new Set([...known, ...late]);
    const living = remember(this.#living, touched, () => livingOf(touched, newcomers));
    const waits = isQuiet && living.entries.length > most;
    const view = (): View => this.#classes.viewOf(change.parts, merged ? 'merged' : gainers);
    const update: Update = { base, classes: waits ? NO_CLASSES : this.#classes.after(body, living.entries, view()) };
    if (!isQuiet && !this.#isSafe(body, update, { onlyBase: atoms.size === 0, newcomers, isOwn })) {
      body.rules.change(before.specs);
      this.#giveUpdate(update);
      return 'no';
    }
    before.body = null;
    layer.body = body;
    for (const rule of change.entries.come) this.#rules.take(rule);
    if (waits) this.#classes.behind.add(body, living.numbers, change.entries.gone);
    else this.#left.push(...change.entries.gone);
    this.#index.update(body, atoms);
    this.#write(body, update);
    return waits ? 'later' : 'now';
  }

  /** Identities whose class may be another one after a change of rules. */
  #touched(
    body: Body,
    change: RulesChange,
    about: { readonly atoms: ReadonlySet<AtomNumber>; readonly all: boolean; readonly unknown: boolean },
  ): ReadonlySet<IdentityEntry> {
    const { gone, come } = change.parts;
    const isAll = about.all && (change.base || gone.length > 0 || come.length > 0);
    const atoms = isAll ? new Set([...about.atoms, ...body.rules.atoms()]) : about.atoms;
    return this.#index.identitiesWith(atoms, about.unknown || body.rules.guarded);
  }

  /** One more use of the base table after a change of rules. */
  #baseAfter(body: Body, change: RulesChange): TableEntry | null {
    if (change.base) return this.#room.base(body);
    return body.base && this.#tables.again(body.base);
  }

  /**
   * Classes change before the base does, each in one write, so what a packet may see beside old and new is an old base
   * with a new class. Identities created with the change have their new class from the start.
   */
  #isSafe(
    body: Body,
    { base, classes }: Update,
    { onlyBase, newcomers, isOwn }: Pick<Batch, 'newcomers'> & { readonly onlyBase: boolean; readonly isOwn: IsOwn },
  ): boolean {
    const bases = { old: this.#tables.contentOf(body.base), now: this.#tables.contentOf(base) };
    for (const [identity, table] of classes) {
      const old = this.#tables.contentOf(body.classes.get(identity.number) ?? null);
      const now = this.#tables.contentOf(table);
      const pair = (base: PortTable, own: PortTable): Pair => ({ base, class: own });
      if (!isBetween(pair(bases.old, now), pair(bases.old, old), pair(bases.now, now), isOwn)) return false;
    }
    return newcomers.size === 0 || (onlyBase && !body.rules.merged && !body.rules.guarded);
  }

  #giveUpdate({ base, classes }: Update): void {
    if (base !== null) this.#tables.give(base);
    for (const table of classes.values()) if (table !== null) this.#tables.give(table);
  }

  #write(body: Body, { base, classes }: Update): void {
    this.#classes.write(body, classes);
    if (body.base !== null) this.#tables.give(body.base);
    if (base !== body.base) this.#recorder.baseInPlace(body.number, base?.number ?? null);
    body.base = base;
  }

  /** What lacks room is tried again where some was given back. */
  retry(): void {
    for (const body of this.#room.open()) {
      if (body.closed) this.#openBase(body);
      for (const [identity, table] of this.#room.classes(body)) this.#classes.write(body, new Map([[identity, table]]));
    }
  }

  #openBase(body: Body): void {
    this.#classes.renew(body, [...this.#classes.behind.of(body)]);
    const before = body.base;
    body.base = this.#room.base(body);
    if (before !== null) this.#tables.give(before);
    if (body.base !== before) this.#recorder.baseInPlace(body.number, body.base?.number ?? null);
  }
}

/** Those that somebody has, and had before. */
function livingOf(touched: ReadonlySet<IdentityEntry>, newcomers: ReadonlySet<IdentityEntry>): Living {
  const entries = [...touched].filter((identity) => identity.members > 0 && !newcomers.has(identity));
  return { entries, numbers: new Set(entries.map(({ number }) => number)) };
}
