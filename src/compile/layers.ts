// Layers: a base table for any peer and a class table for each identity that some rule matches. A layer never changes
// its rules; it only gets classes of new identities and loses those of retired ones.

import type { AtomNumber } from '#identity/atoms.ts';
import { push } from '#identity/collect.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import { axisRange } from '#net/axis.ts';
import type { Block } from './active-policy.ts';
import { type Entry, flatten } from './flatten.ts';
import type { Part } from './parts.ts';
import type { IdentityNumber, LayerNumber } from './plan.ts';
import type { Recorder } from './recorder.ts';
import type { RuleEntry, Rules } from './rules.ts';
import type { TableEntry, Tables } from './tables.ts';

/** The default deny of a tier, with its key in the order list. */
export type TierEnd = { readonly rule: RuleEntry; readonly key: number };

/** What one endpoint has of one tier: blocks in order, then perhaps its end. */
export type TierSpec = { readonly blocks: readonly Block[]; readonly end: TierEnd | null };

type Tier = { readonly parts: readonly Part[]; readonly end: TierEnd | null };

/** A part with the index of its tier. */
type PlacedPart = { readonly part: Part; readonly tier: number };

export type LayerEntry = {
  readonly key: string;
  readonly number: LayerNumber;
  readonly tiers: readonly Tier[];
  readonly rules: readonly RuleEntry[];
  readonly base: TableEntry | null;
  readonly classes: Map<IdentityNumber, TableEntry>;
  /** All parts in order. */
  readonly parts: readonly PlacedPart[];
  /** Atoms that class parts ask for, with the places of those parts in `parts`. */
  readonly byAtom: ReadonlyMap<AtomNumber, readonly number[]>;
  /** Every atom that the layer's classes depend on: those, and named ports beside other peer conditions. */
  readonly asks: ReadonlySet<AtomNumber>;
  /** A pass goes on inside the layer: classes hold the base rules too, since what is skipped depends on both. */
  readonly merged: boolean;
  /** A rule other than allow must deny addresses without a known pod (policy-model §5, datapath §2). */
  readonly guarded: boolean;
  uses: number;
};

/** Ports and entry order of a part that matches; class entries come before base entries of the same rule. */
type Matched = { readonly key: string; readonly entry: Entry };

export class Layers {
  readonly #recorder: Recorder;
  readonly #tables: Tables;
  readonly #rules: Rules;
  readonly #identifier: Identifier;
  readonly #byKey = new Map<string, LayerEntry>();
  readonly #byAtom = new Map<AtomNumber, Set<LayerEntry>>();
  readonly #guarded = new Set<LayerEntry>();
  readonly #fresh = new Set<LayerEntry>();
  readonly #idle = new Set<LayerEntry>();
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
  }

  /** One more use of the layer of these tiers; null where they say nothing. Its classes come with `settle`. */
  take(specs: readonly TierSpec[]): LayerEntry | null {
    const key = specs.map(tierKey).join('|');
    const tiers = specs.map((spec) => ({ parts: spec.blocks.flatMap((block) => block.parts), end: spec.end }));
    if (tiers.every((tier) => tier.parts.length === 0 && tier.end === null)) return null;
    const layer = this.#byKey.get(key) ?? this.#make(key, tiers, specs);
    layer.uses++;
    return layer;
  }

  give(layer: LayerEntry): void {
    layer.uses--;
    if (layer.uses === 0) this.#idle.add(layer);
  }

  /** Gives old layers the classes of new identities, and new layers all of theirs. */
  settle(created: readonly IdentityEntry[]): void {
    for (const identity of created) {
      for (const layer of this.#layersOf(identity)) if (!this.#fresh.has(layer)) this.#addClass(layer, identity);
    }
    for (const layer of this.#fresh) this.#fill(layer);
    this.#fresh.clear();
  }

  /** Forgets layers that nothing uses. */
  sweep(): void {
    for (const layer of this.#idle) if (layer.uses === 0) this.#remove(layer);
    this.#idle.clear();
  }

  /** Forgets retired identities. */
  forget(retired: readonly IdentityEntry[]): void {
    for (const identity of retired) {
      for (const layer of this.#byKey.values()) this.#dropClass(layer, identity.number);
    }
  }

  #make(key: string, tiers: readonly Tier[], specs: readonly TierSpec[]): LayerEntry {
    const parts = tiers.flatMap((tier, index) => tier.parts.map((part) => ({ part, tier: index })));
    const rules = specs.flatMap(({ blocks, end }) => [
      ...blocks.flatMap((one) => one.rules),
      ...(end ? [end.rule] : []),
    ]);
    for (const rule of rules) this.#rules.take(rule);
    const number = this.#next++;
    const base = this.#baseTable(tiers);
    const byAtom = placesByAtom(parts);
    const ports = parts.flatMap(({ part }) => (part.port === null ? [] : [part.port.atom]));
    const layer: LayerEntry = {
      ...{ key, number, tiers, rules, base, parts, byAtom, classes: new Map(), uses: 0 },
      asks: new Set([...byAtom.keys(), ...ports]),
      merged: tiers.slice(0, -1).some((tier) => tier.parts.some((part) => part.action === 'pass')),
      guarded: parts.some(({ part }) => (isBase(part) ? isSoft(part) : part.action !== 'allow')),
    };
    this.#recorder.layer(number, base?.number ?? null);
    this.#byKey.set(key, layer);
    for (const atom of layer.byAtom.keys()) this.#byAtom.set(atom, (this.#byAtom.get(atom) ?? new Set()).add(layer));
    if (layer.guarded) this.#guarded.add(layer);
    this.#fresh.add(layer);
    return layer;
  }

  #remove(layer: LayerEntry): void {
    this.#byKey.delete(layer.key);
    this.#guarded.delete(layer);
    this.#fresh.delete(layer);
    for (const atom of layer.byAtom.keys()) {
      const layers = this.#byAtom.get(atom);
      layers?.delete(layer);
      if (layers?.size === 0) this.#byAtom.delete(atom);
    }
    this.#recorder.removeLayer(layer.number);
    if (layer.base !== null) this.#tables.give(layer.base);
    for (const table of layer.classes.values()) this.#tables.give(table);
    for (const rule of layer.rules) this.#rules.give(rule);
  }

  #addClass(layer: LayerEntry, identity: IdentityEntry): TableEntry | null {
    const table = this.#classTable(layer, identity);
    if (table !== null) this.#setClass(layer, identity, table);
    return table;
  }

  #setClass(layer: LayerEntry, identity: IdentityEntry, table: TableEntry): void {
    layer.classes.set(identity.number, table);
    this.#recorder.class(layer.number, identity.number, table.number);
  }

  /** Gives a new layer its classes. Identities that have the same of its atoms share one look at its rules. */
  #fill(layer: LayerEntry): void {
    const known = new Map<string, TableEntry | null>();
    for (const identity of this.#identitiesOf(layer)) {
      const atoms = identity.atoms.filter((atom) => layer.asks.has(this.#identifier.atomOf(atom)));
      const key = identity.unknown ? `u${atoms.join()}` : atoms.join();
      const table = known.get(key);
      if (table === undefined) known.set(key, this.#addClass(layer, identity));
      else if (table !== null) this.#setClass(layer, identity, this.#tables.again(table));
    }
  }

  #dropClass(layer: LayerEntry, identity: IdentityNumber): void {
    const table = layer.classes.get(identity);
    if (table === undefined) return;
    layer.classes.delete(identity);
    this.#recorder.class(layer.number, identity, null);
    this.#tables.give(table);
  }

  #layersOf(identity: IdentityEntry): Set<LayerEntry> {
    const found = new Set<LayerEntry>(identity.unknown ? this.#guarded : []);
    for (const atom of identity.atoms) {
      for (const layer of this.#byAtom.get(this.#identifier.atomOf(atom)) ?? []) found.add(layer);
    }
    return found;
  }

  #identitiesOf(layer: LayerEntry): Set<IdentityEntry> {
    const found = new Set<IdentityEntry>();
    for (const atom of layer.byAtom.keys()) {
      for (const identity of this.#identifier.withAtom(atom)) found.add(identity);
      for (const number of this.#identifier.resolutions(atom)) {
        for (const identity of this.#identifier.withAtom(number)) found.add(identity);
      }
    }
    if (layer.guarded) for (const identity of this.#identifier.identities()) if (identity.unknown) found.add(identity);
    return found;
  }

  #baseTable(tiers: readonly Tier[]): TableEntry | null {
    const matched = tiers.map((tier) => [...tier.parts.filter(isBase).map(baseMatch), ...endMatch(tier)]);
    return this.#table('b', matched, 'last');
  }

  #classTable(layer: LayerEntry, identity: IdentityEntry): TableEntry | null {
    if (layer.guarded && identity.unknown) return this.#guardTable(layer, identity);
    const some: { readonly tier: number; readonly matched: Matched }[] = [];
    for (const place of this.#placesFor(layer, identity)) {
      const { part, tier } = layer.parts[place] ?? NOWHERE;
      for (const matched of part === null ? [] : this.#matchPorts(part, identity)) some.push({ tier, matched });
    }
    if (some.length === 0) return null;
    if (!layer.merged) return this.#table('c', [some.map((one) => one.matched)], 'first');
    const all = layer.tiers.map((tier, index) => {
      const own = some.filter((one) => one.tier === index).map((one) => one.matched);
      const any = tier.parts.filter(isBase).map((part) => matchOf(part, `${part.serial}`, part));
      return [...own, ...any, ...endMatch(tier)];
    });
    return this.#table('m', all, 'first');
  }

  #guardTable(layer: LayerEntry, identity: IdentityEntry): TableEntry | null {
    const match = (part: Part): Matched[] => this.#guardMatch(part, identity);
    const all = layer.tiers.map((tier) => [...tier.parts.flatMap(match), ...endMatch(tier)]);
    return this.#table('u', all, 'first');
  }

  /** Places of the class parts that could match an identity, in order. */
  #placesFor(layer: LayerEntry, identity: IdentityEntry): readonly number[] {
    const places = new Set<number>();
    for (const atom of identity.atoms) {
      for (const place of layer.byAtom.get(this.#identifier.atomOf(atom)) ?? []) places.add(place);
    }
    return [...places].sort((a, b) => a - b);
  }

  /** What a part says to an identity: nothing or one entry. */
  #match(part: Part, identity: IdentityEntry): Matched[] {
    if (part.atoms !== null && !part.atoms.some((atom) => identity.atoms.includes(atom))) return [];
    return this.#matchPorts(part, identity);
  }

  /** The same where the peer matches. */
  #matchPorts(part: Part, identity: IdentityEntry): Matched[] {
    if (part.port === null) return [matchOf(part, `${part.serial}`, part)];
    const { atom, protocol } = part.port;
    const numbers = this.#identifier.portNumbers(identity, atom);
    const ranges = numbers.map((number) => axisRange(protocol, number, number));
    return numbers.length === 0 ? [] : [matchOf(part, `${part.serial}:${numbers.join('.')}`, { ranges })];
  }

  /** The same to an address in a pod block that no known pod has: every rule but allow denies where it could match. */
  #guardMatch(part: Part, identity: IdentityEntry): Matched[] {
    if (part.action === 'allow') return this.#match(part, identity);
    const could = part.atoms === null || part.selects || part.atoms.some((atom) => identity.atoms.includes(atom));
    if (!could) return [];
    const ranges = part.port === null ? part.ranges : [axisRange(part.port.protocol)];
    const { key, entry } = matchOf(part, `${part.serial}`, { ranges });
    return [{ key, entry: { ...entry, action: 'deny' } }];
  }

  #table(kind: string, tiers: readonly (readonly Matched[])[], keep: 'first' | 'last'): TableEntry | null {
    if (tiers.every((tier) => tier.length === 0)) return null;
    const list = kind + tiers.map((tier) => tier.map((one) => one.key).join()).join('|');
    const entries = (): Entry[][] => tiers.map((tier) => tier.map((one) => one.entry));
    return this.#tables.take(list, () => flatten(entries(), keep));
  }
}

const NOWHERE = { part: null, tier: 0 } as const;

function placesByAtom(parts: readonly PlacedPart[]): Map<AtomNumber, number[]> {
  const places = new Map<AtomNumber, number[]>();
  for (const [place, { part }] of parts.entries()) {
    for (const atom of part.atoms ?? (part.port === null ? [] : [part.port.atom])) push(places, atom, place);
  }
  return places;
}

function tierKey(tier: TierSpec): string {
  const end = tier.end === null ? '' : `d${tier.end.rule.number}@${tier.end.key}`;
  return `${tier.blocks.map((block) => block.serial).join()}${end}`;
}

/** Rules for any peer stand in the base table; a named port of an egress rule asks the peer. */
function isBase(part: Part): boolean {
  return part.atoms === null && part.port === null;
}

/** Neither allows nor denies: to an unknown pod it must deny. */
function isSoft(part: Part): boolean {
  return part.action === 'pass' || part.action === 'reject';
}

function matchOf(part: Part, key: string, at: Pick<Part, 'ranges'>): Matched {
  return { key, entry: { ranges: at.ranges, action: part.action, rule: part.rule, order: part.key * 2 } };
}

function baseMatch(part: Part): Matched {
  const { key, entry } = matchOf(part, `${part.serial}`, part);
  return { key, entry: { ...entry, order: entry.order + 1 } };
}

function endMatch(tier: Tier): Matched[] {
  if (tier.end === null) return [];
  const { rule, key } = tier.end;
  const ranges = [{ first: 0, last: 0xff_ffff }];
  const entry: Entry = { ranges, action: 'deny', rule: rule.number, order: key * 2 + 1 };
  return [{ key: `d${rule.number}@${key}`, entry }];
}
