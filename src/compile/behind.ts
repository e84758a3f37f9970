// Classes of layers in use that are yet to follow a change of rules: some at a time, so that nothing waits for all of
// them. Until its turn comes, each says what the rules before said.
import type { IdentityNumber } from './plan.ts';
import type { RuleEntry } from './rules.ts';

/**
 * Whose classes are behind, and rules that they may name though the layer has them no longer. Layers whose rules changed
 * alike have one set of identities, until the first of them follows in a layer.
 */
type Overdue = {
  identities: ReadonlySet<IdentityNumber>;
  own: Set<IdentityNumber> | null;
  readonly rules: RuleEntry[];
};

const NOBODY: ReadonlySet<IdentityNumber> = new Set();

export class Behind<Layer> {
  readonly #overdue = new Map<Layer, Overdue>();

  /** True while a class is behind, or `take` has not told that the last one followed. */
  get isEmpty(): boolean {
    return this.#overdue.size === 0;
  }

  /** The identities whose class in a layer is behind. */
  of(layer: Layer): ReadonlySet<IdentityNumber> {
    return this.#overdue.get(layer)?.identities ?? NOBODY;
  }

  /** The layer's rules changed for these identities: the set is not written. `rules`: those that went. */
  add(layer: Layer, identities: ReadonlySet<IdentityNumber>, rules: readonly RuleEntry[]): void {
    const before = this.#overdue.get(layer);
    if (before === undefined) {
      this.#overdue.set(layer, { identities, own: null, rules: [...rules] });
      return;
    }
    const own = ownOf(before);
    for (const identity of identities) own.add(identity);
    before.rules.push(...rules);
  }

  /** The class of an identity says what the layer's rules say. */
  done(layer: Layer, identity: IdentityNumber): void {
    remove(this.#overdue.get(layer), identity);
  }

  /** Nobody has the identity any more. */
  forget(identity: IdentityNumber): void {
    for (const overdue of this.#overdue.values()) remove(overdue, identity);
  }

  /** Up to so many classes, by their layers. */
  next(most: number): Map<Layer, IdentityNumber[]> {
    const found = new Map<Layer, IdentityNumber[]>();
    let room = most;
    for (const [layer, { identities }] of this.#overdue) {
      if (room <= 0) break;
      const some: IdentityNumber[] = [];
      for (const identity of identities) {
        if (some.length === room) break;
        some.push(identity);
      }
      room -= some.length;
      found.set(layer, some);
    }
    return found;
  }

  /** Layers of which no class is behind any more, with the rules that nothing needs now. */
  take(): Map<Layer, readonly RuleEntry[]> {
    const done = new Map<Layer, readonly RuleEntry[]>();
    for (const [layer, { identities, rules }] of this.#overdue) {
      if (identities.size > 0) continue;
      this.#overdue.delete(layer);
      done.set(layer, rules);
    }
    return done;
  }

  /** The layer is gone. Returns the rules that nothing needs now. */
  remove(layer: Layer): readonly RuleEntry[] {
    const rules = this.#overdue.get(layer)?.rules ?? [];
    this.#overdue.delete(layer);
    return rules;
  }
}

function remove(overdue: Overdue | undefined, identity: IdentityNumber): void {
  if (overdue?.identities.has(identity)) ownOf(overdue).delete(identity);
}

/** The set of the layer alone. */
function ownOf(overdue: Overdue): Set<IdentityNumber> {
  overdue.own ??= new Set(overdue.identities);
  overdue.identities = overdue.own;
  return overdue.own;
}
