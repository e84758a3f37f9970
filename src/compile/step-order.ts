// The order of steps that is safe for packets in flight: what is pointed at before what points at it.
import type { Step } from './plan.ts';

/** Removals go the other way round. Classes come before identities: an address may only move to what all layers know. */
const RANKS: Readonly<Record<Step['kind'], number>> = {
  rule: 0,
  table: 1,
  layer: 2,
  class: 3,
  identity: 4,
  set: 5,
  prefix: 6,
  address: 7,
  node: 8,
  service: 9,
  endpoint: 10,
  epoch: 11,
};

/**
 * Sorts steps, each of which touches another thing. Longer prefixes come first and go last, so that no address is seen
 * under a wider block's identity in between.
 * `inPlace`: classes and bases of layers that are in use. They change once addresses are who they will be, and before
 * endpoints turn to them; classes before bases, since a datapath reads the base first.
 */
export function inSafeOrder(steps: readonly Step[], inPlace: readonly Step[] = []): Step[] {
  const added = emptyRanks();
  const removed = emptyRanks();
  for (const step of steps) {
    const ranks = 'value' in step && step.value === null ? removed : added;
    ranks[RANKS[step.kind]]?.push(step);
  }
  added[RANKS.prefix]?.sort((a, b) => prefixLength(b) - prefixLength(a));
  removed[RANKS.prefix]?.sort((a, b) => prefixLength(a) - prefixLength(b));
  const bases = inPlace.filter((step) => step.kind === 'layer');
  const classes = inPlace.filter((step) => step.kind !== 'layer');
  const lists = [...added.slice(0, RANKS.endpoint), classes, bases, ...added.slice(RANKS.endpoint, RANKS.epoch)];
  // A first list is hundreds of thousands of steps: one list of them all, and no other on the way there. `flat` takes longer.
  const all: Step[] = [];
  for (const list of [...lists, ...removed.reverse(), added[RANKS.epoch] ?? []])
    for (const step of list) all.push(step);
  return all;
}

function emptyRanks(): Step[][] {
  return Array.from({ length: RANKS.epoch + 1 }, () => []);
}

function prefixLength(step: Step): number {
  return step.kind === 'prefix' ? step.cidr.length : 0;
}
