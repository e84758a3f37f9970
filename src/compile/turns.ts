// Whose turn it is: what waits is worked off in rounds, and in each of them every namespace that waits has one turn.
import type { WorldEvent } from '#policy/world.ts';

export type Turn = { readonly owner: string; readonly round: number };

/** The turn of one more that is an owner's, and its place among those that wait, which are in the order of their rounds. */
export function nextTurn(waiting: readonly Turn[], owner: string): Turn & { readonly place: number } {
  const last = waiting.findLast((turn) => turn.owner === owner);
  const round = last === undefined ? (waiting[0]?.round ?? 0) : last.round + 1;
  const later = waiting.findIndex((turn) => turn.round > round);
  return { owner, round, place: later < 0 ? waiting.length : later };
}

/** The namespace whose change it is; what belongs to none is one owner's. */
export function ownerOf(event: WorldEvent): string {
  switch (event.kind) {
    case 'policy':
      return event.key.split('/')[1] ?? '';
    case 'pod':
      return event.key.split('/')[0] ?? '';
    case 'namespace':
      return event.name;
    case 'node':
      return '';
  }
}
