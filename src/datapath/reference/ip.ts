// IP headers: addresses, fragment, and where the upper-layer protocol starts. IPv6 extension headers are walked here.

import type { DropReason } from '#datapath/port.ts';
import { type Address, isV4Mapped } from '#net/address.ts';
import { type Protocol, TCP } from '#net/protocol.ts';
import { readAddress, readUint } from './bytes.ts';
import type { Fragment } from './packet.ts';

/** An IP packet: `payload` is the upper-layer part, cut to the length that the header states. */
export type IpPacket = {
  readonly source: Address;
  readonly destination: Address;
  readonly hopLimit: number;
  readonly protocol: Protocol;
  readonly fragment: Fragment | null;
  readonly payload: Uint8Array;
};

/** A packet, or why it is none. The addresses are kept where they were read, for the event. */
export type IpResult =
  | { readonly kind: 'packet'; readonly packet: IpPacket }
  | {
      readonly kind: 'drop';
      readonly reason: DropReason;
      readonly source: Address | null;
      readonly to: Address | null;
    };

/** Strict for what arrives; `quoted` for the start of a packet inside an ICMP error, whose end is cut off. */
export type IpStrictness = 'whole' | 'quoted';

const ROUTING = 43;
const FRAGMENT = 44;
/** Hop-by-hop, routing, fragment, destination options. */
const WALKED: ReadonlySet<Protocol> = new Set([0, ROUTING, FRAGMENT, 60]);
/** Mobility, HIP, Shim6: extension headers that nobody needs here and that would hide what follows. */
const REFUSED: ReadonlySet<Protocol> = new Set([135, 139, 140]);
const NO_OPERATION = 1;
const LOOSE_SOURCE_ROUTE = 131;
const STRICT_SOURCE_ROUTE = 137;
/** Longer chains are an attack on parsers, not traffic (RFC 8504 §5.3 lets hosts limit them). */
export const MAX_EXTENSION_HEADERS = 6;

/** Most of what is quoted is not here. One of more than 64 KiB, as kernels make them for their own offloads, says 0 of its length. */
function quotedEnd(said: number, end: number, bytes: Uint8Array): number {
  return said === 0 ? bytes.length : Math.min(end, bytes.length);
}

/** Parses an IPv4 packet (RFC 791), options skipped. */
export function parseIpv4(bytes: Uint8Array, strictness: IpStrictness): IpResult {
  const first = readUint(bytes, 0, 1);
  const total = readUint(bytes, 2, 2);
  const source = readAddress(bytes, 12, 4);
  const destination = readAddress(bytes, 16, 4);
  if (first === null || total === null || source === null || destination === null) return dropped('malformed');
  const headerLength = (first & 15) * 4;
  const end = strictness === 'quoted' ? quotedEnd(total, total, bytes) : total;
  if (first >> 4 !== 4 || headerLength < 20 || headerLength > end || end > bytes.length) return dropped('malformed');
  const place = readUint(bytes, 6, 2) ?? 0;
  const protocol = bytes[9] ?? 0;
  const packet = { source, destination, hopLimit: bytes[8] ?? 0, protocol, payload: bytes.subarray(headerLength, end) };
  const offset = place & 0x1fff;
  const whole = offset === 0 && (place & 0x2000) === 0;
  const fragment = whole ? null : { id: readUint(bytes, 4, 2) ?? 0, offset };
  // It could rewrite the flags of the first (RFC 1858).
  const tiny = protocol === TCP && fragment?.offset === 1;
  if (tiny) return { kind: 'drop', reason: 'fragment-tiny', source, to: destination };
  if (!areOptionsSound(bytes.subarray(20, headerLength))) return dropped('malformed');
  return { kind: 'packet', packet: { ...packet, fragment } };
}

/** Parses an IPv6 packet (RFC 8200) down to its upper-layer protocol. */
export function parseIpv6(bytes: Uint8Array, strictness: IpStrictness): IpResult {
  const first = readUint(bytes, 0, 1);
  const length = readUint(bytes, 4, 2);
  const source = readAddress(bytes, 8, 6);
  const destination = readAddress(bytes, 24, 6);
  if (first === null || length === null || source === null || destination === null) return dropped('malformed');
  const end = strictness === 'quoted' ? quotedEnd(length, 40 + length, bytes) : 40 + length;
  if (first >> 4 !== 6 || end > bytes.length) return dropped('malformed');
  const ends = { source, to: destination };
  if (isV4Mapped(source) || isV4Mapped(destination)) return { kind: 'drop', reason: 'v4-mapped', ...ends };
  const walk = walkExtensions(bytes.subarray(0, end));
  if (typeof walk === 'string') return { kind: 'drop', reason: walk, ...ends };
  const packet = { source, destination, hopLimit: bytes[7] ?? 0, protocol: walk.protocol, fragment: walk.fragment };
  return { kind: 'packet', packet: { ...packet, payload: bytes.subarray(walk.at, end) } };
}

/** False for source routes, which change the destination after it was judged, and for options without a length. */
function areOptionsSound(options: Uint8Array): boolean {
  for (let at = 0; at < options.length; ) {
    const option = options[at] ?? 0;
    if (option === 0) return true;
    if (option === LOOSE_SOURCE_ROUTE || option === STRICT_SOURCE_ROUTE) return false;
    const length = option === NO_OPERATION ? 1 : (options[at + 1] ?? 0);
    if (option !== NO_OPERATION && length < 2) return false;
    at += length;
  }
  return true;
}

type Walk = { readonly protocol: Protocol; readonly at: number; readonly fragment: Fragment | null };

function walkExtensions(bytes: Uint8Array): Walk | DropReason {
  let protocol = bytes[6] ?? 0;
  let at = 40;
  let fragment: Fragment | null = null;
  for (let count = 0; WALKED.has(protocol) || REFUSED.has(protocol); count++) {
    // Behind a first fragment's header a later fragment could overlap what follows, by its offset alone.
    if (REFUSED.has(protocol) || fragment !== null) return 'extension-header';
    const next = readUint(bytes, at, 1);
    if (next === null || at + 8 > bytes.length) return 'malformed';
    // With segments left the final destination is another one than the header's: not the one judged here.
    if (protocol === ROUTING && bytes[at + 3] !== 0) return 'extension-header';
    const size = protocol === FRAGMENT ? 8 : ((bytes[at + 1] ?? 0) + 1) * 8;
    if (at + size > bytes.length) return 'malformed';
    if (protocol === FRAGMENT) {
      fragment = fragmentAt(bytes, at);
      // IPv6 receivers put fragments together by id alone: its own Next Header says nothing of what it overlaps.
      if (fragment?.offset === 1) return 'fragment-tiny';
    }
    if (count === MAX_EXTENSION_HEADERS) return 'extension-header';
    if (fragment !== null && fragment.offset > 0) return { protocol: next, at: at + size, fragment };
    protocol = next;
    at += size;
  }
  return { protocol, at, fragment };
}

/** An atomic fragment (RFC 6946) is a whole packet: null. */
function fragmentAt(bytes: Uint8Array, at: number): Fragment | null {
  const place = readUint(bytes, at + 2, 2) ?? 0;
  const whole = place >> 3 === 0 && (place & 1) === 0;
  return whole ? null : { id: readUint(bytes, at + 4, 4) ?? 0, offset: place >> 3 };
}

function dropped(reason: DropReason): IpResult {
  return { kind: 'drop', reason, source: null, to: null };
}
