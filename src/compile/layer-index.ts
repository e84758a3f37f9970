// Which layers have classes for whom: by the atoms that their rules ask for.
import type { AtomNumber } from '#identity/atoms.ts';
import { remember } from '#identity/collect.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import type { LayerRules } from './layer-rules.ts';

export class LayerIndex<Layer extends { readonly rules: LayerRules }> {
  readonly #identifier: Identifier;
  readonly #byAtom = new Map<AtomNumber, Set<Layer>>();
  readonly #guarded = new Set<Layer>();
  /** Identities that were asked for in this batch: a policy that changes is in many layers. */
  readonly #known = new Map<string, Set<IdentityEntry>>();

  constructor(identifier: Identifier) {
    this.#identifier = identifier;
  }

  /** Looks again which of these atoms a layer asks for, and whether it is guarded. */
  update(layer: Layer, atoms: Iterable<AtomNumber>): void {
    for (const atom of atoms) {
      if (layer.rules.hasAtom(atom)) this.#byAtom.set(atom, (this.#byAtom.get(atom) ?? new Set()).add(layer));
      else this.#drop(layer, atom);
    }
    if (layer.rules.guarded) this.#guarded.add(layer);
    else this.#guarded.delete(layer);
  }

  remove(layer: Layer): void {
    this.#guarded.delete(layer);
    for (const atom of layer.rules.atoms()) this.#drop(layer, atom);
  }

  /** The layers that can have a class for an identity. */
  layersOf(identity: IdentityEntry): Set<Layer> {
    const found = new Set<Layer>(identity.unknown ? this.#guarded : []);
    for (const atom of identity.atoms) {
      for (const layer of this.#byAtom.get(this.#identifier.atomOf(atom)) ?? []) found.add(layer);
    }
    return found;
  }

  /** Identities that have one of these atoms, or a resolution of one, and perhaps all unknown ones: found once for a batch. */
  identitiesWith(atoms: ReadonlySet<AtomNumber>, alsoUnknown: boolean): ReadonlySet<IdentityEntry> {
    const key = `${alsoUnknown ? 'u' : ''}${[...atoms].join()}`;
    return remember(this.#known, key, () => this.#find(atoms, alsoUnknown));
  }

  /** A batch is over: whom rules are about may be others in the next one. */
  settled(): void {
    this.#known.clear();
  }

  #find(atoms: ReadonlySet<AtomNumber>, alsoUnknown: boolean): Set<IdentityEntry> {
    const found = new Set<IdentityEntry>();
    for (const atom of atoms) {
      for (const identity of this.#identifier.withAtom(atom)) found.add(identity);
      for (const number of this.#identifier.resolutions(atom)) {
        for (const identity of this.#identifier.withAtom(number)) found.add(identity);
      }
    }
    if (alsoUnknown) for (const identity of this.#identifier.identities()) if (identity.unknown) found.add(identity);
    return found;
  }

  #drop(layer: Layer, atom: AtomNumber): void {
    const layers = this.#byAtom.get(atom);
    layers?.delete(layer);
    if (layers?.size === 0) this.#byAtom.delete(atom);
  }
}
