// Selectors by a label that what they match must have: a pod asks the few that name its own labels, not all.
import type { LabelSelector, Labels, Requirement } from '#policy/selector.ts';
import { remember } from './collect.ts';

const NOTHING: readonly never[] = [];

export class SelectorIndex<Item> {
  /** By key, then by value. */
  readonly #byPair = new Map<string, Map<string, Item[]>>();
  readonly #byKey = new Map<string, Item[]>();
  /** Those that ask for the absence of labels alone, or for nothing. */
  readonly #rest: Item[] = [];

  get isEmpty(): boolean {
    return this.#byPair.size === 0 && this.#byKey.size === 0 && this.#rest.length === 0;
  }

  add(selector: LabelSelector, item: Item): void {
    this.#each(selector, (list) => list.push(item));
  }

  remove(selector: LabelSelector, item: Item): void {
    this.#each(selector, (list) => {
      const at = list.indexOf(item);
      if (at >= 0) list.splice(at, 1);
    });
  }

  /** Calls back with every item whose selector may match these labels, each once; others are left out. */
  candidates(labels: Labels, visit: (item: Item) => void): void {
    for (const key in labels) {
      if (!Object.hasOwn(labels, key)) continue;
      for (const item of this.#byPair.get(key)?.get(labels[key] ?? '') ?? NOTHING) visit(item);
      for (const item of this.#byKey.get(key) ?? NOTHING) visit(item);
    }
    for (const item of this.#rest) visit(item);
  }

  /** The lists that a selector stands in: for each value of one `In`, or for one key, or with the rest. */
  #each(selector: LabelSelector, change: (list: Item[]) => void): void {
    const chosen = mostTelling(selector);
    if (chosen === null) change(this.#rest);
    else if (chosen.op === 'In') {
      const lists = remember(this.#byPair, chosen.key, () => new Map<string, Item[]>());
      for (const value of new Set(chosen.values)) changeIn(lists, value, change);
      if (lists.size === 0) this.#byPair.delete(chosen.key);
    } else changeIn(this.#byKey, chosen.key, change);
  }
}

function changeIn<Item>(lists: Map<string, Item[]>, key: string, change: (list: Item[]) => void): void {
  const list = lists.get(key) ?? [];
  change(list);
  if (list.length === 0) lists.delete(key);
  else lists.set(key, list);
}

/** What a label set must have to meet it. */
type Positive = Requirement & { readonly op: 'In' | 'Exists' };

/** The requirement that the fewest label sets meet, as far as that can be told from it alone. */
function mostTelling({ requirements }: LabelSelector): Positive | null {
  let best: Positive | null = null;
  for (const one of requirements) if (isPositive(one) && (best === null || sizeOf(one) < sizeOf(best))) best = one;
  return best;
}

function isPositive(requirement: Requirement): requirement is Positive {
  return requirement.op === 'In' || requirement.op === 'Exists';
}

function sizeOf(requirement: Requirement): number {
  return requirement.op === 'In' ? requirement.values.length : Number.POSITIVE_INFINITY;
}
