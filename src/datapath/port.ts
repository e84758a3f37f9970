// The port every datapath implements, and the events it reports. Datapath-neutral: no kernel types here.

import type { RuleNumber, Step } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import type { Protocol } from '#net/protocol.ts';
import type { Direction } from '#policy/model.ts';

/**
 * Why a packet was dropped. The same list, in the same order, as `enum drop_reason` in bpf/abi.h (a test compares
 * them); position 0 is never reported.
 */
export const DROP_REASONS = [
  'none',
  'policy', // a rule or default deny of the leg named in the event
  'peer-unknown', // as policy, where the peer is an address of a pod block that no known pod has
  'no-endpoint', // the interface or the local address has no endpoint record (yet): fail closed
  'no-identity', // the peer address has no identity: tables incomplete, fail closed
  'table-error', // a look-up met a reference it could not follow; should never happen
  'malformed', // truncated, wrong length, impossible header
  'ethertype', // not IPv4, IPv6 or ARP (VLAN tags included)
  'extension-header', // an IPv6 header chain that is too long or not understood
  'v4-mapped', // IPv6 packet with ::ffff:0:0/96 addresses
  'spoofed-source', // sender's IP or MAC is not the endpoint's
  'spoofed-neighbour', // ARP or NDP message that claims somebody else's address
  'multicast', // to a broadcast or multicast address, or from a pod to a group's MAC; NDP and MLD apart
  'fragment-unknown', // non-first fragment without its first, where the verdict needs ports
  'fragment-tiny', // TCP fragment at offset 1, or a first fragment without its ports
  'mid-flow', // TCP packet that opens nothing and belongs to no known connection
  'conntrack-full', // no room for a new connection
  'icmp-unrelated', // ICMP error about no live connection
  'denied-earlier', // the connection's tombstone: cut by a recheck
  'no-backend', // to a Service that nobody serves, or whose backends the sender's port can't reach beside another flow
] as const;

export type DropReason = (typeof DROP_REASONS)[number];

/** What a datapath reports. audit: as drop, of what passed by audit alone; it stands for `new` where a flow begins so. Addresses and ports are the packet's; for ICMP `destinationPort` is type << 8 | code, `sourcePort` an echo's id. */
export type DatapathEvent = {
  readonly kind: 'new' | 'close' | 'drop' | 'audit';
  /** Which way the packet crossed the endpoint's interface. */
  readonly hook: 'from-pod' | 'to-pod';
  readonly reason: DropReason;
  /** The first leg that denied; null where no policy leg did. */
  readonly leg: Direction | null;
  readonly egressRule: RuleNumber | null;
  readonly ingressRule: RuleNumber | null;
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: Protocol;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** How many equal events this one stands for (aggregated in the kernel). */
  readonly count: number;
  /** Monotonic clock, nanoseconds. */
  readonly timeNs: bigint;
};

/** One local endpoint's place in this node: its host-side interface and the addresses it may send from. */
export type EndpointLink = {
  readonly interfaceIndex: number;
  readonly mac: Uint8Array;
  readonly addresses: readonly Address[];
};

/** What a datapath has no room for. Whom it is about is denied, and nobody else, until there is room. */
export type Lack = {
  /** The table that is full, by the datapath's own name. */
  readonly table: string;
  readonly count: number;
  /** A rule that one of them is about; null where they are about none, or it is not known. */
  readonly rule: RuleNumber | null;
};

/** How full a table is, by the datapath's own name for it. */
export type Fill = { readonly table: string; readonly entries: number; readonly capacity: number };

/** A datapath of one node. Methods throw a typed error with `cause`; after a throw the node stays closed, not open. */
export type Datapath = {
  /** Applies steps in order. Returns once every later packet is judged by them. */
  apply(steps: readonly Step[]): void;
  /** Puts hooks on an interface. Until an `endpoint` step names its address, everything there is denied. */
  attach(link: EndpointLink): void;
  detach(interfaceIndex: number): void;
  /** Events since the last call, oldest first, and how many were lost since then. */
  poll(): { readonly events: readonly DatapathEvent[]; readonly lost: number };
  close(): void;
};
