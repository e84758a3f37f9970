// Frames for tests, one line each, with right checksums: what a pod or the network would really send.
import { type Address, parseAddress } from '#net/address.ts';
import { ICMP, ICMPV6, type Protocol, SCTP, TCP, UDP } from '#net/protocol.ts';

/** An address as text or as value. */
export type AddressLike = string | Address;

/** One IPv6 extension header: its number and its bytes after the next-header field. */
export type ExtensionHeader = { readonly header: number; readonly body: Uint8Array };

/** The place of an IPv4 packet that is whole, and that nobody may cut up. */
export const WHOLE: FragmentPlace = { id: 0, offset: 0x4000, more: false };

/** Where a fragment stands; `offset` in units of 8 bytes. */
export type FragmentPlace = { readonly id: number; readonly offset: number; readonly more: boolean };

/** What every IP packet has. MACs default to ones made from the addresses. */
export type IpSpec = {
  readonly from: AddressLike;
  readonly to: AddressLike;
  readonly sourceMac?: Uint8Array;
  readonly destinationMac?: Uint8Array;
  readonly hopLimit?: number;
  readonly fragment?: FragmentPlace;
  /** IPv4 options, padded to 4 bytes by the caller. */
  readonly options?: Uint8Array;
  /** IPv6 extension headers before the fragment header. */
  readonly headers?: readonly ExtensionHeader[];
};

export type PortSpec = IpSpec & { readonly sport: number; readonly dport: number; readonly payload?: Uint8Array };

const TCP_FLAGS = 'FSRPAUEC';
const EMPTY = new Uint8Array();

/** `flags` are letters of FSRPAUEC; the numbers are by default those of a connection on which nothing was sent yet. */
export type SegmentSpec = PortSpec & {
  readonly flags?: string;
  readonly sequence?: number;
  readonly ack?: number;
  readonly window?: number;
};

/** A TCP segment, by default a SYN. */
export function tcp(spec: SegmentSpec): Uint8Array {
  const letters = spec.flags ?? 'S';
  const flags = [...letters].reduce((bits, letter) => bits | (1 << TCP_FLAGS.indexOf(letter)), 0);
  const sequence = spec.sequence ?? (letters.includes('S') ? 1 : 2);
  const ack = spec.ack ?? (letters.includes('A') ? 2 : 0);
  const numbers = concat(u32(sequence), u32(ack));
  const segment = concat(u16(spec.sport), u16(spec.dport), numbers, [0x50, flags], u16(spec.window ?? 512), u32(0));
  return ip(spec, TCP, withChecksum(spec, TCP, { body: concat(segment, spec.payload ?? EMPTY), at: 16 }));
}

/** A UDP datagram. */
export function udp(spec: PortSpec): Uint8Array {
  const payload = spec.payload ?? EMPTY;
  const datagram = concat(u16(spec.sport), u16(spec.dport), u16(8 + payload.length), u16(0), payload);
  return ip(spec, UDP, withChecksum(spec, UDP, { body: datagram, at: 6 }));
}

/** An SCTP packet with one chunk; type 1 is INIT, 2 INIT-ACK, 0 DATA. */
export function sctp(spec: PortSpec & { readonly chunk?: number }): Uint8Array {
  const chunk = concat([spec.chunk ?? 1, 0], u16(20), u32(0xabcd), u32(65536), u16(1), u16(1), u32(1));
  const packet = concat(u16(spec.sport), u16(spec.dport), u32(0), u32(0), chunk, spec.payload ?? EMPTY);
  const sum = crc32c(packet);
  packet.set([sum & 255, (sum >>> 8) & 255, (sum >>> 16) & 255, sum >>> 24], 8);
  return ip(spec, SCTP, packet);
}

/** An ICMP or ICMPv6 echo request, or its reply. */
export function echo(spec: IpSpec & { readonly id: number; readonly reply?: true }): Uint8Array {
  const types = isV6(spec) ? { request: 128, reply: 129 } : { request: 8, reply: 0 };
  const body = concat(u16(spec.id), u16(1), [1, 2, 3, 4]);
  return icmp({ ...spec, type: spec.reply ? types.reply : types.request, code: 0, body });
}

/** An ICMP error about `inner`, a whole frame (its Ethernet header is cut off). Default: destination unreachable. */
export function icmpError(spec: IpSpec & { readonly inner: Uint8Array; readonly type?: number }): Uint8Array {
  const type = spec.type ?? (isV6(spec) ? 1 : 3);
  return icmp({ ...spec, type, code: isV6(spec) ? 4 : 3, body: concat(u32(0), spec.inner.subarray(14)) });
}

/** Any ICMP or ICMPv6 message: type, code, checksum, then `body`. */
export function icmp(
  spec: IpSpec & { readonly type: number; readonly code: number; readonly body: Uint8Array },
): Uint8Array {
  const message = concat([spec.type, spec.code], u16(0), spec.body);
  const protocol = isV6(spec) ? ICMPV6 : ICMP;
  return ip(spec, protocol, withChecksum(spec, protocol, { body: message, at: 2 }));
}

/** A neighbour solicitation or advertisement for `target`, with one link-layer address option where `option` is given. */
export function neighbour(
  spec: IpSpec & { readonly type: 'solicitation' | 'advertisement'; readonly target: AddressLike; option?: Uint8Array },
): Uint8Array {
  const advertises = spec.type === 'advertisement';
  const option = spec.option === undefined ? [] : [advertises ? 2 : 1, 1, ...spec.option];
  const body = concat(u32(advertises ? 0x60000000 : 0), bytesOf(spec.target), option);
  return icmp({ hopLimit: 255, ...spec, type: advertises ? 136 : 135, code: 0, body });
}

/** An ARP request (1) or reply (2). */
export function arp(spec: {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  readonly sender: AddressLike;
  readonly target: AddressLike;
  readonly sourceMac?: Uint8Array;
}): Uint8Array {
  const header = concat(u16(1), u16(0x0800), [6, 4], u16(spec.operation));
  const body = concat(header, spec.senderMac, bytesOf(spec.sender), new Uint8Array(6), bytesOf(spec.target));
  return ethernet({ source: spec.sourceMac ?? spec.senderMac, destination: BROADCAST_MAC, type: 0x0806 }, body);
}

export const BROADCAST_MAC: Uint8Array = new Uint8Array(6).fill(0xff);

/** An Ethernet frame of any type. */
export function ethernet(
  header: { readonly source: Uint8Array; readonly destination: Uint8Array; readonly type: number },
  payload: Uint8Array,
): Uint8Array {
  return concat(header.destination, header.source, u16(header.type), payload);
}

/** An IP packet of any protocol in its Ethernet frame. */
export function ip(spec: IpSpec, protocol: Protocol, payload: Uint8Array): Uint8Array {
  const macs = {
    source: spec.sourceMac ?? macOf(spec.from),
    destination: spec.destinationMac ?? macOf(spec.to),
  };
  if (isV6(spec)) return ethernet({ ...macs, type: 0x86dd }, v6(spec, protocol, payload));
  return ethernet({ ...macs, type: 0x0800 }, concat(v4Header(spec, protocol, payload.length), payload));
}

/** A locally administered MAC made from the last bytes of an address. */
export function macOf(address: AddressLike): Uint8Array {
  return concat([2, 0], bytesOf(address).slice(-4));
}

function v4Header(spec: IpSpec, protocol: Protocol, payloadLength: number): Uint8Array {
  const options = spec.options ?? EMPTY;
  const words = 5 + options.length / 4;
  const place = spec.fragment ?? { id: 7, offset: 0, more: false };
  const header = concat(
    [0x40 | words, 0],
    u16(words * 4 + payloadLength),
    u16(place.id),
    u16((place.more ? 0x2000 : 0) | place.offset),
    [spec.hopLimit ?? 64, protocol],
    u16(0),
    bytesOf(spec.from),
    bytesOf(spec.to),
    options,
  );
  header.set(u16(internetChecksum(header)), 10);
  return header;
}

function v6(spec: IpSpec, protocol: Protocol, payload: Uint8Array): Uint8Array {
  const chain: ExtensionHeader[] = [...(spec.headers ?? [])];
  const place = spec.fragment;
  if (place !== undefined) {
    const body = concat([0], u16((place.offset << 3) | (place.more ? 1 : 0)), u32(place.id));
    chain.push({ header: 44, body });
  }
  const numbers = [...chain.map((link) => link.header), protocol];
  const headers = chain.map((link, index) => concat([numbers[index + 1] ?? protocol], link.body));
  const rest = concat(...headers, payload);
  const fixed = concat(u32(0x60000000), u16(rest.length), [numbers[0] ?? protocol, spec.hopLimit ?? 64]);
  return concat(fixed, bytesOf(spec.from), bytesOf(spec.to), rest);
}

function withChecksum(
  spec: IpSpec,
  protocol: Protocol,
  message: { readonly body: Uint8Array; readonly at: number },
): Uint8Array {
  const pseudo = concat(bytesOf(spec.from), bytesOf(spec.to), u32(message.body.length), u32(protocol));
  const sum = internetChecksum(protocol === ICMP ? message.body : concat(pseudo, message.body));
  message.body.set(u16(protocol === UDP && sum === 0 ? 0xffff : sum), message.at);
  return message.body;
}

function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** CRC-32C (RFC 9260 appendix A), bit by bit: test frames are short. */
function crc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

function isV6(spec: IpSpec): boolean {
  return addressOf(spec.from).family === 6;
}

function addressOf(address: AddressLike): Address {
  const found = typeof address === 'string' ? parseAddress(address) : address;
  if (found === null) throw new Error(`not an address: ${String(address)}`);
  return found;
}

function bytesOf(address: AddressLike): Uint8Array {
  return concat(...addressOf(address).words.map(u32));
}

function u16(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

function u32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

/** The parts one after the other. */
export function concat(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
