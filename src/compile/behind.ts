// Classes of layers in use that are yet to follow a change of rules: some at a time, so that nothing waits for all of
// them. Until its turn comes, each says what the rules before said.
import type { IdentityNumber } from './plan.ts';
import type { RuleEntry } from './rules.ts';

/** Whose classes are behind, and rules that they may name though the layer has them no longer. */
type Overdue = { readonly identities: Set<IdentityNumber>; readonly rules: RuleEntry[] };

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

  /** The layer's rules changed for these identities. `rules`: those that went. */
  add(layer: Layer, identities: Iterable<IdentityNumber>, rules: readonly RuleEntry[]): void {
    const overdue = this.#overdue.get(layer) ?? { identities: new Set(), rules: [] };
    this.#overdue.set(layer, overdue);
    for (const identity of identities) overdue.identities.add(identity);
    overdue.rules.push(...rules);
  }

  /** The class of an identity says what the layer's rules say. */
  done(layer: Layer, identity: IdentityNumber): void {
    this.#overdue.get(layer)?.identities.delete(identity);
  }

  /** Nobody has the identity any more. */
  forget(identity: IdentityNumber): void {
    for (const { identities } of this.#overdue.values()) identities.delete(identity);
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
