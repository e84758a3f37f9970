// How full the kernel's tables are.
import { setImmediate as turn } from 'node:timers/promises';
import type { Fill } from '#datapath/port.ts';
import { countElements } from '#kernel/bpf.ts';
import type { LoadedMap } from '#kernel/object.ts';

/** Hash tables that are counted in the kernel: of flows, of pods, of nodes and of Services. To walk the larger ones takes too long. */
const COUNTED = [
  ...['ct_map', 'queue_map', 'drop_map', 'endpoint_map', 'iface_map', 'node_map', 'uplink_map', 'service_map'],
] as const;

/** Those that are not counted there, and a map with as much room. The tables of both address families are one here. */
const KNOWN = { class_map: 'class_map', address_map: 'address_map_a', prefix_map: 'prefix4_a' } as const;

/** How many elements whoever writes the tables knows to be there. */
export type KnownUsage = Readonly<Record<keyof typeof KNOWN, number>> & {
  /** Of the arrays. */
  readonly fills: readonly Fill[];
};

/** Counts without holding up anybody for long: between some thousand elements, others have their turn. */
export async function readUsage(
  maps: ReadonlyMap<string, LoadedMap>,
  known: KnownUsage,
  isClosed: () => boolean,
): Promise<readonly Fill[]> {
  const capacityOf = (name: string): number => maps.get(name)?.maxEntries ?? 0;
  const tables = ['class_map', 'address_map', 'prefix_map'] as const;
  const found = tables.map((table) => ({ table, entries: known[table], capacity: capacityOf(KNOWN[table]) }));
  const counted: Fill[] = [];
  for (const table of COUNTED) {
    const map = maps.get(table);
    const entries = map === undefined ? null : await count(map, isClosed);
    if (entries !== null) counted.push({ table, entries, capacity: capacityOf(table) });
  }
  return [...known.fills, ...found, ...counted];
}

/** Null where the map was closed meanwhile: its descriptor may be somebody else's by now. */
async function count(map: LoadedMap, isClosed: () => boolean): Promise<number | null> {
  const counting = countElements(map);
  while (!isClosed()) {
    const step = counting.next();
    if (step.done) return step.value;
    await turn();
  }
  return null;
}
