// What a frame is, once parsed.

import type { DropReason } from '#datapath/port.ts';
import type { Address } from '#net/address.ts';
import type { Protocol } from '#net/protocol.ts';

/** What identifies a flow and its place on the axis. */
export type Tuple = {
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: Protocol;
  /**
   * Ports; 0 where the protocol has none. ICMP echo: the requester's is the id, the other side's `ICMP_RESPONDER`. Any
   * other ICMP message: the sender's is `ICMP_ONE_WAY` + type and code, so that nothing is a reply to it.
   */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The port that policy judges: the destination port; for ICMP type << 8 | code. */
  readonly policyPort: number;
};

/** No port: what the one side asks and what the other side asks are two flows. */
export const ICMP_RESPONDER = -1;
export const ICMP_ONE_WAY = 0x1_0000;

/** What moves a TCP connection on. */
export type TcpSegment = {
  readonly fin: boolean;
  readonly syn: boolean;
  readonly rst: boolean;
  readonly ack: boolean;
  readonly sequence: number;
  readonly acknowledged: number;
  /** The number after the segment: SYN and FIN take one each. */
  readonly end: number;
};

/** A fragment's datagram and its place; null in a packet that is whole. */
export type Fragment = { readonly id: number; readonly offset: number };

/** What follows the IP header. */
export type Transport =
  | { readonly kind: 'tcp'; readonly tuple: Tuple; readonly segment: TcpSegment }
  /** UDP, SCTP and every protocol without ports. */
  | { readonly kind: 'flow'; readonly tuple: Tuple }
  | { readonly kind: 'echo'; readonly tuple: Tuple; readonly reply: boolean }
  /** Any other ICMP message: a flow in one direction. */
  | { readonly kind: 'message'; readonly tuple: Tuple }
  /** `inner` is null where the quoted packet does not name a flow. */
  | { readonly kind: 'icmp-error'; readonly tuple: Tuple; readonly inner: Tuple | null }
  | { readonly kind: 'neighbour'; readonly tuple: Tuple; readonly message: NeighbourMessage }
  | { readonly kind: 'listener'; readonly tuple: Tuple; readonly honest: boolean }
  /** A fragment other than the first: no ports. */
  | { readonly kind: 'later-fragment'; readonly tuple: Tuple };

/** NDP (RFC 4861): the address it speaks about, and its options, which may claim MACs. */
export type NeighbourMessage = {
  readonly type: number;
  /** False where a router or a fragment could have had a hand in it: it speaks for nobody on this link. */
  readonly honest: boolean;
  readonly target: Address | null;
  readonly options: Uint8Array;
};

export type FrameMacs = { readonly source: Uint8Array; readonly destination: Uint8Array };

export type ParsedFrame =
  | { readonly kind: 'drop'; readonly reason: DropReason; readonly tuple: Tuple | null }
  | {
      readonly kind: 'arp';
      /** Of the whole frame, padding and all. */
      readonly length: number;
      readonly macs: FrameMacs;
      readonly operation: number;
      readonly senderMac: Uint8Array;
      readonly sender: Address;
      readonly target: Address;
    }
  | {
      readonly kind: 'ip';
      readonly macs: FrameMacs;
      readonly hopLimit: number;
      readonly fragment: Fragment | null;
      readonly transport: Transport;
    };
