// Connections: one entry for both directions, a verdict per leg, tombstones for what a recheck cut (datapath.md §2).

import type { RuleNumber } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { formatAddress } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import type { TcpFlags, Tuple } from './packet.ts';

/** One end's verdict on a connection. Zero is `none`: never judged here. */
export type Leg = {
  readonly verdict: 'none' | 'allow' | 'deny';
  /** The local endpoint it was judged for; an address's next owner has another. */
  readonly generation: number;
  /** The epoch read before the tables were. */
  readonly epoch: number;
  readonly rule: RuleNumber | null;
  /** Allowed because the packet came from the endpoint's own node, not by policy. */
  readonly host: boolean;
};

export const NO_LEG: Leg = { verdict: 'none', generation: 0, epoch: 0, rule: null, host: false };

/**
 * none: not TCP · half-open: SYN seen · answered: SYN-ACK too · established · fin-request, fin-reply: one side is done,
 * the other may still send for long · closing: both sides are done, or a RST.
 */
export type TcpState = 'none' | 'half-open' | 'answered' | 'established' | 'fin-request' | 'fin-reply' | 'closing';

/** States of connections that both sides agreed on and that may still carry data: never evicted. */
const KEPT: ReadonlySet<TcpState> = new Set(['established', 'fin-request', 'fin-reply']);

export type Entry = {
  /** The first packet's tuple: who asked whom, on which port. */
  readonly initiator: Tuple;
  readonly egress: Leg;
  readonly ingress: Leg;
  readonly state: TcpState;
  readonly lastSeenNs: bigint;
};

/** Which way a packet of an entry travels. */
export type Travel = 'request' | 'reply';

export type ConntrackLimits = {
  /** Established TCP: full means that new work is refused, never that a flow is evicted. */
  readonly established: number;
  /** Half-open TCP and everything else: least recently used goes first. */
  readonly other: number;
};

const SECOND = 1_000_000_000n;

/** How long an entry lives without a packet, by state. `tombstone` counts from the packet that was cut. */
export const TIMEOUTS_NS: { readonly [state in TcpState | 'tombstone']: bigint } = {
  none: 60n * SECOND,
  'half-open': 60n * SECOND,
  answered: 60n * SECOND,
  established: 21_600n * SECOND,
  'fin-request': 21_600n * SECOND,
  'fin-reply': 21_600n * SECOND,
  closing: 30n * SECOND,
  tombstone: 120n * SECOND,
};

/** True where a leg denies: a recheck cut this connection. */
export function isTombstone(entry: Entry): boolean {
  return entry.egress.verdict === 'deny' || entry.ingress.verdict === 'deny';
}

/** True where the packet goes from the side that opened the connection. */
export function travelOf(entry: Entry, tuple: Tuple): Travel {
  const same =
    formatAddress(entry.initiator.source) === formatAddress(tuple.source) &&
    entry.initiator.sourcePort === tuple.sourcePort;
  return same ? 'request' : 'reply';
}

/** The state after a TCP packet. Established needs both sides: a lone sender can't fill the table that never evicts. */
export function nextState(state: TcpState, travel: Travel, flags: TcpFlags): TcpState {
  if (state === 'none') return 'none';
  if (flags.rst || state === 'closing') return 'closing';
  if (flags.fin) return KEPT.has(state) ? afterFin(state, travel) : 'closing';
  if (state === 'half-open' && travel === 'reply' && flags.syn && flags.ack) return 'answered';
  if (state === 'answered' && travel === 'request' && flags.ack && !flags.syn) return 'established';
  return state;
}

function afterFin(state: TcpState, travel: Travel): TcpState {
  const own = `fin-${travel}` as const;
  return state === 'established' || state === own ? own : 'closing';
}

/** True where the connection is ending: a SYN on it opens a new one. */
export function isEnding(entry: Entry): boolean {
  return entry.state === 'closing' || entry.state === 'fin-request' || entry.state === 'fin-reply';
}

/** The table. Expiry is judged at look-up. */
export class Conntrack {
  readonly #established = new Map<string, Entry>();
  readonly #other = new Map<string, Entry>();
  readonly #limits: ConntrackLimits;

  constructor(limits: ConntrackLimits) {
    this.#limits = limits;
  }

  /** The live entry of a tuple, either direction; established TCP is looked up first. */
  find(tuple: Tuple, nowNs: bigint): Entry | null {
    const key = keyOf(tuple);
    const entry = this.#established.get(key) ?? this.#other.get(key);
    if (entry === undefined) return null;
    const timeout = TIMEOUTS_NS[isTombstone(entry) ? 'tombstone' : entry.state];
    return nowNs - entry.lastSeenNs > timeout ? null : entry;
  }

  /** Writes a whole entry. False where the table that never evicts has no room: the entry is as it was. */
  store(entry: Entry, nowNs: bigint): boolean {
    const key = keyOf(entry.initiator);
    if (KEPT.has(entry.state) && !isTombstone(entry)) return this.#storeEstablished(key, entry, nowNs);
    this.#established.delete(key);
    this.#other.delete(key);
    this.#other.set(key, entry);
    if (this.#other.size > this.#limits.other) this.#evictOldest();
    return true;
  }

  #storeEstablished(key: string, entry: Entry, nowNs: bigint): boolean {
    if (!this.#established.has(key) && this.#established.size >= this.#limits.established) {
      this.#sweep(nowNs);
      if (this.#established.size >= this.#limits.established) return false;
    }
    this.#other.delete(key);
    this.#established.set(key, entry);
    return true;
  }

  #sweep(nowNs: bigint): void {
    for (const [key, entry] of this.#established) {
      if (this.find(entry.initiator, nowNs) === null) this.#established.delete(key);
    }
  }

  #evictOldest(): void {
    for (const key of this.#other.keys()) {
      this.#other.delete(key);
      return;
    }
  }
}

/** A fresh entry for the first packet of a connection. */
export function newEntry(first: Tuple, legs: { egress: Leg; ingress: Leg }, nowNs: bigint): Entry {
  const state = first.protocol === TCP ? 'half-open' : 'none';
  return { initiator: first, ...legs, state, lastSeenNs: nowNs };
}

/** One key for both directions: the lower (address, port) first. */
function keyOf(tuple: Tuple): string {
  const ends = [end(tuple.source, tuple.sourcePort), end(tuple.destination, tuple.destinationPort)].sort();
  return `${tuple.source.family} ${tuple.protocol} ${ends.join(' ')}`;
}

function end(address: Address, port: number): string {
  return `${formatAddress(address)}#${port}`;
}
