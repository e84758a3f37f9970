// Ethernet frames for datapath tests, one line each. Checksums are left out where no hook reads them.
import type { Address } from '#net/address.ts';
import { ICMP, ICMPV6, SCTP, TCP, UDP } from '#net/protocol.ts';

/** Everything a frame needs; what is left out is ordinary. */
export type FrameFields = {
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Letters of SARF: SYN, ACK, RST, FIN. The numbers are those of a connection on which nothing was sent yet. */
  readonly flags?: string;
  readonly ack?: number;
  readonly sourceMac?: Uint8Array;
  readonly destinationMac?: Uint8Array;
  readonly ttl?: number;
  /** IPv4: the identification; IPv6: a fragment header's. */
  readonly fragment?: { readonly id: number; readonly offset: number; readonly more: boolean };
  /** Replaces the transport header and what follows. */
  readonly payload?: Uint8Array;
  readonly icmp?: { readonly type: number; readonly code?: number; readonly id?: number; readonly body?: Uint8Array };
  readonly options?: Uint8Array;
  /** IPv6 extension headers, whole, before the transport header; `nextHeader` is the first one's number. */
  readonly extensions?: { readonly nextHeader: number; readonly bytes: Uint8Array };
};

const MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** The whole frame. */
export function frame(fields: FrameFields): Uint8Array {
  const packet = ipPacket(fields);
  const type = fields.source.family === 4 ? 0x0800 : 0x86dd;
  return ethernet(type, packet, fields.sourceMac ?? MAC, fields.destinationMac ?? MAC);
}

/** A frame around any packet, padded to what the kernel's test runs take. */
export function ethernet(
  type: number,
  packet: Uint8Array,
  source: Uint8Array = MAC,
  destination: Uint8Array = MAC,
): Uint8Array {
  const header = Buffer.alloc(14);
  header.set(destination, 0);
  header.set(source, 6);
  header.writeUInt16BE(type, 12);
  return Buffer.concat([header, packet, Buffer.alloc(Math.max(0, 60 - 14 - packet.length))]);
}

/** The IP packet alone: for what ICMP errors quote. */
export function ipPacket(fields: FrameFields): Uint8Array {
  const payload = fields.payload ?? transport(fields);
  return fields.source.family === 4 ? v4Packet(fields, payload) : v6Packet(fields, payload);
}

function v4Packet(fields: FrameFields, payload: Uint8Array): Uint8Array {
  const options = fields.options ?? new Uint8Array();
  const header = Buffer.alloc(20);
  header[0] = 0x40 | (5 + options.length / 4);
  header.writeUInt16BE(20 + options.length + payload.length, 2);
  header.writeUInt16BE(fields.fragment?.id ?? 0, 4);
  header.writeUInt16BE((fields.fragment?.offset ?? 0) | (fields.fragment?.more ? 0x2000 : 0), 6);
  header[8] = fields.ttl ?? 64;
  header[9] = fields.protocol;
  header.writeUInt32BE(fields.source.words[0] ?? 0, 12);
  header.writeUInt32BE(fields.destination.words[0] ?? 0, 16);
  return Buffer.concat([header, options, payload]);
}

function v6Packet(fields: FrameFields, payload: Uint8Array): Uint8Array {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header[7] = fields.ttl ?? 64;
  for (const [index, word] of fields.source.words.entries()) header.writeUInt32BE(word, 8 + 4 * index);
  for (const [index, word] of fields.destination.words.entries()) header.writeUInt32BE(word, 24 + 4 * index);
  const fragment = fields.fragment === undefined ? new Uint8Array() : fragmentHeader(fields);
  const extensions = fields.extensions?.bytes ?? new Uint8Array();
  header[6] = fields.extensions?.nextHeader ?? (fragment.length > 0 ? 44 : fields.protocol);
  header.writeUInt16BE(extensions.length + fragment.length + payload.length, 4);
  return Buffer.concat([header, extensions, fragment, payload]);
}

function fragmentHeader(fields: FrameFields): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes[0] = fields.protocol;
  bytes.writeUInt16BE(((fields.fragment?.offset ?? 0) << 3) | (fields.fragment?.more ? 1 : 0), 2);
  bytes.writeUInt32BE(fields.fragment?.id ?? 0, 4);
  return bytes;
}

function transport(fields: FrameFields): Uint8Array {
  if (fields.protocol === ICMP || fields.protocol === ICMPV6) return icmpMessage(fields);
  const size = fields.protocol === TCP ? 20 : fields.protocol === UDP ? 8 : fields.protocol === SCTP ? 12 : 8;
  const bytes = Buffer.alloc(size + 8);
  bytes.writeUInt16BE(fields.sourcePort ?? 40_000, 0);
  bytes.writeUInt16BE(fields.destinationPort ?? 80, 2);
  if (fields.protocol === UDP) bytes.writeUInt16BE(bytes.length, 4);
  if (fields.protocol === TCP) {
    const letters = fields.flags ?? 'A';
    bytes.writeUInt32BE(letters.includes('S') ? 1 : 2, 4);
    bytes.writeUInt32BE(fields.ack ?? (letters.includes('A') ? 2 : 0), 8);
    bytes[12] = 5 << 4;
    bytes[13] = tcpFlags(letters);
  }
  return bytes;
}

function icmpMessage(fields: FrameFields): Uint8Array {
  const icmp = fields.icmp ?? { type: fields.protocol === ICMP ? 8 : 128 };
  const header = Buffer.alloc(8);
  header[0] = icmp.type;
  header[1] = icmp.code ?? 0;
  header.writeUInt16BE(icmp.id ?? 0, 4);
  return Buffer.concat([header, icmp.body ?? new Uint8Array(8)]);
}

function tcpFlags(letters: string): number {
  const bits: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, A: 16 };
  return [...letters].reduce((flags, letter) => flags | (bits[letter] ?? 0), 0);
}
