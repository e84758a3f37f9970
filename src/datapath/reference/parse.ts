// A frame → what it is, or why it is dropped. Nothing is guessed: what can't be parsed has a reason.

import type { DropReason } from '#datapath/port.ts';
import type { Address } from '#net/address.ts';
import { ICMP, ICMPV6, SCTP, TCP, UDP } from '#net/protocol.ts';
import { readAddress, readUint } from './bytes.ts';
import { type IpPacket, type IpResult, parseIpv4, parseIpv6 } from './ip.ts';
import {
  type FrameMacs,
  ICMP_ONE_WAY,
  ICMP_RESPONDER,
  type ParsedFrame,
  type TcpSegment,
  type Transport,
  type Tuple,
} from './packet.ts';

const ETHERNET = 14;
const IPV4_TYPE = 0x0800;
const IPV6_TYPE = 0x86dd;
const ARP_TYPE = 0x0806;

const SOLICITATION = 135;
const ADVERTISEMENT = 136;
const ICMP_ERRORS: ReadonlySet<number> = new Set([3, 4, 5, 11, 12]);
const ICMPV6_ERRORS: ReadonlySet<number> = new Set([1, 2, 3, 4]);
/** Bytes a transport header must have. */
const TRANSPORT_BYTES: ReadonlyMap<number, number> = new Map([
  [TCP, 20],
  [UDP, 8],
  [SCTP, 12],
]);
const ICMP_BYTES = 8;

/** Parses an Ethernet frame. */
export function parseFrame(frame: Uint8Array): ParsedFrame {
  const type = readUint(frame, 12, 2);
  if (type === null) return { kind: 'drop', reason: 'malformed', tuple: null };
  const macs: FrameMacs = { source: frame.subarray(6, 12), destination: frame.subarray(0, 6) };
  const payload = frame.subarray(ETHERNET);
  if (type === ARP_TYPE) return parseArp(payload, macs);
  if (type === IPV4_TYPE) return parseIp(parseIpv4(payload, 'whole'), macs);
  if (type === IPV6_TYPE) return parseIp(parseIpv6(payload, 'whole'), macs);
  return { kind: 'drop', reason: 'ethertype', tuple: null };
}

function parseArp(bytes: Uint8Array, macs: FrameMacs): ParsedFrame {
  const hardware = readUint(bytes, 0, 4);
  const sizes = readUint(bytes, 4, 2);
  const sender = readAddress(bytes, 14, 4);
  const target = readAddress(bytes, 24, 4);
  // Ethernet (1) and IPv4 (0800), 6-byte MACs, 4-byte addresses (RFC 826).
  if (hardware !== 0x0001_0800 || sizes !== 0x0604 || sender === null || target === null) {
    return { kind: 'drop', reason: 'malformed', tuple: null };
  }
  const operation = readUint(bytes, 6, 2) ?? 0;
  const length = ETHERNET + bytes.length;
  return { kind: 'arp', length, macs, operation, senderMac: bytes.subarray(8, 14), sender, target };
}

function parseIp(result: IpResult, macs: FrameMacs): ParsedFrame {
  if (result.kind === 'drop') {
    const known = result.source !== null && result.to !== null;
    return { kind: 'drop', reason: result.reason, tuple: known ? portless(result.source, result.to, 0) : null };
  }
  const transport = parseTransport(result.packet);
  const { fragment, hopLimit } = result.packet;
  if (typeof transport !== 'string') return { kind: 'ip', macs, hopLimit, fragment, transport };
  const { source, destination, protocol } = result.packet;
  return { kind: 'drop', reason: transport, tuple: portless(source, destination, protocol) };
}

function portless(source: Address, destination: Address, protocol: number): Tuple {
  return { source, destination, protocol, sourcePort: 0, destinationPort: 0, policyPort: 0 };
}

function parseTransport(packet: IpPacket): Transport | DropReason {
  const tuple = portless(packet.source, packet.destination, packet.protocol);
  if (packet.fragment !== null && packet.fragment.offset > 0) return { kind: 'later-fragment', tuple };
  if (isIcmp(packet)) return parseIcmp(packet, tuple);
  const needed = TRANSPORT_BYTES.get(packet.protocol);
  if (needed === undefined) return { kind: 'flow', tuple };
  if (packet.payload.length < needed) return packet.fragment === null ? 'malformed' : 'fragment-tiny';
  const withPorts = readPorts(packet.payload, tuple);
  if (packet.protocol === TCP) return parseTcp(packet, withPorts);
  const stated = readUint(packet.payload, 4, 2) ?? 0;
  // 0 is what the kernel's own offloads write into large datagrams.
  if (packet.protocol === UDP && stated !== 0 && stated < 8) return 'malformed';
  return { kind: 'flow', tuple: withPorts };
}

function parseTcp(packet: IpPacket, tuple: Tuple): Transport | DropReason {
  const headerLength = ((packet.payload[12] ?? 0) >> 4) * 4;
  const impossible = headerLength < 20 || headerLength > packet.payload.length;
  if (impossible) return packet.fragment === null ? 'malformed' : 'fragment-tiny';
  const segment = tcpSegment(packet.payload, headerLength);
  // No stack opens and ends in one segment: a probe.
  if (segment.syn && (segment.fin || segment.rst)) return 'malformed';
  return { kind: 'tcp', tuple, segment };
}

function readPorts(payload: Uint8Array, tuple: Tuple): Tuple {
  const sourcePort = readUint(payload, 0, 2) ?? 0;
  const destinationPort = readUint(payload, 2, 2) ?? 0;
  return { ...tuple, sourcePort, destinationPort, policyPort: destinationPort };
}

function tcpSegment(payload: Uint8Array, headerLength: number): TcpSegment {
  const bits = payload[13] ?? 0;
  const flags = { fin: (bits & 1) !== 0, syn: (bits & 2) !== 0, rst: (bits & 4) !== 0, ack: (bits & 16) !== 0 };
  const sequence = readUint(payload, 4, 4) ?? 0;
  const length = flags.syn ? 1 : payload.length - headerLength + (flags.fin ? 1 : 0);
  return { ...flags, sequence, acknowledged: readUint(payload, 8, 4) ?? 0, end: (sequence + length) >>> 0 };
}

/** ICMP belongs to IPv4, ICMPv6 to IPv6; the other way round they are plain protocol numbers. */
function isIcmp(packet: IpPacket): boolean {
  return packet.protocol === (packet.source.family === 4 ? ICMP : ICMPV6);
}

function parseIcmp(packet: IpPacket, tuple: Tuple): Transport | DropReason {
  const { payload, fragment } = packet;
  if (payload.length < ICMP_BYTES) return fragment === null ? 'malformed' : 'fragment-tiny';
  const type = payload[0] ?? 0;
  const typed = { ...tuple, policyPort: (type << 8) | (payload[1] ?? 0) };
  const v6 = packet.source.family === 6;
  const [request, reply] = v6 ? [128, 129] : [8, 0];
  if (type === request || type === reply) {
    return { kind: 'echo', tuple: withEchoId(payload, typed), reply: type === reply };
  }
  if ((v6 ? ICMPV6_ERRORS : ICMP_ERRORS).has(type)) {
    return { kind: 'icmp-error', tuple: typed, inner: parseInner(payload.subarray(ICMP_BYTES), v6) };
  }
  if (v6 && type >= 133 && type <= 137) return parseNeighbour(packet, typed);
  if (v6 && ((type >= 130 && type <= 132) || type === 143)) {
    return { kind: 'listener', tuple: typed, honest: packet.hopLimit === 1 && fragment === null };
  }
  return { kind: 'message', tuple: oneWay(typed) };
}

/** The flow that an ICMP error quotes: RFC 792 promises its header and 8 bytes. */
function parseInner(bytes: Uint8Array, v6: boolean): Tuple | null {
  const result = v6 ? parseIpv6(bytes, 'quoted') : parseIpv4(bytes, 'quoted');
  if (result.kind === 'drop' || (result.packet.fragment?.offset ?? 0) > 0) return null;
  const { packet } = result;
  const tuple = portless(packet.source, packet.destination, packet.protocol);
  if (!isIcmp(packet) && !TRANSPORT_BYTES.has(packet.protocol)) return tuple;
  if (packet.payload.length < 8) return null;
  if (!isIcmp(packet)) return readPorts(packet.payload, tuple);
  const type = packet.payload[0] ?? 0;
  const policyPort = (type << 8) | (packet.payload[1] ?? 0);
  const typed = { ...tuple, policyPort };
  if ((v6 ? [128, 129] : [8, 0]).includes(type)) return withEchoId(packet.payload, typed);
  // No error speaks of an error (RFC 1122 §3.2.2).
  return (v6 ? ICMPV6_ERRORS : ICMP_ERRORS).has(type) ? null : oneWay(typed);
}

function oneWay(tuple: Tuple): Tuple {
  return { ...tuple, sourcePort: ICMP_ONE_WAY + tuple.policyPort, destinationPort: ICMP_RESPONDER };
}

function withEchoId(payload: Uint8Array, tuple: Tuple): Tuple {
  const id = readUint(payload, 4, 2) ?? 0;
  const isReply = payload[0] === 0 || payload[0] === 129;
  if (isReply) return { ...tuple, sourcePort: ICMP_RESPONDER, destinationPort: id };
  return { ...tuple, sourcePort: id, destinationPort: ICMP_RESPONDER };
}

/** RFC 4861 §6.1, §7.1: hop limit 255; RFC 6980: never in fragments. */
function parseNeighbour(packet: IpPacket, tuple: Tuple): Transport | DropReason {
  const { payload } = packet;
  const type = payload[0] ?? 0;
  const hasTarget = type === SOLICITATION || type === ADVERTISEMENT;
  const fixed = hasTarget ? 24 : 8;
  if (payload.length < fixed) return 'malformed';
  const honest = packet.hopLimit === 255 && packet.fragment === null;
  const target = hasTarget ? readAddress(payload, 8, 6) : null;
  return { kind: 'neighbour', tuple, message: { type, honest, target, options: payload.subarray(fixed) } };
}
