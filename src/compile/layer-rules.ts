// The rules of one layer, and what its tables have to know of them. They change by whole blocks.
import type { AtomNumber } from '#identity/atoms.ts';
import { push } from '#identity/collect.ts';
import type { Block } from './active-policy.ts';
import { isBase, type Part } from './parts.ts';
import type { RuleEntry } from './rules.ts';
import { hashOf, sameList } from './same.ts';
import type { Share } from './shares.ts';

/** The default deny of a tier, with its key in the order list. */
export type TierEnd = { readonly rule: RuleEntry; readonly key: number };

/** What one endpoint has of one tier: blocks in order, then perhaps its end. */
export type TierSpec = { readonly blocks: readonly Block[]; readonly end: TierEnd | null };

export type Tier = { readonly parts: readonly Part[]; readonly end: TierEnd | null };

/** What a change of rules did. `base`: the base table may be another one. */
export type RulesChange = {
  /** All that came or went. */
  readonly parts: readonly Part[];
  /** Entries of blocks and ends that came, and of those that went. */
  readonly come: readonly RuleEntry[];
  readonly gone: readonly RuleEntry[];
  readonly base: boolean;
};

const NO_PARTS: readonly Part[] = [];

export class LayerRules {
  /** Whose room the tables take. */
  readonly share: Share;
  #specs: readonly TierSpec[] = [];
  #blocks: readonly Block[] = [];
  /** Made when asked for. */
  #tiers: readonly Tier[] | null = null;
  readonly #byAtom = new Map<AtomNumber, Part[]>();
  /** Named ports, with the number of parts that have each. */
  readonly #ports = new Map<AtomNumber, number>();
  /** Parts that make the layer guarded. */
  #guards = 0;
  #merged = false;

  constructor(specs: readonly TierSpec[], share: Share) {
    this.share = share;
    this.change(specs);
  }

  get specs(): readonly TierSpec[] {
    return this.#specs;
  }

  get tiers(): readonly Tier[] {
    this.#tiers ??= this.#specs.map(({ blocks, end }) => ({ parts: blocks.flatMap((block) => block.parts), end }));
    return this.#tiers;
  }

  /** The rules for any peer, and the ends. */
  baseTiers(): Tier[] {
    return this.#specs.map(({ blocks, end }) => {
      const parts: Part[] = [];
      for (const { base } of blocks) for (const part of base) parts.push(part);
      return { parts, end };
    });
  }

  /** How many port ranges the rules for any peer have. */
  get baseRanges(): number {
    let ranges = 0;
    for (const { base } of this.#blocks) for (const part of base) ranges += part.ranges.length;
    return ranges;
  }

  /** A pass goes on inside the layer: classes hold the base rules too, since what is skipped depends on both. */
  get merged(): boolean {
    return this.#merged;
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

  /** All rules that the layer has, those of its ends too; one may stand there more than once. */
  entries(): RuleEntry[] {
    return entriesOf(this.#blocks, this.#specs);
  }

  /** Whom to name where everything is denied: a default deny, or any rule. */
  get denier(): RuleEntry {
    const rule =
      this.#specs.find(({ end }) => end !== null)?.end?.rule ?? this.#blocks.flatMap(({ rules }) => rules)[0];
    if (rule === undefined) throw new Error('a layer has neither rule nor end');
    return rule;
  }

  /** Takes other rules in place of its own. */
  change(specs: readonly TierSpec[]): RulesChange {
    const before = { blocks: this.#blocks, specs: this.#specs };
    this.#specs = specs;
    const [only, ...others] = specs;
    this.#blocks = only !== undefined && others.length === 0 ? only.blocks : specs.flatMap(({ blocks }) => blocks);
    this.#tiers = null;
    this.#merged = specs.slice(0, -1).some(({ blocks }) => blocks.some(({ parts }) => parts.some(isPass)));
    const { gone, come } = blocksBetween(before.blocks, this.#blocks);
    const removed = gone.flatMap((block) => block.parts);
    const added = come.flatMap((block) => block.parts);
    for (const part of removed) this.#remove(part);
    for (const part of added) this.#add(part);
    const parts = [...removed, ...added];
    const base = endsOf(before.specs) !== endsOf(specs) || parts.some(isBase);
    return { parts, come: entriesOf(come, specs), gone: entriesOf(gone, before.specs), base };
  }

  #add(part: Part): void {
    if (isGuard(part)) this.#guards++;
    if (part.port !== null) this.#ports.set(part.port.atom, (this.#ports.get(part.port.atom) ?? 0) + 1);
    for (const atom of new Set(askedBy(part))) push(this.#byAtom, atom, part);
  }

  #remove(part: Part): void {
    if (isGuard(part)) this.#guards--;
    if (part.port !== null) this.#dropPort(part.port.atom);
    for (const atom of new Set(askedBy(part))) {
      const parts = this.#byAtom.get(atom) ?? [];
      parts.splice(parts.indexOf(part), 1);
      if (parts.length === 0) this.#byAtom.delete(atom);
    }
  }

  #dropPort(atom: AtomNumber): void {
    const left = (this.#ports.get(atom) ?? 1) - 1;
    if (left === 0) this.#ports.delete(atom);
    else this.#ports.set(atom, left);
  }
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

function isPass({ action }: Part): boolean {
  return action === 'pass';
}

function entriesOf(blocks: readonly Block[], specs: readonly TierSpec[]): RuleEntry[] {
  const ends = specs.flatMap(({ end }) => (end === null ? [] : [end.rule]));
  return [...blocks.flatMap((block) => block.rules), ...ends];
}

/** What two lists do not share. Mostly they have a long beginning and a long end in common. */
function blocksBetween(
  before: readonly Block[],
  now: readonly Block[],
): { readonly gone: readonly Block[]; readonly come: readonly Block[] } {
  const shorter = Math.min(before.length, now.length);
  let first = 0;
  while (first < shorter && before[first] === now[first]) first++;
  let last = 0;
  while (last < shorter - first && before.at(-1 - last) === now.at(-1 - last)) last++;
  const old = new Set(before.slice(first, before.length - last));
  const rest = new Set(now.slice(first, now.length - last));
  return { gone: [...old].filter((block) => !rest.has(block)), come: [...rest].filter((block) => !old.has(block)) };
}

/** A text that is equal for equal tiers, and seldom for others: `sameTiers` tells. */
export function tiersKey(specs: readonly TierSpec[]): string {
  return specs.map(({ blocks, end }) => `${hashOf(blocks, serialOf)}${endKey(end)}`).join('|');
}

/** True where two lists of tiers have the same rules. */
export function sameTiers(a: readonly TierSpec[], b: readonly TierSpec[]): boolean {
  return sameList(a, b, (one, other) => {
    return endKey(one.end) === endKey(other.end) && sameList(one.blocks, other.blocks, Object.is);
  });
}

function serialOf({ serial }: Block): number {
  return serial;
}

function endsOf(specs: readonly TierSpec[]): string {
  return specs.map(({ end }) => endKey(end)).join('|');
}

function endKey(end: TierEnd | null): string {
  return end === null ? '' : `d${end.rule.number}@${end.key}`;
}
