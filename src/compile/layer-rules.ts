// The rules of one layer, and what its tables have to know of them. They change by whole blocks.
import type { AtomNumber } from '#identity/atoms.ts';
import { push, remember } from '#identity/collect.ts';
import { type Block, NO_BLOCKS } from './active-policy.ts';
import { isBase, type Part } from './parts.ts';
import type { RuleEntry } from './rules.ts';
import type { Share } from './shares.ts';
import type { Difference, SortedList } from './sorted-list.ts';

/** The default deny of a tier, with its key in the order list. */
export type TierEnd = { readonly rule: RuleEntry; readonly key: number };

/** What one endpoint has of the tier at a position: blocks in order, then perhaps its end. */
export type TierSpec = {
  readonly position: number;
  readonly blocks: SortedList<Block>;
  readonly end: TierEnd | null;
};

export type Tier = { readonly parts: readonly Part[]; readonly end: TierEnd | null };

/** What a change of rules did. `entries`: those of blocks and ends. `base`: the base table may be another one. */
export type RulesChange = {
  readonly parts: Difference<Part>;
  readonly entries: Difference<RuleEntry>;
  readonly base: boolean;
};

const NO_PARTS: readonly Part[] = [];

/** What is known of the parts of one tier. */
type TierParts = {
  /** Those for any peer, in order. */
  readonly base: Part[];
  /** How many of its parts pass on to the next tier. */
  passes: number;
};

export class LayerRules {
  /** Whose room the tables take. */
  readonly share: Share;
  #specs: readonly TierSpec[] = [];
  /** Made when asked for. */
  #tiers: readonly Tier[] | null = null;
  readonly #byPosition = new Map<number, TierParts>();
  readonly #byAtom = new Map<AtomNumber, Part[]>();
  /** Named ports, with the number of parts that have each. */
  readonly #ports = new Map<AtomNumber, number>();
  /** Parts that pass. */
  #passes = 0;
  /** Parts that make the layer guarded. */
  #guards = 0;
  #baseRanges = 0;
  #size = 0;

  constructor(specs: readonly TierSpec[], share: Share) {
    this.share = share;
    this.change(specs);
  }

  *blocks(): Generator<Block> {
    for (const { blocks } of this.#specs) yield* blocks;
  }

  /** How many parts there are. */
  get size(): number {
    return this.#size;
  }

  get tiers(): readonly Tier[] {
    this.#tiers ??= this.#specs.map(({ blocks, end }) => ({ parts: [...blocks].flatMap(({ parts }) => parts), end }));
    return this.#tiers;
  }

  /** The rules for any peer, and the ends. */
  baseTiers(): Tier[] {
    return this.#specs.map(({ position, end }) => ({ parts: this.#byPosition.get(position)?.base ?? NO_PARTS, end }));
  }

  /** How many port ranges the rules for any peer have. */
  get baseRanges(): number {
    return this.#baseRanges;
  }

  /** A pass goes on inside the layer: classes hold the base rules too, since what is skipped depends on both. */
  get merged(): boolean {
    if (this.#passes === 0) return false;
    const last = this.#specs.at(-1)?.position;
    for (const [position, { passes }] of this.#byPosition) if (passes > 0 && position !== last) return true;
    return false;
  }

  /** A rule other than allow must deny addresses without a known pod (policy-model §5, datapath §2). */
  get guarded(): boolean {
    return this.#guards > 0;
  }

  /** Atoms that class parts ask for. */
  atoms(): IterableIterator<AtomNumber> {
    return this.#byAtom.keys();
  }

  hasAtom(atom: AtomNumber): boolean {
    return this.#byAtom.has(atom);
  }

  /** Class parts that ask for an atom. */
  asking(atom: AtomNumber): readonly Part[] {
    return this.#byAtom.get(atom) ?? NO_PARTS;
  }

  /** True where classes depend on an atom: parts ask for it, or it is a named port beside other peer conditions. */
  dependsOn(atom: AtomNumber): boolean {
    return this.#byAtom.has(atom) || this.#ports.has(atom);
  }

  /** True for a named port that parts ask for, with other conditions or alone. */
  resolves(atom: AtomNumber): boolean {
    return this.#ports.has(atom);
  }

  /** All rules that the layer has, those of its ends too; one may stand there more than once. */
  entries(): RuleEntry[] {
    return entriesOf(this.blocks(), this.#specs);
  }

  /** Whom to name where everything is denied: a default deny, or any rule. */
  get denier(): RuleEntry {
    for (const { end } of this.#specs) if (end !== null) return end.rule;
    for (const { rules } of this.blocks()) if (rules[0] !== undefined) return rules[0];
    throw new Error('a layer has neither rule nor end');
  }

  /** The parts that only one of two layers has. */
  partsBeside(other: LayerRules): Part[] {
    const { gone, come } = blocksBetween(other.#specs, this.#specs);
    return [...gone, ...come].flatMap(({ parts }) => parts);
  }

  /** Takes other rules in place of its own. */
  change(specs: readonly TierSpec[]): RulesChange {
    const before = this.#specs;
    this.#specs = specs;
    this.#tiers = null;
    const blocks = blocksBetween(before, specs);
    const parts: { readonly gone: Part[]; readonly come: Part[] } = { gone: [], come: [] };
    for (const { parts: own, place } of blocks.gone)
      for (const part of own) parts.gone.push(this.#remove(part, place.item.position));
    for (const { parts: own, place } of blocks.come)
      for (const part of own) parts.come.push(this.#add(part, place.item.position));
    const entries = { gone: entriesOf(blocks.gone, before), come: entriesOf(blocks.come, specs) };
    const base = endsOf(before) !== endsOf(specs) || parts.gone.some(isBase) || parts.come.some(isBase);
    return { parts, entries, base };
  }

  #add(part: Part, position: number): Part {
    this.#size++;
    if (isGuard(part)) this.#guards++;
    const tier = remember(this.#byPosition, position, () => ({ base: [], passes: 0 }));
    if (part.action === 'pass') {
      tier.passes++;
      this.#passes++;
    }
    if (isBase(part)) {
      tier.base.splice(placeOf(tier.base, part), 0, part);
      this.#baseRanges += part.ranges.length;
    }
    if (part.port !== null) this.#ports.set(part.port.atom, (this.#ports.get(part.port.atom) ?? 0) + 1);
    for (const atom of askedBy(part)) push(this.#byAtom, atom, part);
    return part;
  }

  #remove(part: Part, position: number): Part {
    this.#size--;
    if (isGuard(part)) this.#guards--;
    const tier = remember(this.#byPosition, position, () => ({ base: [], passes: 0 }));
    if (part.action === 'pass') {
      tier.passes--;
      this.#passes--;
    }
    if (isBase(part)) {
      tier.base.splice(tier.base.indexOf(part, placeOf(tier.base, part)), 1);
      this.#baseRanges -= part.ranges.length;
    }
    if (part.port !== null) this.#dropPort(part.port.atom);
    for (const atom of askedBy(part)) {
      const parts = this.#byAtom.get(atom) ?? [];
      parts.splice(parts.indexOf(part), 1);
      if (parts.length === 0) this.#byAtom.delete(atom);
    }
    return part;
  }

  #dropPort(atom: AtomNumber): void {
    const left = (this.#ports.get(atom) ?? 1) - 1;
    if (left === 0) this.#ports.delete(atom);
    else this.#ports.set(atom, left);
  }
}

/** The first place among sorted parts that none before the part has. */
function placeOf(parts: readonly Part[], { key }: Part): number {
  let low = 0;
  let high = parts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((parts[middle]?.key ?? 0) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The atoms one of which a peer must have, or none for a part of the base table. */
export function askedBy(part: Part): readonly AtomNumber[] {
  return part.atoms ?? (part.port === null ? [] : [part.port.atom]);
}

/** In the base table a deny denies unknown pods as well; pass and reject would not. */
function isGuard(part: Part): boolean {
  const { action } = part;
  return isBase(part) ? action === 'pass' || action === 'reject' : action !== 'allow';
}

function entriesOf(blocks: Iterable<Block>, specs: readonly TierSpec[]): RuleEntry[] {
  const entries: RuleEntry[] = [];
  for (const { rules } of blocks) for (const rule of rules) entries.push(rule);
  for (const { end } of specs) if (end !== null) entries.push(end.rule);
  return entries;
}

/** Blocks of tiers before that are not in those now, and the other way round. */
function blocksBetween(before: readonly TierSpec[], now: readonly TierSpec[]): Difference<Block> {
  const gone: Block[] = [];
  const come: Block[] = [];
  for (const { position, blocks } of now) {
    const between = blocks.since(blocksAt(before, position));
    for (const block of between.gone) gone.push(block);
    for (const block of between.come) come.push(block);
  }
  for (const { position, blocks } of before) {
    if (blocksAt(now, position) === NO_BLOCKS) for (const block of blocks) gone.push(block);
  }
  return { gone, come };
}

function blocksAt(specs: readonly TierSpec[], position: number): TierSpec['blocks'] {
  return specs.find((spec) => spec.position === position)?.blocks ?? NO_BLOCKS;
}

/** True where a tier has neither rules nor an end. */
export function saysNothing({ blocks, end }: TierSpec): boolean {
  if (end !== null) return false;
  for (const { parts } of blocks) if (parts.length > 0) return false;
  return true;
}

/** A text that is equal for equal tiers, and seldom for others: `sameTiers` tells. */
export function tiersKey(specs: readonly TierSpec[]): string {
  return specs.map(({ blocks, end }) => `${blocks.hash}${endKey(end)}`).join('|');
}

/** True where two lists of tiers have the same rules. */
export function sameTiers(a: readonly TierSpec[], b: readonly TierSpec[]): boolean {
  return a.length === b.length && a.every((one, at) => isSameTier(one, b[at]));
}

function isSameTier(one: TierSpec, other: TierSpec | undefined): boolean {
  return other !== undefined && endKey(one.end) === endKey(other.end) && one.blocks.equals(other.blocks);
}

function endsOf(specs: readonly TierSpec[]): string {
  return specs.map(({ end }) => endKey(end)).join('|');
}

function endKey(end: TierEnd | null): string {
  return end === null ? '' : `d${end.rule.number}@${end.key}`;
}
