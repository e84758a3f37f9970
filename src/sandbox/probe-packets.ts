// The packets a probe makes itself: SCTP INIT and INIT-ACK (the kernel has no SCTP sockets) and ICMP echo.
// Formats: RFC 9260 §3, RFC 792, RFC 4443 §4.

const SCTP_INIT = 1;
const SCTP_INIT_ACK = 2;
const STATE_COOKIE = 7;
/** Unknown to every stack; the top bits say "skip it", so it may carry the nonce in an INIT. */
const NONCE_PARAMETER = 0x8d0a;
const CHUNK_OFFSET = 12;
const PARAMETER_OFFSET = CHUNK_OFFSET + 20;

/** An SCTP INIT or INIT-ACK. `tag` is the initiate tag; an INIT-ACK carries that of the INIT in its header. */
export type SctpPacket = {
  readonly kind: 'init' | 'init-ack';
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly tag: number;
  readonly nonce: Uint8Array;
};

/** Encodes an SCTP packet, checksum included. An INIT-ACK echoes the nonce in its state cookie. */
export function encodeSctp(packet: SctpPacket): Uint8Array {
  const init = packet.kind === 'init';
  const bytes = Buffer.alloc(PARAMETER_OFFSET + 4 + packet.nonce.length);
  bytes.writeUInt16BE(packet.sourcePort, 0);
  bytes.writeUInt16BE(packet.destinationPort, 2);
  bytes.writeUInt32BE(init ? 0 : packet.tag, 4);
  bytes.writeUInt8(init ? SCTP_INIT : SCTP_INIT_ACK, CHUNK_OFFSET);
  bytes.writeUInt16BE(bytes.length - CHUNK_OFFSET, CHUNK_OFFSET + 2);
  bytes.writeUInt32BE(packet.tag, CHUNK_OFFSET + 4);
  bytes.writeUInt32BE(65536, CHUNK_OFFSET + 8);
  bytes.writeUInt16BE(1, CHUNK_OFFSET + 12);
  bytes.writeUInt16BE(1, CHUNK_OFFSET + 14);
  bytes.writeUInt32BE(packet.tag, CHUNK_OFFSET + 16);
  bytes.writeUInt16BE(init ? NONCE_PARAMETER : STATE_COOKIE, PARAMETER_OFFSET);
  bytes.writeUInt16BE(4 + packet.nonce.length, PARAMETER_OFFSET + 2);
  bytes.set(packet.nonce, PARAMETER_OFFSET + 4);
  bytes.writeUInt32LE(crc32c(bytes), 8);
  return bytes;
}

/** Decodes what `encodeSctp` makes; null for any other packet, and for one with a wrong checksum. */
export function decodeSctp(data: Uint8Array): SctpPacket | null {
  if (data.length < PARAMETER_OFFSET + 4) return null;
  const bytes = Buffer.from(data);
  const sum = bytes.readUInt32LE(8);
  bytes.writeUInt32LE(0, 8);
  if (crc32c(bytes) !== sum) return null;
  const type = bytes.readUInt8(CHUNK_OFFSET);
  if (type !== SCTP_INIT && type !== SCTP_INIT_ACK) return null;
  const length = bytes.readUInt16BE(PARAMETER_OFFSET + 2);
  return {
    kind: type === SCTP_INIT ? 'init' : 'init-ack',
    sourcePort: bytes.readUInt16BE(0),
    destinationPort: bytes.readUInt16BE(2),
    tag: type === SCTP_INIT ? bytes.readUInt32BE(CHUNK_OFFSET + 4) : bytes.readUInt32BE(4),
    nonce: bytes.subarray(PARAMETER_OFFSET + 4, PARAMETER_OFFSET + length),
  };
}

/** An echo request or reply. */
export type EchoPacket = { readonly kind: 'request' | 'reply'; readonly id: number; readonly nonce: Uint8Array };

/** Encodes an echo request. For IPv6 the kernel fills in the checksum, which covers the addresses. */
export function encodeEcho(family: 4 | 6, id: number, nonce: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(8 + nonce.length);
  bytes.writeUInt8(family === 4 ? 8 : 128, 0);
  bytes.writeUInt16BE(id, 4);
  bytes.writeUInt16BE(1, 6);
  bytes.set(nonce, 8);
  if (family === 4) bytes.writeUInt16BE(internetChecksum(bytes), 2);
  return bytes;
}

/** Decodes an echo request or reply; null for any other ICMP message. */
export function decodeEcho(family: 4 | 6, data: Uint8Array): EchoPacket | null {
  if (data.length < 8) return null;
  const bytes = Buffer.from(data);
  const type = bytes.readUInt8(0);
  const [request, reply] = family === 4 ? [8, 0] : [128, 129];
  if (type !== request && type !== reply) return null;
  return { kind: type === request ? 'request' : 'reply', id: bytes.readUInt16BE(4), nonce: bytes.subarray(8) };
}

/** What follows the IPv4 header that raw sockets hand over (IPv6 ones don't). */
export function stripIpv4Header(data: Uint8Array): Uint8Array {
  return data.subarray(((data[0] ?? 0) & 15) * 4);
}

/** The type of an echo request on the port axis: type << 8 | code. */
export function echoPort(family: 4 | 6): number {
  return (family === 4 ? 8 : 128) << 8;
}

/** RFC 1071. */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const [index, byte] of bytes.entries()) sum += index % 2 === 0 ? byte << 8 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const CRC32C_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** The Castagnoli checksum that SCTP uses (RFC 9260, appendix A). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (CRC32C_TABLE[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}
