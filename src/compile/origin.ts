// Where an identity comes from: its classes are those of its origin, but for what tells the two apart.
import type { AtomNumber } from '#identity/atoms.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';

/** `gained` and `lost`: what is true of the identity and not of its origin, and the other way round. */
export type Origin = {
  readonly identity: IdentityEntry;
  readonly gained: readonly AtomNumber[];
  readonly lost: readonly AtomNumber[];
};

/** The identity that one was split off, and what is true of one of the two alone: nothing else tells them apart. */
export function originOf(
  { origin: number, atoms, unknown }: IdentityEntry,
  newcomers: ReadonlySet<IdentityEntry>,
  identifier: Identifier,
): Origin | null {
  const identity = number === null ? undefined : identifier.find(number);
  // Classes of what nobody is any more are not kept up to date.
  if (identity === undefined || identity.members === 0 || newcomers.has(identity)) return null;
  if (identity.unknown !== unknown) return null;
  const asked = (list: readonly AtomNumber[]): AtomNumber[] => list.map((atom) => identifier.atomOf(atom));
  return { identity, gained: asked(outside(atoms, identity.atoms)), lost: asked(outside(identity.atoms, atoms)) };
}

/** What of the first list is not in the second; both ascend. */
function outside(list: readonly AtomNumber[], other: readonly AtomNumber[]): AtomNumber[] {
  const found: AtomNumber[] = [];
  let at = 0;
  for (const atom of list) {
    while ((other[at] ?? atom) < atom) at++;
    if (other[at] !== atom) found.push(atom);
  }
  return found;
}
