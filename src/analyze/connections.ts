// Range sets as people read them: protocol by protocol, with their ports.
import { type AxisRange, axisRange } from '#net/axis.ts';
import { hasPorts, ICMP, ICMPV6, type Protocol, protocolName, SCTP, TCP, UDP } from '#net/protocol.ts';
import { intersectRanges, type RangeSet } from './ranges.ts';

/**
 * One protocol and its ports, as `[first, last]` pairs: 1..65535 for TCP, UDP and SCTP; type × 256 + code for ICMP.
 * `other` stands for every protocol but TCP, UDP, SCTP, ICMP and ICMPv6, each with all it has.
 */
export type Connection = { readonly protocol: string; readonly ports: readonly (readonly [number, number])[] };

const NAMED: readonly Protocol[] = [TCP, UDP, SCTP, ICMP, ICMPV6];

/** The parts of a set in the order TCP, UDP, SCTP, ICMP, ICMPv6, the rest by number; `other` if all the rest is there. */
export function connectionsOf(ranges: RangeSet): readonly Connection[] {
  const named = NAMED.flatMap((protocol) => connection(ranges, protocol));
  const others = protocolsOf(ranges).filter((each) => !NAMED.includes(each));
  if (others.length === 256 - NAMED.length && others.every((protocol) => isWhole(ranges, protocol)))
    return [...named, { protocol: 'other', ports: [[0, 65535]] }];
  return [...named, ...others.flatMap((protocol) => connection(ranges, protocol))];
}

/** True where nothing at all is left out. */
export function isEverything(connections: readonly Connection[]): boolean {
  return connections.length === NAMED.length + 1 && connections.every((each) => isWholeConnection(each));
}

/** As `connectionsText`, and which of them pass by audit alone. */
export function rowText(connections: readonly Connection[], audited: readonly Connection[] | undefined): string {
  if (audited === undefined) return connectionsText(connections);
  const [all, some] = [connectionsText(connections), connectionsText(audited)];
  return all === some ? `${all} (by audit alone)` : `${all} (by audit alone: ${some})`;
}

/** `TCP 80, 443-444; UDP 53`, `everything`, `nothing`. */
function connectionsText(connections: readonly Connection[]): string {
  if (connections.length === 0) return 'nothing';
  if (isEverything(connections)) return 'everything';
  return connections.map(connectionText).join('; ');
}

function connectionText(connection: Connection): string {
  if (isWholeConnection(connection)) return connection.protocol;
  const ports = connection.ports.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`));
  return `${connection.protocol} ${ports.join(', ')}`;
}

function isWholeConnection({ protocol, ports }: Connection): boolean {
  const first = ['TCP', 'UDP', 'SCTP'].includes(protocol) ? 1 : 0;
  return ports.length === 1 && ports[0]?.[0] === first && ports[0]?.[1] === 65535;
}

/** The protocols that the set has something of, ascending. */
function protocolsOf(ranges: RangeSet): readonly Protocol[] {
  const found = new Set<Protocol>();
  for (const { first, last } of ranges) {
    for (let protocol = first >>> 16; protocol <= last >>> 16; protocol++) found.add(protocol);
  }
  return [...found];
}

/** Port 0 is on the axis, but nobody can listen there or name it: a set that holds it alone says nothing. */
function connection(ranges: RangeSet, protocol: Protocol): readonly Connection[] {
  const all = axisRange(protocol, hasPorts(protocol) ? 1 : 0);
  const ports = intersectRanges(ranges, [all]).map(({ first, last }) => [portOf(first), portOf(last)] as const);
  return ports.length === 0 ? [] : [{ protocol: protocolName(protocol), ports }];
}

function isWhole(ranges: RangeSet, protocol: Protocol): boolean {
  const all: AxisRange = axisRange(protocol);
  return ranges.some(({ first, last }) => first <= all.first && last >= all.last);
}

function portOf(position: number): number {
  return position & 0xffff;
}
