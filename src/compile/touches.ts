// To whom a change of a layer's rules says something, and whether that is anything new: most of what a policy says to a peer
// others said before it. Found once for all layers whose rules change alike.
import type { Identifier } from '#identity/identifier.ts';
import type { IdentityEntry } from '#identity/identities.ts';
import type { AxisRange } from '#net/axis.ts';
import { orderOf, type Part } from './parts.ts';
import type { Interval, PortTable } from './plan.ts';
import type { Difference } from './sorted-list.ts';

/** The parts of a change that match one identity. */
export type Touch = Difference<Part>;

/** By whom they match. */
export type Touches = ReadonlyMap<IdentityEntry, Touch>;

/**
 * By whom the parts match, but for identities of which more has to be known than the table before: those that unknown
 * pods have, and some others. Null where a part asks for a named port, since that takes more than to have its atoms.
 */
export function touchesOf(
  parts: Difference<Part>,
  identifier: Pick<Identifier, 'withAtom'>,
  others: ReadonlySet<IdentityEntry>,
): Touches | null {
  const touches = new Map<IdentityEntry, { readonly gone: Part[]; readonly come: Part[] }>();
  for (const what of ['gone', 'come'] as const) {
    for (const part of parts[what]) {
      if (part.port !== null) return null;
      for (const atom of part.atoms ?? []) {
        for (const identity of identifier.withAtom(atom)) {
          if (identity.unknown || others.has(identity)) continue;
          const touch = touches.get(identity) ?? { gone: [], come: [] };
          touches.set(identity, touch);
          touch[what].push(part);
        }
      }
    }
  }
  return touches;
}

/** True where the table of an identity stays as it is: what goes decides nothing there, and what comes would not either. */
export function leaves(table: PortTable, { gone, come }: Touch): boolean {
  // Asked for each class: functions for `some` and `every` would be garbage each time.
  for (let at = 0; at < gone.length; at++) if (decides(table, gone[at] as Part)) return false;
  for (let at = 0; at < come.length; at++) if (!isSilent(table, come[at] as Part)) return false;
  return true;
}

function decides(table: PortTable, { rule }: Part): boolean {
  for (let at = 0; at < table.length; at++) if (table[at]?.rule === rule) return true;
  return false;
}

/** True where earlier rules decide all that a part speaks of. */
function isSilent(table: PortTable, part: Part): boolean {
  const order = orderOf(part);
  for (let at = 0; at < part.ranges.length; at++) {
    if (!isDecided(table, part.ranges[at] as AxisRange, order)) return false;
  }
  return true;
}

/** True where what is before an order decides a whole range. */
function isDecided(table: PortTable, { first, last }: AxisRange, order: number): boolean {
  let from = first;
  for (let at = 0; at < table.length; at++) {
    const interval = table[at] as Interval;
    if (interval.last < from) continue;
    if (interval.first > from || interval.order > order) return false;
    if (interval.last >= last) return true;
    from = interval.last + 1;
  }
  return false;
}
