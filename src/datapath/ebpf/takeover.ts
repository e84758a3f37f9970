// What an earlier process left pinned: read before this one starts, cleared away once this one's tables are in force.

import type { ServiceAddress } from '#compile/plan.ts';
import { CLASS_KEY, ENDPOINT, ENDPOINT_FLAG, TAGGED } from '#datapath/ebpf/encode/abi.gen.ts';
import { addressBytes, readAddress, serviceKeyBytes, taggedBytes, u32Bytes } from '#datapath/ebpf/encode/bytes.ts';
import type { Inherited } from '#datapath/ebpf/encode/endpoints.ts';
import { bankExtent } from '#datapath/ebpf/encode/space.ts';
import { allKeys, deleteElement, deleteWhere, lookupElement, updateBatch } from '#kernel/bpf.ts';
import type { LoadedMap } from '#kernel/object.ts';
import type { Address } from '#net/address.ts';

export type Maps = ReadonlyMap<string, LoadedMap>;

/** What stands in the kernel, and the banks of tables that are free for this process. */
export type Leftovers = {
  readonly bank: 0 | 1;
  /** Services turn to a new process as soon as it says who serves, and endpoints later: it may have died in between. */
  readonly serviceBank: 0 | 1;
  /** Those whose tables are given up are closed. */
  readonly inherited: readonly Inherited[];
  readonly services: readonly StandingService[];
};

/** A Service's word, and the bank that its record is in; null where it leads to none that counts. */
type StandingService = { readonly key: Uint8Array; readonly tag: number; readonly bank: 0 | 1 | null };

const BANKED = ['address_map', 'prefix4', 'prefix6'] as const;

/**
 * Reads the endpoints and Services in force. A process that died while it turned them to its own tables leaves both banks
 * in use: then the bank with fewer of them is given up, and those deny until this process says more; their connections stay.
 */
export function readLeftovers(maps: Maps): Leftovers {
  const found = readEndpoints(maps);
  const services = readServices(maps);
  const bank = freeBank(found);
  return {
    bank,
    serviceBank: freeBank(services),
    inherited: found.map((each) => ({ ...each.endpoint, closed: each.bank === bank })),
    services,
  };
}

/** The bank that fewer are in. */
function freeBank(all: readonly { readonly bank: 0 | 1 | null }[]): 0 | 1 {
  const [first, second] = [0, 1].map((bank) => all.filter((each) => each.bank === bank).length);
  return (first ?? 0) > (second ?? 0) || (first === second && first !== 0) ? 1 : 0;
}

/** Empties the banks that this process is going to fill. */
export function clearForStart(maps: Maps, { bank, serviceBank, inherited, services }: Leftovers): void {
  const words = mapOf(maps, 'endpoint_map');
  for (const { address, closed } of inherited) if (closed) deleteElement(words, addressBytes(address));
  clearBank(maps, bank);
  closeServices(
    maps,
    services.filter((each) => each.bank === serviceBank),
  );
}

/**
 * Services whose records are about to say something else. They lead to no record at all, which is closed, until this
 * process says who serves.
 */
function closeServices(maps: Maps, services: readonly StandingService[]): void {
  const nowhere = mapOf(maps, 'service_slots').maxEntries;
  for (const { key, tag } of services) updateBatch(mapOf(maps, 'service_map'), key, taggedBytes(nowhere, tag), 1);
}

function readServices(maps: Maps): readonly StandingService[] {
  const words = mapOf(maps, 'service_map');
  const slots = mapOf(maps, 'service_slots').maxEntries;
  const extents = ([0, 1] as const).map((bank) => ({ bank, ...bankExtent(slots, bank) }));
  const word = Buffer.alloc(TAGGED.size);
  return allKeys(words).flatMap((key) => {
    if (!lookupElement(words, key, word)) return [];
    const slot = word.readUInt32LE(TAGGED.value);
    const found = extents.find(({ first, end }) => slot >= first && slot < end);
    return [{ key, tag: word.readUInt32LE(TAGGED.tag), bank: found?.bank ?? null }];
  });
}

/** What a process has put in force itself. */
export type Kept = {
  readonly bank: 0 | 1;
  readonly base: number;
  readonly nodes: readonly Address[];
  readonly interfaces: readonly number[];
  readonly uplinks: readonly number[];
  readonly services: readonly ServiceAddress[];
};

/** Takes away the tables of the other bank, classes under numbers below `base`, and nodes, interfaces and Services not kept. */
export function clearLeftovers(maps: Maps, kept: Kept): void {
  clearBank(maps, kept.bank === 0 ? 1 : 0);
  deleteWhere(mapOf(maps, 'class_map'), (key) => viewOf(key).getUint32(CLASS_KEY.layer, true) < kept.base);
  keepOnly(mapOf(maps, 'node_map'), kept.nodes.map(addressBytes));
  // An interface may be gone while its address is somewhere else by now.
  keepOnly(mapOf(maps, 'iface_map'), kept.interfaces.map(u32Bytes));
  keepOnly(mapOf(maps, 'uplink_map'), kept.uplinks.map(u32Bytes));
  keepOnly(mapOf(maps, 'service_map'), kept.services.map(serviceKeyBytes));
}

function keepOnly(map: LoadedMap, kept: readonly Uint8Array[]): void {
  const known = new Set(kept.map((key) => Buffer.from(key).toString('hex')));
  deleteWhere(map, (key) => !known.has(Buffer.from(key).toString('hex')));
}

type Found = { readonly bank: 0 | 1; readonly endpoint: Omit<Inherited, 'closed'> };

function readEndpoints(maps: Maps): readonly Found[] {
  const words = mapOf(maps, 'endpoint_map');
  const slots = mapOf(maps, 'endpoint_slots');
  return allKeys(words).flatMap((key) => {
    const word = Buffer.alloc(TAGGED.size);
    const record = Buffer.alloc(ENDPOINT.size);
    if (!lookupElement(words, key, word)) return [];
    if (!lookupElement(slots, word.subarray(TAGGED.value, TAGGED.value + 4), record)) return [];
    const address = readAddress(viewOf(key), 0);
    return address === null ? [] : [decodeEndpoint(address, word.readUInt32LE(TAGGED.value), record)];
  });
}

function decodeEndpoint(address: Address, slot: number, record: Buffer): Found {
  return {
    bank: record.readUInt32LE(ENDPOINT.flags) & ENDPOINT_FLAG.BANK ? 1 : 0,
    endpoint: {
      address,
      slot,
      interfaceIndex: record.readUInt32LE(ENDPOINT.ifindex),
      generation: record.readUInt32LE(ENDPOINT.generation),
      mac: Uint8Array.from(record.subarray(ENDPOINT.podMac, ENDPOINT.podMac + 6)),
    },
  };
}

function clearBank(maps: Maps, bank: 0 | 1): void {
  for (const name of BANKED) {
    deleteWhere(mapOf(maps, `${name}_${bank === 0 ? 'a' : 'b'}`), () => true);
  }
}

function mapOf(maps: Maps, name: string): LoadedMap {
  const map = maps.get(name);
  if (map === undefined) throw new Error(`the kernel object has no map ${name}`);
  return map;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
