// Connections: one entry for both directions, a verdict per leg, tombstones for what a recheck cut (datapath.md §2).

import type { RuleNumber } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { formatAddress } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import type { TcpSegment, Tuple } from './packet.ts';

/** One end's verdict on a connection. Zero is `none`: no end of ours. */
export type Leg = {
  readonly verdict: 'none' | 'allow' | 'deny';
  /** The local endpoint it was judged for; an address's next owner has another. */
  readonly generation: number;
  /** The epoch read before the tables were. */
  readonly epoch: number;
  readonly rule: RuleNumber | null;
};

export const NO_LEG: Leg = { verdict: 'none', generation: 0, epoch: 0, rule: null };

/** none: not TCP · half-open: SYN seen · answered: SYN-ACK too · established · closing: both sides are done, or a RST. */
export type TcpState = 'none' | 'half-open' | 'answered' | 'established' | 'closing';

/** Which way a packet of an entry travels. */
export type Travel = 'request' | 'reply';

/** Of each side: the next number it will send, and the one after its FIN, or null. */
export type TcpNumbers = {
  readonly next: Readonly<Record<Travel, number>>;
  readonly fin: Readonly<Record<Travel, number | null>>;
};

export type Entry = {
  /** The first packet's tuple: who asked whom, on which port. */
  readonly initiator: Tuple;
  readonly egress: Leg;
  readonly ingress: Leg;
  /** Opened by the endpoint's own node: its ingress was not judged. */
  readonly host: boolean;
  /** Cut by a recheck: it denies until it expires. */
  readonly tombstone: boolean;
  readonly state: TcpState;
  /** null where it is not TCP. */
  readonly numbers: TcpNumbers | null;
  /** The sides whose FIN was received: the other side said so. */
  readonly finished: ReadonlySet<Travel>;
  readonly lastSeenNs: bigint;
};

/** A pod may hold so many times as many established connections as there are free places. */
const GREED = 3;

export type ConntrackLimits = {
  /** Established TCP: full means that new work is refused, never that a flow is evicted. */
  readonly established: number;
  /** Half-open and closing TCP, everything else, tombstones: least recently written goes first. */
  readonly other: number;
};

const SECOND = 1_000_000_000n;

/** How long an entry lives without a packet. A tombstone counts from the packet that was cut. */
const TIMEOUTS_NS: Readonly<Record<'established' | 'otherTcp' | 'udp' | 'other' | 'tombstone', bigint>> = {
  established: 86_400n * SECOND,
  otherTcp: 60n * SECOND,
  udp: 120n * SECOND,
  other: 60n * SECOND,
  tombstone: 120n * SECOND,
};

/** A fresh entry for the first packet of a connection. */
export function newEntry(
  first: Tuple,
  legs: { egress: Leg; ingress: Leg },
  at: { readonly nowNs: bigint; readonly ownNode: boolean; readonly segment: TcpSegment | null },
): Entry {
  const { nowNs: lastSeenNs, ownNode: host, segment } = at;
  const state = segment === null ? 'none' : 'half-open';
  const numbers = segment === null ? null : numbersOf(segment);
  return { initiator: first, ...legs, host, tombstone: false, state, numbers, finished: new Set(), lastSeenNs };
}

/** Which way a packet of this entry goes: with or against the one that opened it. */
export function travelOf(entry: Entry, tuple: Tuple): Travel {
  const { source, sourcePort } = entry.initiator;
  const same = formatAddress(source) === formatAddress(tuple.source) && sourcePort === tuple.sourcePort;
  return same ? 'request' : 'reply';
}

/** By the first packet. */
function numbersOf({ end, acknowledged }: TcpSegment): TcpNumbers {
  return { next: { request: end, reply: acknowledged }, fin: { request: null, reply: null } };
}

/** The table. Expiry is judged at look-up. */
export class Conntrack {
  readonly #established = new Map<string, Entry & { readonly holder: string }>();
  readonly #other = new Map<string, Entry>();
  readonly #limits: ConntrackLimits;

  constructor(limits: ConntrackLimits) {
    this.#limits = limits;
  }

  /** The live entry of a tuple, either direction; established TCP is looked up first. */
  find(tuple: Tuple, nowNs: bigint): Entry | null {
    const key = keyOf(tuple);
    const entry = this.#established.get(key) ?? this.#other.get(key);
    return entry === undefined || nowNs - entry.lastSeenNs > timeoutOf(entry) ? null : entry;
  }

  /**
   * Writes a whole entry. False where the table that never evicts has no room for one more of its holder's: everything
   * is as it was.
   */
  store(entry: Entry, at: { readonly nowNs: bigint; readonly holder: string }): boolean {
    const key = keyOf(entry.initiator);
    if (entry.state === 'established' && !entry.tombstone) return this.#storeEstablished(key, entry, at);
    this.#established.delete(key);
    this.#other.delete(key);
    this.#other.set(key, entry);
    if (this.#other.size > this.#limits.other) this.#evictOldest();
    return true;
  }

  #storeEstablished(key: string, entry: Entry, at: { readonly nowNs: bigint; readonly holder: string }): boolean {
    const { nowNs, holder } = at;
    if (!this.#established.has(key) && !this.#hasRoom(holder)) {
      this.#sweep(nowNs);
      if (!this.#hasRoom(holder)) return false;
    }
    this.#other.delete(key);
    this.#established.set(key, { ...entry, holder: this.#established.get(key)?.holder ?? holder });
    return true;
  }

  /** One pod that opens all it can leaves some room to the others. */
  #hasRoom(holder: string): boolean {
    const held = [...this.#established.values()].filter((entry) => entry.holder === holder).length;
    return held < GREED * (this.#limits.established - this.#established.size);
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

function timeoutOf(entry: Entry): bigint {
  if (entry.tombstone) return TIMEOUTS_NS.tombstone;
  if (entry.state === 'established') return TIMEOUTS_NS.established;
  if (entry.state !== 'none') return TIMEOUTS_NS.otherTcp;
  return entry.initiator.protocol === UDP ? TIMEOUTS_NS.udp : TIMEOUTS_NS.other;
}

/** One key for both directions: the lower (address, port) first. */
function keyOf(tuple: Tuple): string {
  const ends = [end(tuple.source, tuple.sourcePort), end(tuple.destination, tuple.destinationPort)].sort();
  return `${tuple.source.family} ${tuple.protocol} ${ends.join(' ')}`;
}

function end(address: Address, port: number): string {
  return `${formatAddress(address)}#${port}`;
}
