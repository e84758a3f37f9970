// Tables that a version with other layouts left in force, read by the names of their fields: endpoints, numbers that only
// grow, and where a connection's bytes stand. They are never written.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Inherited } from '#datapath/ebpf/encode/endpoints.ts';
import { encodeMoves, type Move, movesBetween } from '#datapath/ebpf/encode/moves.ts';
import { allKeys, closeObject, getPinned, lookupElement, mapShape } from '#kernel/bpf.ts';
import { type Field, type Layout, mapLayouts } from '#kernel/btf.ts';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import type { Knobs } from './load.ts';
import type { Maps } from './takeover.ts';

/** Numbers of a node that only grow, and until when policy is bypassed there: 0n where that version could not be. */
export type Numbers = {
  readonly epoch: bigint;
  readonly generation: bigint;
  readonly high: bigint;
  readonly bypass: bigint;
};

export type EarlierTables = {
  readonly numbers: Numbers;
  readonly endpoints: readonly Inherited[];
};

type PinnedMap = {
  readonly name: string;
  readonly fd: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly layouts: { readonly key: Layout; readonly value: Layout };
};

/** What a process of this layout left, and behind it what others did: of one address the newest counts. */
export function withEarlier(
  own: readonly Inherited[],
  tables: readonly EarlierTables[],
): { readonly endpoints: readonly Inherited[]; readonly numbers: readonly (readonly [keyof Numbers, bigint])[] } {
  const endpoints = new Map<AddressKey, Inherited>();
  for (const each of [...tables.flatMap((table) => table.endpoints), ...own]) {
    endpoints.set(formatAddress(each.address), each);
  }
  const numbers = tables.flatMap((table) => Object.entries(table.numbers) as [keyof Numbers, bigint][]);
  return { endpoints: [...endpoints.values()], numbers };
}

/** Reads who was local, and the numbers. Throws Error where these tables lack a field that is needed. */
export function readEarlier(generation: string): EarlierTables {
  return withMaps(generation, (maps) => {
    connectionsOf(maps);
    return { numbers: readNumbers(maps), endpoints: readEndpoints(maps) };
  });
}

/** What the programs must be told to look into these tables' connections, and the maps; whoever asks closes those. */
export type EarlierConnections = { readonly knobs: Knobs; readonly maps: readonly number[] };

/** `own`: this version's maps, from whose connections' layout the moves lead there and back. */
export function openConnections(generation: string, own: Maps): EarlierConnections {
  return withMaps(generation, (maps, keep) => {
    const theirs = connectionsOf(maps);
    const first = theirs[0];
    const mine = [...own].flatMap(([name, { fd }]) => {
      const layouts = mapLayouts(fd);
      return layouts !== null && isConnections(layouts) && !name.startsWith('earlier') ? [layouts] : [];
    })[0];
    if (first === undefined || mine === undefined) throw new Error('there are no tables of connections');
    const key = movesBetween(mine.key.fields, first.layouts.key.fields);
    requireSame(mine.key, first.layouts.key);
    const value = movesBetween(first.layouts.value.fields, mine.value.fields);
    requireMoved(first.layouts.value, mine.value);
    for (const each of theirs) keep(each.fd);
    return {
      maps: theirs.map((each) => each.fd),
      knobs: {
        earlier: 1n,
        earlierHead: BigInt(fieldOf(first.layouts.value, 'head').offset),
        earlierKey: encodeMoves(key),
        earlierKeyBack: encodeMoves(key.map(turned)),
        earlierValue: encodeMoves(value),
      },
    };
  });
}

/** Without these a connection can't be told from another, or whose it is. */
const NEEDED = ['head', 'tail', 'last_seen', 'initiator', 'flags', 'tcp', 'position'] as const;

function requireMoved(from: Layout, into: Layout): void {
  const legs = [...into.fields.keys()].filter((name) => /^(verdict|leg)\[\d+\](\.generation)?$/.test(name));
  for (const name of [...NEEDED, ...legs]) {
    if (fieldOf(from, name).size !== fieldOf(into, name).size) throw new Error(`${from.name}.${name} has another size`);
  }
}

function requireSame(a: Layout, b: Layout): void {
  for (const [name, { size }] of a.fields) {
    if (fieldOf(b, name).size !== size) throw new Error(`${b.name}.${name} has another size`);
  }
  for (const name of b.fields.keys()) fieldOf(a, name);
}

function turned({ from, into, size }: Move): Move {
  return { from: into, into: from, size };
}

function isConnections({ key, value }: PinnedMap['layouts']): boolean {
  return key.name === 'ct_key' && value.name === 'ct_value';
}

/** Whatever the maps are called: those from a connection's key to its value. Two at most. */
function connectionsOf(maps: readonly PinnedMap[]): readonly PinnedMap[] {
  const found = maps.filter(({ layouts }) => isConnections(layouts));
  if (found.length === 0 || found.length > 2) throw new Error(`${found.length} tables of connections`);
  return found;
}

function readNumbers(maps: readonly PinnedMap[]): Numbers {
  const state = mapNamed(maps, 'state_map');
  const value = Buffer.alloc(state.valueSize);
  lookupElement(state, Buffer.alloc(state.keySize), value);
  const room = value.length;
  const read = (name: string): bigint => value.readBigUInt64LE(placeOf(state.layouts.value, name, { size: 8, room }));
  const bypass = state.layouts.value.fields.has('bypass') ? read('bypass') : 0n;
  return { epoch: read('epoch'), generation: read('generation'), high: read('high'), bypass };
}

function readEndpoints(maps: readonly PinnedMap[]): readonly Inherited[] {
  const [words, slots] = [mapNamed(maps, 'endpoint_map'), mapNamed(maps, 'endpoint_slots')];
  const at = placeOf(words.layouts.value, 'value', { size: 4, room: words.valueSize });
  const record = Buffer.alloc(slots.valueSize);
  const read = endpointReader(slots.layouts.value, record);
  return allKeys(words).flatMap((key) => {
    const word = Buffer.alloc(words.valueSize);
    if (!lookupElement(words, key, word)) return [];
    if (!lookupElement(slots, word.subarray(at, at + 4), record)) return [];
    return read() ?? [];
  });
}

/** Reads the record as it stands in the buffer; null where it is nobody's. Throws Error where the layout has not what is needed. */
export function endpointReader(layout: Layout, record: Buffer): () => Inherited | null {
  const at = (name: string, size: number): number => placeOf(layout, name, { size, room: record.length });
  const words = [0, 1, 2, 3].map((index) => at(`self.w[${index}]`, 4));
  const mac = [0, 1, 2, 3, 4, 5].map((index) => at(`pod_mac[${index}]`, 1));
  const [family, ifindex, generation] = [at('self.family', 1), at('ifindex', 4), at('generation', 4)];
  return () => {
    const kind = record.readUInt8(family);
    if (kind !== 4 && kind !== 6) return null;
    const address: Address = {
      family: kind,
      words: words.slice(0, kind === 4 ? 1 : 4).map((offset) => record.readUInt32BE(offset)),
    };
    return {
      ...{ address, interfaceIndex: record.readUInt32LE(ifindex), generation: record.readUInt32LE(generation) },
      mac: Uint8Array.from(mac, (offset) => record.readUInt8(offset)),
      // Its record is none of this process's: no element is ever at the first slot.
      ...{ slot: 0, closed: false },
    };
  };
}

function mapNamed(maps: readonly PinnedMap[], name: string): PinnedMap {
  const found = maps.find((map) => map.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

function fieldOf({ name, fields }: Layout, field: string): Field {
  const found = fields.get(field);
  if (found === undefined) throw new Error(`${name} has no field ${field}`);
  return found;
}

/** Where a field of this size stands, within so much room. */
function placeOf(
  layout: Layout,
  field: string,
  { size, room }: { readonly size: number; readonly room: number },
): number {
  const found = fieldOf(layout, field);
  if (found.size !== size) throw new Error(`${layout.name}.${field} has another size`);
  if (found.offset + size > room) throw new Error(`${layout.name}.${field} stands beyond its ${room} bytes`);
  return found.offset;
}

/** `keep` leaves a map open when `work` is done. */
function withMaps<T>(generation: string, work: (maps: readonly PinnedMap[], keep: (fd: number) => void) => T): T {
  const kept = new Set<number>();
  const opened: number[] = [];
  try {
    const maps = readdirSync(generation).flatMap((name): PinnedMap[] => {
      const fd = getPinned(join(generation, name));
      if (fd === null) return [];
      opened.push(fd);
      const layouts = mapLayouts(fd);
      return layouts === null ? [] : [{ name, fd, layouts, ...mapShape(fd) }];
    });
    return work(maps, (fd) => void kept.add(fd));
  } catch (error) {
    kept.clear();
    throw error;
  } finally {
    for (const fd of opened) if (!kept.has(fd)) closeObject(fd);
  }
}
