// The 24-bit axis on which port tables are sorted: protocol << 16 | port (ICMP: type << 8 | code).
import type { Protocol } from './protocol.ts';

/** First and last position on the axis, both included. */
export type AxisRange = { readonly first: number; readonly last: number };

/** One past the last position: 256 protocols of 65 536 ports. */
export const AXIS_END: number = 1 << 24;

/** Every protocol and port. */
export const WHOLE_AXIS: AxisRange = { first: 0, last: AXIS_END - 1 };

/** The position of one port (for ICMP: type << 8 | code; for protocols without ports: 0). */
export function axisPosition(protocol: Protocol, port: number): number {
  return (protocol << 16) | port;
}

/** The positions of a protocol's ports `first..last`. */
export function axisRange(protocol: Protocol, first = 0, last = 0xffff): AxisRange {
  return { first: axisPosition(protocol, first), last: axisPosition(protocol, last) };
}
