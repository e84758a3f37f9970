// Keys and values as bytes, in the layouts that the compiler chose (abi.gen.ts).
import type { Backend, ServiceAddress } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import {
  ADDR,
  ARENA_RECORD,
  BACKEND,
  CLASS_KEY,
  CLIENT_BOUND,
  ENDPOINT,
  PREFIX4_KEY,
  PREFIX6_KEY,
  SERVICE,
  SERVICE_KEY,
  SERVICE_PLACES,
  SET_LAYER,
  SET_SLOT,
  TAGGED,
} from './abi.gen.ts';
import { scopeNumber } from './tag.ts';

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function writeAddress(into: DataView, offset: number, address: Address): void {
  for (const [index, word] of address.words.entries()) into.setUint32(offset + ADDR.w + 4 * index, word);
  into.setUint8(offset + ADDR.family, address.family);
}

/** A word as on the wire. Without a DataView: one for each of 100 000 keys is most of the time that they take. */
function putWire(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
}

/** A word as the machine has it (little-endian). */
function putWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = word >>> 16;
  bytes[at + 3] = word >>> 24;
}

/** struct addr. */
export function addressBytes({ words, family }: Address): Uint8Array {
  const bytes = new Uint8Array(ADDR.size);
  for (let index = 0; index < words.length; index++) putWire(bytes, ADDR.w + 4 * index, words[index] ?? 0);
  bytes[ADDR.family] = family;
  return bytes;
}

/** The address in a struct addr at an offset; null where there is none. */
export function readAddress(from: DataView, offset: number): Address | null {
  const family = from.getUint8(offset + ADDR.family);
  if (family !== 4 && family !== 6) return null;
  const count = family === 4 ? 1 : 4;
  const words = Array.from({ length: count }, (_, index) => from.getUint32(offset + ADDR.w + 4 * index));
  return { family, words };
}

/** struct prefix4_key or prefix6_key. */
export function prefixBytes(cidr: Cidr): Uint8Array {
  const layout = cidr.address.family === 4 ? PREFIX4_KEY : PREFIX6_KEY;
  const bytes = new Uint8Array(layout.size);
  const into = view(bytes);
  into.setUint32(layout.length, cidr.length, true);
  for (const [index, word] of cidr.address.words.entries()) into.setUint32(layout.w + 4 * index, word);
  return bytes;
}

/** struct class_key, in the kernel's numbers. `into`: bytes that are used again and again. */
export function classBytes(
  layer: number,
  identity: number,
  into: Uint8Array = new Uint8Array(CLASS_KEY.size),
): Uint8Array {
  putWord(into, CLASS_KEY.layer, layer);
  putWord(into, CLASS_KEY.identity, identity);
  return into;
}

/** A 4-byte key. */
export function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  view(bytes).setUint32(0, value, true);
  return bytes;
}

/** struct tagged as one word. */
export function taggedWord(value: number, tag: number): bigint {
  return (BigInt(tag) << 32n) | BigInt(value);
}

/** struct tagged. `into`: as of `classBytes`. */
export function taggedBytes(value: number, tag: number, into: Uint8Array = new Uint8Array(TAGGED.size)): Uint8Array {
  putWord(into, TAGGED.value, value);
  putWord(into, TAGGED.tag, tag);
  return into;
}

/** One 8-byte value. */
export function u64Bytes(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  view(bytes).setBigUint64(0, value, true);
  return bytes;
}

/** The value of iface_map: MAC, and the interface's low bits as the tag. */
export function ifaceWord(interfaceIndex: number, mac: Uint8Array): bigint {
  let word = BigInt(interfaceIndex & 0xffff) << 48n;
  for (const [index, octet] of mac.entries()) if (index < 6) word |= BigInt(octet) << BigInt(8 * index);
  return word;
}

/** One struct arena_record. */
export type ArenaRecord = {
  readonly start: number;
  readonly action: number;
  readonly rule: number;
  readonly order: number;
};

/** Records one after the other. */
export function arenaBytes(records: readonly ArenaRecord[]): Uint8Array {
  const bytes = new Uint8Array(records.length * ARENA_RECORD.size);
  const into = view(bytes);
  for (const [index, record] of records.entries()) {
    const at = index * ARENA_RECORD.size;
    into.setUint32(at + ARENA_RECORD.start, record.start, true);
    into.setUint32(at + ARENA_RECORD.action, record.action, true);
    into.setUint32(at + ARENA_RECORD.rule, record.rule, true);
    into.setUint32(at + ARENA_RECORD.order, record.order, true);
  }
  return bytes;
}

/** One layer of a struct set_slot: the kernel's number, and the arena offset of its base table (0 = none). */
export type SlotLayer = { readonly layer: number; readonly base: number };

/** How many layers a set may have. */
export const MAX_LAYERS: number = (SET_SLOT.size - SET_SLOT.layers) / SET_LAYER.size;

/** struct set_slot. */
export function setBytes(layers: readonly SlotLayer[]): Uint8Array {
  const bytes = new Uint8Array(SET_SLOT.size);
  const into = view(bytes);
  into.setUint32(SET_SLOT.count, layers.length, true);
  for (const [index, each] of layers.entries()) {
    const at = SET_SLOT.layers + index * SET_LAYER.size;
    into.setUint32(at + SET_LAYER.layer, each.layer, true);
    into.setUint32(at + SET_LAYER.base, each.base, true);
  }
  return bytes;
}

/** `live` of an endpoint's record while its address leads there. */
export function liveWord(slot: number, generation: number): bigint {
  return (BigInt(slot) << 32n) | BigInt(generation);
}

/** What a struct endpoint says. */
export type EndpointRecord = {
  readonly self: Address;
  readonly interfaceIndex: number;
  readonly generation: number;
  readonly epoch: bigint;
  readonly adoptUntil: bigint;
  readonly egressSet: number;
  readonly ingressSet: number;
  readonly flags: number;
  readonly mtu: number;
  readonly podMac: Uint8Array;
  readonly hostMac: Uint8Array;
};

/** struct endpoint, not live yet. */
export function endpointBytes(record: EndpointRecord): Uint8Array {
  const bytes = new Uint8Array(ENDPOINT.size);
  const into = view(bytes);
  into.setBigUint64(ENDPOINT.epoch, record.epoch, true);
  into.setBigUint64(ENDPOINT.adoptUntil, record.adoptUntil, true);
  writeAddress(into, ENDPOINT.self, record.self);
  into.setUint32(ENDPOINT.ifindex, record.interfaceIndex, true);
  into.setUint32(ENDPOINT.generation, record.generation, true);
  into.setUint32(ENDPOINT.egressSet, record.egressSet, true);
  into.setUint32(ENDPOINT.ingressSet, record.ingressSet, true);
  into.setUint32(ENDPOINT.flags, record.flags, true);
  into.setUint32(ENDPOINT.mtu, record.mtu, true);
  bytes.set(record.podMac.subarray(0, 6), ENDPOINT.podMac);
  bytes.set(record.hostMac.subarray(0, 6), ENDPOINT.hostMac);
  return bytes;
}

/** How many places one struct service_places has. */
export const PLACES_RECORD: number = SERVICE_PLACES.size / 4;

/** struct service_key. */
export function serviceKeyBytes({ address, protocol, port, scope }: ServiceAddress): Uint8Array {
  const bytes = new Uint8Array(SERVICE_KEY.size);
  bytes.set(addressBytes(address), SERVICE_KEY.address);
  view(bytes).setUint16(SERVICE_KEY.port, port, true);
  bytes[SERVICE_KEY.protocol] = protocol;
  bytes[SERVICE_KEY.scope] = scopeNumber(scope);
  return bytes;
}

/** The address in a struct service_key. */
export function readServiceAddress(key: Uint8Array): Address | null {
  return readAddress(view(key), SERVICE_KEY.address);
}

/** struct service. */
export function serviceBytes(record: {
  readonly places: number;
  readonly count: number;
  /** Seconds; 0 = none. */
  readonly affinity: number;
  /** How many boundaries, and enum clients_flag. */
  readonly clients: number;
}): Uint8Array {
  const { places, count, affinity, clients } = record;
  const bytes = new Uint8Array(SERVICE.size);
  putWord(bytes, SERVICE.places, places);
  putWord(bytes, SERVICE.count, count);
  putWord(bytes, SERVICE.affinity, affinity);
  putWord(bytes, SERVICE.clients, clients);
  return bytes;
}

/** Structs service_places one after the other, from slots of backends. */
export function placesBytes(slots: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(slots.length / PLACES_RECORD) * SERVICE_PLACES.size);
  for (const [place, slot] of slots.entries()) putWord(bytes, SERVICE_PLACES.backend + 4 * place, slot);
  return bytes;
}

/** Structs client_bound one after the other. */
export function boundsBytes(bounds: readonly (readonly number[])[]): Uint8Array {
  const bytes = new Uint8Array(bounds.length * CLIENT_BOUND.size);
  for (const [at, words] of bounds.entries()) {
    for (const [index, word] of words.entries()) {
      putWord(bytes, at * CLIENT_BOUND.size + CLIENT_BOUND.w + 4 * index, word);
    }
  }
  return bytes;
}

/** struct backend, live. */
export function backendBytes(record: {
  readonly backend: Backend;
  readonly slot: number;
  readonly generation: number;
}): Uint8Array {
  const { backend, slot, generation } = record;
  const bytes = new Uint8Array(BACKEND.size);
  const { words } = backend.address;
  for (let index = 0; index < words.length; index++) putWire(bytes, BACKEND.address + 4 * index, words[index] ?? 0);
  view(bytes).setBigUint64(BACKEND.live, liveWord(slot, generation), true);
  putWord(bytes, BACKEND.port, backend.port);
  putWord(bytes, BACKEND.generation, generation);
  return bytes;
}
