// From the rules of a layer to its tables: the base table for any peer, and the class of each identity.
import type { AtomNumber } from '#identity/atoms.ts';
import { remember } from '#identity/collect.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import { axisRange, WHOLE_AXIS } from '#net/axis.ts';
import { type Entry, flatten } from './flatten.ts';
import type { LayerRules, Tier } from './layer-rules.ts';
import { isBase, orderOf, type Part } from './parts.ts';
import type { Interval, PortTable } from './plan.ts';
import type { TableEntry, Tables } from './tables.ts';

/** Ports and entry order of a part that matches; class entries come before base entries of the same rule. */
type Matched = { readonly key: string; readonly entry: Entry };

/** What matches in each tier; `kind` tells lists of the same rules apart. */
type Lists = {
  readonly kind: string;
  readonly tiers: readonly (readonly Matched[])[];
  readonly keep: 'first' | 'last';
};

/** Lists of so many parts are short. */
const FEW_PARTS = 16;

type PortNumbers = ReturnType<Identifier['portNumbers']>;

/** Parts that could match an identity in some layer, as the layer lists them, and the table that they made. */
type Seen = { readonly parts: readonly Part[]; readonly table: TableEntry | null };

/** What was seen of identities, for layers that are asked for the same ones. */
export type Sight = Map<IdentityEntry, Seen>;

export class LayerTables {
  readonly #tables: Tables;
  readonly #identifier: Identifier;
  /** Tables that a part was put over since `begin`, by the part: identities and layers that are alike share them. */
  readonly #over = new Map<Part, Map<TableEntry | null, TableEntry>>();

  constructor(tables: Tables, identifier: Identifier) {
    this.#tables = tables;
    this.#identifier = identifier;
  }

  /** A batch begins: tables that were made in another one may be gone. */
  begin(): void {
    this.#over.clear();
  }

  /** One more use of the layer's base table; null where no rule is for any peer. */
  base(rules: LayerRules): TableEntry | null {
    const matched = rules.baseTiers().map((tier) => [...tier.parts.map(baseMatch), ...endMatch(tier)]);
    return this.#table(rules, { kind: 'b', tiers: matched, keep: 'last' });
  }

  /** One more use of the table that denies everything, before all rules: for whom there is no room. */
  nothing(rules: LayerRules): TableEntry {
    const rule = rules.denier.number;
    const make = (): PortTable => [{ ...WHOLE_AXIS, action: 'deny', rule, order: 0 }];
    return this.#tables.take({ list: `n${rule}`, ranges: 1, make }, rules.share);
  }

  /** One more use of the table of an identity; null where no rule is for some peers and matches it. */
  class(rules: LayerRules, identity: IdentityEntry): TableEntry | null {
    if (rules.guarded && identity.unknown) return this.#guardTable(rules, identity);
    return this.#classOf(rules, identity, this.#partsFor(rules, identity));
  }

  /** The same where other layers are asked for it, too: parts that are the same in both are put together once. */
  classSeen(rules: LayerRules, identity: IdentityEntry, sight: Sight): TableEntry | null {
    if (rules.merged || (rules.guarded && identity.unknown)) return this.class(rules, identity);
    const seen = sight.get(identity);
    if (seen !== undefined && this.#areFor(identity, rules, seen.parts)) {
      if (seen.table === null) return null;
      // One without uses was made beyond a share, and is gone.
      if (seen.table.uses > 0) return this.#tables.again(seen.table);
    }
    const parts = this.#partsFor(rules, identity);
    const table = this.#classOf(rules, identity, [...parts]);
    sight.set(identity, { parts, table });
    return table;
  }

  /** `found`: the parts that could match the identity. They are sorted. */
  #classOf(rules: LayerRules, identity: IdentityEntry, found: Part[]): TableEntry | null {
    const parts = inOrder(found);
    if (parts.length === 0) return null;
    if (parts.every((part) => part.port === null) && !rules.merged) return this.#plainTable(rules, parts);
    const numbers = this.#identifier.portNumbers(identity);
    const some = parts.map((part) => ({ part, matched: matchPorts(part, numbers) }));
    const own = some.flatMap(({ matched }) => matched);
    if (own.length === 0) return null;
    if (!rules.merged) return this.#table(rules, { kind: 'c', tiers: [own], keep: 'first' });
    const matchedBy = new Map(some.map(({ part, matched }) => [part, matched]));
    const all = rules.tiers.map((tier) => {
      const any = tier.parts.filter(isBase).map((part) => matchOf(part, `${part.serial}`, part));
      return [...tier.parts.flatMap((part) => matchedBy.get(part) ?? []), ...any, ...endMatch(tier)];
    });
    return this.#table(rules, { kind: 'm', tiers: all, keep: 'first' });
  }

  /**
   * One more use of the table of an identity that has all that another one has, whose table is known, and more: the
   * rules that ask for that are put over the table. Undefined where more has to be known than the table.
   */
  gained(
    rules: LayerRules,
    { identity, known }: { readonly identity: IdentityEntry; readonly known: TableEntry | null },
    atoms: readonly AtomNumber[],
  ): TableEntry | null | undefined {
    if (rules.merged || (rules.guarded && identity.unknown)) return undefined;
    const parts: Part[] = [];
    for (const atom of atoms) {
      if (rules.resolves(atom)) return undefined;
      for (const part of rules.asking(atom)) {
        if (part.port !== null) return undefined;
        parts.push(part);
      }
    }
    const [part, ...others] = parts;
    if (part === undefined) return known && this.#tables.again(known);
    if (others.length > 0) return this.#put(rules, known, [...new Set(parts)]);
    const over = remember(this.#over, part, () => new Map<TableEntry | null, TableEntry>());
    const found = over.get(known);
    // One without uses was made beyond a share, and is gone.
    if (found !== undefined && found.uses > 0) return this.#tables.again(found);
    const table = this.#put(rules, known, parts);
    over.set(known, table);
    return table;
  }

  /** One more use of a table with parts put over it, none of which asks for a named port. */
  #put(rules: LayerRules, known: TableEntry | null, parts: readonly Part[]): TableEntry {
    const own = parts.map((part) => matchOf(part, `${part.serial}`, part));
    const before = this.#tables.contentOf(known);
    const list = `${known?.number ?? 0}+${own.map(({ key }) => key).join()}`;
    const make = (): PortTable => flatten([[...before.map(entryOf), ...own.map(({ entry }) => entry)]], 'first');
    return this.#tables.take({ list, ranges: before.length + rangesOf([own]), make }, rules.share);
  }

  /** Takes the tables of one identity after the other. Those that have the same of the atoms share one look at the rules. */
  classes(rules: LayerRules): (identity: IdentityEntry) => TableEntry | null {
    const known = new Map<string, TableEntry | null>();
    return (identity) => {
      const atoms = identity.atoms.filter((atom) => rules.dependsOn(this.#identifier.atomOf(atom)));
      const key = `${identity.unknown ? 'u' : ''}${atoms.join()}`;
      const found = known.get(key);
      if (found !== undefined) return found && this.#tables.again(found);
      const table = this.class(rules, identity);
      known.set(key, table);
      return table;
    };
  }

  /** What nearly every class is: no named ports, no pass inside the layer. Its table is mostly known: entries wait for a new one. */
  #plainTable(rules: LayerRules, matched: readonly Part[]): TableEntry {
    const parts = heard(matched);
    let ranges = 0;
    for (const part of parts) ranges += part.ranges.length;
    const make = (): PortTable => flatten([parts.map((part) => matchOf(part, '', part).entry)], 'first');
    return this.#tables.take({ list: `c${parts.map(({ serial }) => serial).join()}`, ranges, make }, rules.share);
  }

  #guardTable(rules: LayerRules, identity: IdentityEntry): TableEntry | null {
    const match = (part: Part): Matched[] => this.#guardMatch(part, identity);
    const all = rules.tiers.map((tier) => [...tier.parts.flatMap(match), ...endMatch(tier)]);
    return this.#table(rules, { kind: 'u', tiers: all, keep: 'first' });
  }

  /** The class parts that could match an identity; one that asks for several of its atoms is there as often. */
  #partsFor(rules: LayerRules, identity: IdentityEntry): Part[] {
    const parts: Part[] = [];
    for (const atom of identity.atoms) {
      for (const part of rules.asking(this.#identifier.atomOf(atom))) parts.push(part);
    }
    return parts;
  }

  /** True where these are the parts that could match an identity. */
  #areFor(identity: IdentityEntry, rules: LayerRules, parts: readonly Part[]): boolean {
    let at = 0;
    for (const atom of identity.atoms) {
      const asking = rules.asking(this.#identifier.atomOf(atom));
      for (let index = 0; index < asking.length; index++, at++) if (parts[at] !== asking[index]) return false;
    }
    return at === parts.length;
  }

  /** What a part says to an identity: nothing or one entry. */
  #match(part: Part, identity: IdentityEntry): Matched[] {
    if (part.atoms !== null && !part.atoms.some((atom) => identity.atoms.includes(atom))) return [];
    return matchPorts(part, this.#identifier.portNumbers(identity));
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

  #table(rules: LayerRules, { kind, tiers, keep }: Lists): TableEntry | null {
    if (tiers.every((tier) => tier.length === 0)) return null;
    const list = kind + tiers.map((tier) => tier.map((one) => one.key).join()).join('|');
    const make = (): PortTable => flatten(entriesOf(tiers), keep);
    return this.#tables.take({ list, ranges: rangesOf(tiers), make }, rules.share);
  }
}

/** Sorts parts, and returns each once. */
function inOrder(parts: Part[]): readonly Part[] {
  sort(parts);
  return parts.some((part, index) => part === parts[index - 1])
    ? parts.filter((part, index) => part !== parts[index - 1])
    : parts;
}

/** An array's own `sort` makes copies, and most lists are of a few parts. */
function sort(parts: Part[]): void {
  if (parts.length > FEW_PARTS) {
    parts.sort((a, b) => a.key - b.key || a.serial - b.serial);
    return;
  }
  for (let index = 1; index < parts.length; index++) {
    const part = parts[index] as Part;
    let at = index;
    for (; at > 0 && isBefore(part, parts[at - 1] as Part); at--) parts[at] = parts[at - 1] as Part;
    parts[at] = part;
  }
}

function isBefore(one: Part, other: Part): boolean {
  return one.key < other.key || (one.key === other.key && one.serial < other.serial);
}

/**
 * Without parts that an earlier one leaves nothing to say: of lists that differ in those alone, one is flattened. Looked
 * at are parts of one range, and the first ranges of the first few.
 */
function heard(parts: readonly Part[]): readonly Part[] {
  const found: Part[] = [];
  for (const part of parts) if (!isSilenced(part, found)) found.push(part);
  return found;
}

function isSilenced(part: Part, earlier: readonly Part[]): boolean {
  const [range] = part.ranges;
  if (range === undefined || part.ranges.length > 1) return false;
  const end = Math.min(earlier.length, FEW_PARTS);
  for (let index = 0; index < end; index++) {
    const before = earlier[index]?.ranges[0];
    if (before !== undefined && before.first <= range.first && range.last <= before.last) return true;
  }
  return false;
}

function entriesOf(tiers: Lists['tiers']): Entry[][] {
  return tiers.map((tier) => tier.map((one) => one.entry));
}

/** What a table says in an interval, as if one rule said it. */
function entryOf(interval: Interval): Entry {
  return { ...interval, ranges: [interval] };
}

function rangesOf(tiers: Lists['tiers']): number {
  let ranges = 0;
  for (const tier of tiers) for (const { entry } of tier) ranges += entry.ranges.length;
  return ranges;
}

/** What a part says to a peer that it matches, by the numbers that named ports have there. */
function matchPorts(part: Part, named: PortNumbers): Matched[] {
  if (part.port === null) return [matchOf(part, `${part.serial}`, part)];
  const { atom, protocol } = part.port;
  const numbers = named.get(atom) ?? [];
  const ranges = numbers.map((number) => axisRange(protocol, number, number));
  return numbers.length === 0 ? [] : [matchOf(part, `${part.serial}:${numbers.join('.')}`, { ranges })];
}

function matchOf(part: Part, key: string, at: Pick<Part, 'ranges'>): Matched {
  return { key, entry: { ranges: at.ranges, action: part.action, rule: part.rule, order: orderOf(part) } };
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
