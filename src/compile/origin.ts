// Where an identity comes from: its classes are those of its origin, but for what tells the two apart.
import type { AtomNumber } from '#identity/atoms.ts';
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import type { IdentityNumber } from './plan.ts';

export type Origin = { readonly number: IdentityNumber; readonly between: readonly AtomNumber[] };

/** The identity that one was split off, and what is true of one of the two alone: nothing else tells them apart. */
export function originOf(
  { origin: number, atoms, unknown }: IdentityEntry,
  newcomers: ReadonlySet<IdentityEntry>,
  identifier: Identifier,
): Origin | null {
  const origin = number === null ? undefined : identifier.find(number);
  // Classes of what nobody is any more are not kept up to date.
  if (origin === undefined || origin.members === 0 || newcomers.has(origin) || origin.unknown !== unknown) return null;
  const between = [...outside(atoms, origin.atoms), ...outside(origin.atoms, atoms)];
  return { number: origin.number, between: between.map((atom) => identifier.atomOf(atom)) };
}

/** What of the first list is not in the second. */
function outside(list: readonly AtomNumber[], other: readonly AtomNumber[]): AtomNumber[] {
  const known = new Set(other);
  return list.filter((atom) => !known.has(atom));
}
