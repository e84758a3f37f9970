// IP protocol numbers that policies name, and their spelling.

/** An IP protocol number, 0..255 (for IPv6: the upper-layer protocol after extension headers). */
export type Protocol = number;

export const TCP: Protocol = 6;
export const UDP: Protocol = 17;
export const SCTP: Protocol = 132;
export const ICMP: Protocol = 1;
export const ICMPV6: Protocol = 58;

const NAMES: ReadonlyMap<Protocol, string> = new Map([
  [TCP, 'TCP'],
  [UDP, 'UDP'],
  [SCTP, 'SCTP'],
  [ICMP, 'ICMP'],
  [ICMPV6, 'ICMPv6'],
]);

/** The protocol's usual name; its number where it has none here. */
export function protocolName(protocol: Protocol): string {
  return NAMES.get(protocol) ?? String(protocol);
}

/** The protocol with this exact name (case-insensitive), or null. */
export function protocolNumber(name: string): Protocol | null {
  const wanted = name.toUpperCase();
  for (const [number, known] of NAMES) if (known.toUpperCase() === wanted) return number;
  return null;
}

/** True for protocols whose packets carry source and destination ports in their first four bytes. */
export function hasPorts(protocol: Protocol): boolean {
  return protocol === TCP || protocol === UDP || protocol === SCTP;
}
