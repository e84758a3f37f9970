// Connections: one entry for both directions, a verdict per leg, tombstones for what a recheck cut (datapath.md §2).

import type { Backend, RuleNumber } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { formatAddress } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import type { TcpSegment, Tuple } from './packet.ts';

/** One end's verdict on a connection. Zero is `none`: no end of ours. */
export type Leg = {
  readonly verdict: 'none' | 'allow' | 'deny' | 'audit';
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
  /** The Service that its initiator meant. */
  readonly meant: Backend | null;
  /** Cut by a recheck: it denies until it expires. */
  readonly tombstone: boolean;
  readonly state: TcpState;
  /** null where it is not TCP. */
  readonly numbers: TcpNumbers | null;
  /** The sides whose FIN was received: the other side said so. */
  readonly finished: ReadonlySet<Travel>;
  readonly sinceNs: bigint;
  readonly lastSeenNs: bigint;
};

/** A pod may hold so many times as many places of a table as are free. */
const GREED = 3;
/** The same for datagrams among the assured: what they leave is TCP's. */
const GREED_DATAGRAMS = 1;

export type ConntrackLimits = {
  /** Established TCP, datagrams that go on, and such flows once cut: nobody takes them away, new work is refused. */
  readonly assured: number;
  /** The rest. A pod without room gives up its own oldest. */
  readonly unassured: number;
};

/** When a packet is stored, whose pod sent it (null = nobody's here), and whose pod's room its flow takes. */
export type StoredAt = { readonly nowNs: bigint; readonly speaker: string | null; readonly holder: string };

const SECOND = 1_000_000_000n;

/** How long an entry lives without a packet. A tombstone counts from the packet that was cut. */
const TIMEOUTS_NS: Readonly<Record<'established' | 'otherTcp' | 'udp' | 'other' | 'tombstone', bigint>> = {
  established: 86_400n * SECOND,
  otherTcp: 60n * SECOND,
  udp: 120n * SECOND,
  other: 60n * SECOND,
  tombstone: 120n * SECOND,
};

/** A datagram flow in which its holder still speaks so long after its first packet is assured. */
const ASSURED_AFTER_NS = 2n * SECOND;

/** A fresh entry for the first packet of a connection. */
export function newEntry(
  first: Tuple,
  legs: { egress: Leg; ingress: Leg },
  at: {
    readonly nowNs: bigint;
    readonly ownNode: boolean;
    readonly segment: TcpSegment | null;
    readonly meant: Backend | null;
  },
): Entry {
  const { nowNs, ownNode: host, segment, meant } = at;
  const state = segment === null ? 'none' : 'half-open';
  const numbers = segment === null ? null : numbersOf(segment);
  const since = { sinceNs: nowNs, lastSeenNs: nowNs };
  return { initiator: first, ...legs, host, meant, tombstone: false, state, numbers, finished: new Set(), ...since };
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

type Held = Entry & { readonly holder: string };

/** The tables. Expiry is judged at look-up. */
export class Conntrack {
  readonly #assured = new Map<string, Held>();
  /** Oldest first. */
  readonly #unassured = new Map<string, Held>();
  readonly #limits: ConntrackLimits;

  constructor(limits: ConntrackLimits) {
    this.#limits = limits;
  }

  /** The live entry of a tuple, either direction. */
  find(tuple: Tuple, nowNs: bigint): Entry | null {
    const key = keyOf(tuple);
    const entry = this.#assured.get(key) ?? this.#unassured.get(key);
    return entry === undefined || nowNs - entry.lastSeenNs > timeoutOf(entry) ? null : entry;
  }

  /** Writes a flow that begins, whatever stood there before. False where there is no room for one more of its holder's. */
  open(entry: Entry, at: StoredAt): boolean {
    return this.#storeUnassured(keyOf(entry.initiator), { ...entry, holder: at.holder });
  }

  /** Writes what a flow has become. False where it can't be established for want of room: everything is as it was. */
  store(entry: Entry, at: StoredAt): boolean {
    const key = keyOf(entry.initiator);
    const assured = this.#assured.get(key);
    const held = { ...entry, holder: (assured ?? this.#unassured.get(key))?.holder ?? at.holder };
    // A cut flow keeps the place that it had, so that it needs none.
    const stays = entry.tombstone || entry.state === 'established' || entry.state === 'none';
    if (assured !== undefined && stays) {
      this.#assured.set(key, held);
      return true;
    }
    if (entry.state === 'established' && !entry.tombstone) return this.#assure(key, held, { ...at, greed: GREED });
    if (goesOn(held, at) && this.#assure(key, held, { ...at, greed: GREED_DATAGRAMS })) return true;
    if (!this.#unassured.has(key)) return this.#storeUnassured(key, held);
    this.#unassured.set(key, held);
    return true;
  }

  #assure(key: string, held: Held, at: StoredAt & { readonly greed: number }): boolean {
    if (!this.#hasRoom(held.holder, at.greed)) {
      this.#sweep(at.nowNs);
      if (!this.#hasRoom(held.holder, at.greed)) return false;
    }
    this.#unassured.delete(key);
    this.#assured.set(key, held);
    return true;
  }

  /** At the end of its holder's queue. */
  #storeUnassured(key: string, held: Held): boolean {
    const { unassured } = this.#limits;
    const own = countOf(this.#unassured, held.holder);
    if (own > 0 && !mayHaveMore(own, this.#unassured.size, unassured, GREED)) this.#evictOldest(held.holder);
    if (this.#unassured.size >= unassured) return false;
    this.#assured.delete(key);
    this.#unassured.delete(key);
    this.#unassured.set(key, held);
    return true;
  }

  /** One pod that opens all it can leaves some room to the others. */
  #hasRoom(holder: string, greed: number): boolean {
    const { assured } = this.#limits;
    if (this.#assured.size >= assured) return false;
    return mayHaveMore(countOf(this.#assured, holder), this.#assured.size, assured, greed);
  }

  #sweep(nowNs: bigint): void {
    for (const [key, entry] of this.#assured) {
      if (this.find(entry.initiator, nowNs) === null) this.#assured.delete(key);
    }
  }

  #evictOldest(holder: string): void {
    const oldest = [...this.#unassured].find(([, entry]) => entry.holder === holder);
    if (oldest !== undefined) this.#unassured.delete(oldest[0]);
  }
}

/** An outsider alone makes no flow an assured one, and a question with its answer is over by then. */
function goesOn(held: Held, { nowNs, speaker }: StoredAt): boolean {
  const speaks = !held.tombstone && speaker === held.holder;
  return speaks && held.state === 'none' && nowNs - held.sinceNs >= ASSURED_AFTER_NS;
}

function countOf(table: ReadonlyMap<string, Held>, holder: string): number {
  return [...table.values()].filter((entry) => entry.holder === holder).length;
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

/** Whether who holds `own` places of a table may hold one more, while `taken` of them are (bpf/share.h). */
function mayHaveMore(own: number, taken: number, room: number, greed: number): boolean {
  if (!Number.isFinite(room)) return true;
  return own < greed * (room - taken - Math.trunc(room / 8)) || own < Math.trunc(room / 1024) + 1;
}
