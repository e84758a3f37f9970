// Local endpoints: an address is one only once its interface (attach) and its policy (an endpoint step) are both known.
import type { Audit, PlanEndpoint, SetNumber } from '#compile/plan.ts';
import type { Lack } from '#datapath/port.ts';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { ENDPOINT_FLAG } from './abi.gen.ts';
import { addressBytes, endpointBytes, ifaceWord, liveWord, taggedWord, u32Bytes, u64Bytes } from './bytes.ts';
import { bankExtent, Space } from './space.ts';
import type { Ground, PolicyTables } from './tables.ts';
import { addressTag } from './tag.ts';

/** What the edge knows of an interface. */
export type Link = {
  readonly interfaceIndex: number;
  readonly mac: Uint8Array;
  readonly hostMac: Uint8Array;
  readonly mtu: number;
  /** Nothing stands on the host's side of it but our hooks. */
  readonly plain: boolean;
  /** Packets may skip the host's side of it (datapath.md §2, "Both ends at once"). */
  readonly redirect: boolean;
  /** Flows older than Moat are adopted until then (monotonic clock, nanoseconds); 0n = none. */
  readonly adoptUntil: bigint;
  readonly addresses: readonly Address[];
};

/** An endpoint that an earlier process left in the kernel. Its record stands until its new policy is known. */
export type Inherited = {
  readonly address: Address;
  readonly interfaceIndex: number;
  readonly mac: Uint8Array;
  readonly generation: number;
  readonly slot: number;
  /** Nothing of its policy stands any more: it denies until the new one is known, and keeps its connections. */
  readonly closed: boolean;
};

type Known = {
  readonly address: Address;
  link: Link | null;
  plan: PlanEndpoint | null;
  slot: number;
  generation: number;
  epoch: bigint;
};

/** Numbers that only grow. `judgeAgain`: flows with this peer are judged again. */
export type Clock = {
  readonly nextEpoch: () => bigint;
  readonly nextGeneration: () => number;
  readonly judgeAgain: (peer: Address) => void;
};

const AUDIT_FLAGS: Readonly<Record<Audit, number>> = {
  own: ENDPOINT_FLAG.AUDIT_OWN,
  all: ENDPOINT_FLAG.AUDIT_ALL,
};

export class Endpoints {
  readonly #ground: Ground;
  readonly #tables: PolicyTables;
  readonly #clock: Clock;
  readonly #slots: Space;
  readonly #known = new Map<AddressKey, Known>();
  /** What iface_map says: nothing is written twice, since each write may send a look-up astray. */
  readonly #interfaces = new Map<number, bigint>();
  readonly #inherited: Map<AddressKey, Inherited>;
  /** Until `turn`, while records of an earlier process are in force: what is to be published with it. */
  #waiting: Set<Known> | null;
  /** Records that no address leads to any more, though entries of connections may still name them. */
  readonly #replaced = new Set<number>();
  /** What found no room for a record. */
  readonly #roomless = new Set<Known>();
  /** ENDPOINT_FLAG.BANK where the address maps of this process are the second bank. */
  readonly #bank: number;

  constructor(ground: Ground, tables: PolicyTables, clock: Clock, inherited: readonly Inherited[]) {
    this.#ground = ground;
    this.#tables = tables;
    this.#clock = clock;
    const extent = bankExtent(ground.sizes.endpointSlots, ground.bank);
    this.#slots = new Space('endpoint_slots', extent, ground.limbo);
    // What a process left here that died while it took over.
    for (let slot = extent.first; slot < extent.end; slot++) ground.sink.live('endpoint_slots', slot, 0n);
    this.#bank = ground.bank === 1 ? ENDPOINT_FLAG.BANK : 0;
    this.#waiting = inherited.length === 0 ? null : new Set();
    this.#inherited = new Map(
      inherited.map((each) => [formatAddress(each.address), each.closed ? this.#closed(each) : each]),
    );
  }

  /** Interfaces that iface_map has an element for. */
  get interfaces(): readonly number[] {
    return [...this.#interfaces.keys()];
  }

  /** An interface and its addresses. Attaching it again refreshes what is known of it. */
  attach(link: Link): void {
    const before = this.#ofInterface(link.interfaceIndex);
    const keys = new Set(link.addresses.map(formatAddress));
    for (const known of before) if (!keys.has(formatAddress(known.address))) this.#unlink(known);
    for (const address of link.addresses) this.#claim(address, link);
    if (this.#waiting === null) this.#publishInterface(link.interfaceIndex);
  }

  /**
   * Gives endpoints of an earlier process their new policy, those that are attached and have one: all by one write, since
   * whoever dies with half of them done leaves two banks in use, and the next process needs one. From then on each
   * endpoint is published as soon as it can be. To be called once those of before are attached.
   */
  turn(): void {
    if (this.#waiting === null) return;
    const waiting = [...this.#waiting];
    this.#waiting = null;
    // Their old policy judged until now, and the numbers of their new one may be older than that.
    const epoch = this.#clock.nextEpoch();
    for (const known of waiting) if (this.#inherited.has(formatAddress(known.address))) known.epoch = epoch;
    this.#publish(waiting);
    const interfaces = new Set([...this.#known.values()].flatMap(({ link }) => link?.interfaceIndex ?? []));
    for (const interfaceIndex of interfaces) this.#publishInterface(interfaceIndex);
  }

  detach(interfaceIndex: number): void {
    this.#interfaces.delete(interfaceIndex);
    this.#ground.sink.remove('iface_map', u32Bytes(interfaceIndex));
    for (const known of this.#ofInterface(interfaceIndex)) this.#unlink(known);
  }

  /** The policy of an address; null = gone. A different pod is a new owner: it inherits no flow. */
  plan(address: Address, plan: PlanEndpoint | null): void {
    const known = this.#entry(address);
    if (known.plan !== null && plan !== null && known.plan.pod !== plan.pod) {
      known.generation = this.#clock.nextGeneration();
    }
    const moved = (['egress', 'ingress', 'audit'] as const).some((part) => known.plan?.[part] !== plan?.[part]);
    known.plan = plan;
    if (moved) known.epoch = this.#clock.nextEpoch();
    if (known.link !== null) {
      this.#show(known);
      if (this.#waiting === null) this.#publishInterface(known.link.interfaceIndex);
    }
    this.#forgetUnused(known);
  }

  /** Takes away what an earlier process left and nobody claimed by now: its interfaces deny from here on. */
  settle(): void {
    this.turn();
    const left = [...this.#inherited.values()];
    for (const each of left) {
      const claimed = this.#known.get(formatAddress(each.address));
      // Attached, but without a policy: closed, as any endpoint before its step.
      if (claimed?.link) this.#publish([claimed]);
      else {
        this.#leave(each);
        this.#ground.sink.remove('endpoint_map', addressBytes(each.address));
      }
    }
    const interfaces = new Set(left.map((each) => each.interfaceIndex));
    this.#inherited.clear();
    for (const interfaceIndex of interfaces) this.#publishInterface(interfaceIndex);
  }

  /** Addresses that found no room for a record: whoever has them is closed. */
  get lacks(): readonly Lack[] {
    const count = this.#roomless.size;
    return count === 0 ? [] : [{ table: 'endpoint_slots', count, rule: null }];
  }

  /** Publishes again what has one of these sets, which have a place only now, and what found no room before. */
  retry(placed: ReadonlySet<SetNumber>): void {
    for (const known of this.#roomless) {
      this.#publish([known]);
      if (known.slot === 0) break;
    }
    if (placed.size === 0) return;
    for (const known of this.#known.values()) {
      const { link, plan } = known;
      if (link === null || plan === null || !(placed.has(plan.egress) || placed.has(plan.ingress))) continue;
      known.epoch = this.#clock.nextEpoch();
      this.#show(known);
    }
  }

  /** Ends the records that were replaced: from here on, no packet passes by one of them. To be called last, and before any wait. */
  retire(): void {
    for (const slot of this.#replaced) this.#ground.sink.live('endpoint_slots', slot, 0n);
    this.#replaced.clear();
  }

  #entry(address: Address): Known {
    const key = formatAddress(address);
    const found = this.#known.get(key);
    if (found !== undefined) return found;
    const fresh: Known = { address, link: null, plan: null, slot: 0, generation: 0, epoch: 0n };
    this.#known.set(key, fresh);
    return fresh;
  }

  #claim(address: Address, link: Link): void {
    const known = this.#entry(address);
    const earlier = this.#inherited.get(formatAddress(address));
    if (earlier !== undefined && isSamePlace(earlier, link)) {
      // Its flows go on; its old record and policy stand until the new policy comes.
      known.generation = earlier.generation;
      known.link = link;
      if (known.plan === null) return;
      // Attached after the others turned.
      if (this.#waiting === null) known.epoch = this.#clock.nextEpoch();
      this.#show(known);
      return;
    }
    if (known.link !== null && known.slot !== 0 && isSameLink(known.link, link)) return;
    if (known.link === null || !isSamePlace(known.link, link)) known.generation = this.#clock.nextGeneration();
    known.link = link;
    this.#show(known);
  }

  /** Publishes an endpoint, or has it wait for the others. */
  #show(known: Known): void {
    if (this.#waiting === null) this.#publish([known]);
    else this.#waiting.add(known);
  }

  /** Records first, then all that leads to them in one write. */
  #publish(many: readonly Known[]): void {
    const before = new Map(many.map((known) => [known, known.slot]));
    const placed = many.filter((known) => this.#place(known));
    for (const { address, slot } of placed) this.#lead(address, slot);
    for (const [known, slot] of before) this.#replace(known, slot);
  }

  /** Writes the record; false where there is no room for it: then nothing leads to the endpoint. */
  #place(known: Known): boolean {
    const { sink } = this.#ground;
    known.slot = (this.#roomless.size > 0 ? this.#slots.find(1) : this.#slots.findOrWait(1)) ?? 0;
    if (known.slot === 0) {
      this.#roomless.add(known);
      sink.remove('endpoint_map', addressBytes(known.address));
      return false;
    }
    this.#roomless.delete(known);
    sink.record('endpoint_slots', known.slot, this.#record(known));
    sink.live('endpoint_slots', known.slot, liveWord(known.slot, known.generation));
    return true;
  }

  /** What led to another record, or to none, before. */
  #replace({ address, slot: now }: Known, slot: number): void {
    const inherited = this.#inherited.get(formatAddress(address));
    this.#inherited.delete(formatAddress(address));
    if (inherited !== undefined) this.#leave(inherited);
    // Entries of connections with what was a remote address until now know of no record here.
    if (now !== 0 && slot === 0 && inherited === undefined) this.#clock.judgeAgain(address);
    this.#releaseSlot(slot);
  }

  /** A record that denies, in place of the one whose slot is this process's now. */
  #closed(each: Inherited): Inherited {
    const slot = this.#slots.find(1);
    // Nothing leads there then, which denies as well.
    if (slot === null) return { ...each, slot: 0 };
    const record = endpointBytes({
      ...{ self: each.address, interfaceIndex: each.interfaceIndex, generation: each.generation, epoch: 0n },
      ...{ adoptUntil: 0n, egressSet: 0, ingressSet: 0, flags: this.#bank, mtu: 0 },
      ...{ podMac: each.mac, hostMac: new Uint8Array(6) },
    });
    this.#ground.sink.record('endpoint_slots', slot, record);
    this.#lead(each.address, slot);
    return { ...each, slot };
  }

  #lead(address: Address, slot: number): void {
    this.#ground.sink.put('endpoint_map', addressBytes(address), u64Bytes(taggedWord(slot, addressTag(address))));
  }

  /** No address leads to the record of an earlier process any more. */
  #leave({ slot, closed }: Inherited): void {
    if (closed) this.#releaseSlot(slot);
    else this.#replaced.add(slot);
  }

  #record(known: Known): Uint8Array {
    const { plan, link } = known;
    if (link === null) throw new Error(`${formatAddress(known.address)} is published without an interface`);
    const ready = plan === null ? 0 : ENDPOINT_FLAG.READY;
    const plain = link.plain ? ENDPOINT_FLAG.PLAIN : 0;
    const redirect = link.redirect ? ENDPOINT_FLAG.REDIRECT : 0;
    const adopt = link.adoptUntil > 0n ? ENDPOINT_FLAG.ADOPT : 0;
    const audit = plan?.audit === undefined ? 0 : AUDIT_FLAGS[plan.audit];
    return endpointBytes({
      self: known.address,
      interfaceIndex: link.interfaceIndex,
      generation: known.generation,
      epoch: known.epoch,
      adoptUntil: link.adoptUntil,
      egressSet: plan === null ? 0 : this.#tables.setIndex(plan.egress),
      ingressSet: plan === null ? 0 : this.#tables.setIndex(plan.ingress),
      flags: ready | plain | redirect | adopt | audit | this.#bank,
      mtu: link.mtu,
      podMac: link.mac,
      hostMac: link.hostMac,
    });
  }

  /** The interface lets something through only while one of its addresses has a policy. */
  #publishInterface(interfaceIndex: number): void {
    const ready = this.#ofInterface(interfaceIndex).find((known) => known.plan !== null);
    const key = u32Bytes(interfaceIndex);
    const left = [...this.#inherited.values()].some((each) => each.interfaceIndex === interfaceIndex);
    if (ready === undefined && left) return;
    const word = ready?.link ? ifaceWord(interfaceIndex, ready.link.mac) : null;
    if (word === null) {
      this.#interfaces.delete(interfaceIndex);
      this.#ground.sink.remove('iface_map', key);
    } else if (this.#interfaces.get(interfaceIndex) !== word) {
      this.#interfaces.set(interfaceIndex, word);
      this.#ground.sink.put('iface_map', key, u64Bytes(word));
    }
  }

  #unlink(known: Known): void {
    this.#roomless.delete(known);
    this.#ground.sink.remove('endpoint_map', addressBytes(known.address));
    this.#releaseSlot(known.slot);
    known.slot = 0;
    known.link = null;
    this.#waiting?.delete(known);
    this.#forgetUnused(known);
  }

  #releaseSlot(slot: number): void {
    if (slot === 0) return;
    this.#replaced.add(slot);
    this.#ground.limbo.later(() => this.#slots.release(slot, 1));
  }

  #forgetUnused(known: Known): void {
    if (known.link === null && known.plan === null) this.#known.delete(formatAddress(known.address));
  }

  #ofInterface(interfaceIndex: number): readonly Known[] {
    return [...this.#known.values()].filter((known) => known.link?.interfaceIndex === interfaceIndex);
  }
}

function isSameLink(a: Link, b: Link): boolean {
  const same = a.mtu === b.mtu && a.plain === b.plain && a.redirect === b.redirect && a.adoptUntil === b.adoptUntil;
  return same && isSamePlace(a, b) && equalBytes(a.hostMac, b.hostMac);
}

function isSamePlace(a: Pick<Link, 'interfaceIndex' | 'mac'>, b: Pick<Link, 'interfaceIndex' | 'mac'>): boolean {
  return a.interfaceIndex === b.interfaceIndex && equalBytes(a.mac, b.mac);
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((octet, index) => octet === b[index]);
}
