// Services: records, places and backends in the kernel's arrays. What a Service was stands until all of what it is does.
import {
  type Backend,
  clientsText,
  type PlanService,
  type ServiceAddress,
  type ServiceKey,
  serviceKey,
} from '#compile/plan.ts';
import type { Fill, Lack } from '#datapath/port.ts';
import { formatAddress } from '#net/address.ts';
import { CLIENTS_FLAG } from './abi.gen.ts';
import {
  backendBytes,
  boundsBytes,
  PLACES_RECORD,
  placesBytes,
  serviceBytes,
  serviceKeyBytes,
  taggedBytes,
} from './bytes.ts';
import { clientBounds } from './clients.ts';
import { bankExtent, Space } from './space.ts';
import type { Ground } from './tables.ts';
import { addressTag, serviceTag } from './tag.ts';

/** The record that says that nobody serves: no element 0 is ever given out. */
const NOBODY = 0;

/** So many that found no room are tried again at once. */
const TRIES = 16;

/** The arrays that a Service needs room in. */
const ARRAYS = ['service_slots', 'service_places', 'backend_slots'] as const;
type ArrayName = (typeof ARRAYS)[number];

/** What the kernel has of a Service. `backends`: their slots, by address and port. */
type Known = {
  readonly at: ServiceAddress;
  readonly slot: number;
  readonly places: { readonly first: number; readonly records: number } | null;
  readonly backends: ReadonlyMap<string, number>;
  /** Whom it is for, as text. */
  readonly clients: string;
};

export class Services {
  readonly #ground: Ground;
  readonly #nextGeneration: () => number;
  readonly #slots: Space;
  readonly #places: Space;
  readonly #backends: Space;
  readonly #known = new Map<ServiceKey, Known>();
  #hasMarks = false;
  /** What is written but for the words that lead there, and what then goes. */
  readonly #turning = new Map<ServiceKey, Known>();
  readonly #leaving: { readonly before: Known; readonly kept: Known['backends'] }[] = [];
  /** What found no room, and in which of the arrays: nobody serves it meanwhile. */
  readonly #roomless = new Map<ServiceKey, { readonly value: PlanService; readonly full: ArrayName }>();

  constructor(ground: Ground, nextGeneration: () => number) {
    const { sizes, bank, limbo, sink } = ground;
    this.#ground = ground;
    this.#nextGeneration = nextGeneration;
    this.#slots = new Space('service_slots', bankExtent(sizes.services, bank), limbo);
    this.#places = new Space('service_places', bankExtent(sizes.servicePlaces, bank), limbo);
    const extent = bankExtent(sizes.backends, bank);
    this.#backends = new Space('backend_slots', extent, limbo);
    // What an earlier process left here.
    for (let slot = extent.first; slot < extent.end; slot++) sink.live('backend_slots', slot, 0n);
  }

  /** What a Service is from the next `turn` on; null = gone. Says whether it is one that was not there. */
  set(at: ServiceAddress, value: PlanService | null): 'new' | 'known' {
    const key = serviceKey(at);
    const isNew = value !== null && !this.#known.has(key);
    if (value !== null) this.#publish(key, value);
    else if (this.#known.has(key)) this.#remove(key, at);
    return isNew ? 'new' : 'known';
  }

  /**
   * Turns all that was set to what it is, one right after the other: who dies in between leaves some of them in each half of
   * the tables, and the next process closes those in the half that it takes.
   */
  turn(): void {
    const { sink } = this.#ground;
    if (this.#turning.size > 0 && !this.#hasMarks) sink.state('marked', 1n);
    this.#hasMarks ||= this.#turning.size > 0;
    for (const { at, slot } of this.#turning.values()) {
      sink.put('service_map', serviceKeyBytes(at), taggedBytes(slot, serviceTag(at)));
    }
    this.#turning.clear();
    // Whoever waits for packets under way waits for those that still see what was.
    if (this.#leaving.length > 0) sink.flush();
    for (const { before, kept } of this.#leaving.splice(0)) this.#release(before, kept);
  }

  /** Ends the backends of an earlier process: datagrams that went there go to those of this one. */
  settle(): void {
    const { sizes, bank, sink } = this.#ground;
    const other = bankExtent(sizes.backends, bank === 0 ? 1 : 0);
    for (let slot = other.first; slot < other.end; slot++) sink.live('backend_slots', slot, 0n);
  }

  /** Tries some again that found no room, each in its turn: something may have been given back. */
  retry(): void {
    for (const [key, { value }] of [...this.#roomless].slice(0, TRIES)) {
      const made = this.#make(value, new Map());
      this.#roomless.delete(key);
      if (typeof made === 'string') this.#roomless.set(key, { value, full: made });
      else this.#write(key, made);
    }
    this.turn();
  }

  get fills(): readonly Fill[] {
    return [this.#slots, this.#places, this.#backends].map(({ fill }) => fill);
  }

  get lacks(): readonly Lack[] {
    const counts = ARRAYS.map((table) => {
      return { table, count: [...this.#roomless.values()].filter(({ full }) => full === table).length, rule: null };
    });
    return counts.filter(({ count }) => count > 0);
  }

  /** Those that this process has published. */
  get all(): readonly ServiceAddress[] {
    return [...this.#known.values()].map(({ at }) => at);
  }

  #publish(key: ServiceKey, value: PlanService): void {
    const before = this.#known.get(key);
    // Other clients have other backends: who is none any more begins no flow by what stands of an earlier one.
    const kept = before?.clients === clientsText(value.clients) ? before.backends : new Map();
    const made = this.#make(value, kept);
    this.#roomless.delete(key);
    const isRoomless = typeof made === 'string';
    if (isRoomless) this.#roomless.set(key, { value, full: made });
    this.#write(key, isRoomless ? nobody(value) : made);
  }

  #write(key: ServiceKey, known: Known): void {
    const before = this.#known.get(key);
    this.#known.set(key, known);
    this.#ground.sink.mark(addressTag(known.at.address) % this.#ground.sizes.serviceMarks);
    this.#turning.set(key, known);
    if (before !== undefined) this.#leaving.push({ before, kept: known.backends });
  }

  #remove(key: ServiceKey, at: ServiceAddress): void {
    const before = this.#known.get(key);
    this.#known.delete(key);
    this.#turning.delete(key);
    this.#roomless.delete(key);
    this.#ground.sink.remove('service_map', serviceKeyBytes(at));
    if (before !== undefined) this.#leaving.push({ before, kept: new Map() });
  }

  /** Writes all that nothing points to yet. Where there is no room nothing is taken, and the array that is full is named. */
  #make(value: PlanService, before: Known['backends']): Known | ArrayName {
    if (value.backends.length === 0) return nobody(value);
    const { sink } = this.#ground;
    const bounds = value.clients === undefined ? [] : clientBounds(value.clients.blocks);
    const ofPlaces = Math.ceil(value.places.length / PLACES_RECORD);
    const records = ofPlaces + bounds.length;
    const slot = this.#find(this.#slots, 1);
    const first = this.#find(this.#places, records);
    const backends = slot === null || first === null ? null : this.#makeBackends(value.backends, before);
    if (slot === null || first === null || backends === null) {
      if (slot !== null) this.#slots.release(slot, 1);
      if (first !== null) this.#places.release(first, records);
      return slot === null ? 'service_slots' : first === null ? 'service_places' : 'backend_slots';
    }
    const slots = value.backends.map((backend) => backends.get(nameOf(backend)) ?? NOBODY);
    sink.record('service_places', first, placesBytes(value.places.map((index) => slots[index] ?? NOBODY)));
    if (bounds.length > 0) sink.record('service_places', first + ofPlaces, boundsBytes(bounds));
    const clients = bounds.length + (value.clients?.node === false ? CLIENTS_FLAG.NOT_NODE : 0);
    const affinity = value.affinitySeconds ?? 0;
    sink.record('service_slots', slot, serviceBytes({ places: first, count: value.places.length, affinity, clients }));
    return { at: value, slot, places: { first, records }, backends, clients: clientsText(value.clients) };
  }

  /** Where others were refused already, waiting for room once more would hold up every change. */
  #find(space: Space, length: number): number | null {
    const found = space.find(length);
    if (found !== null || this.#roomless.size > 0) return found;
    // What goes gives room only once what comes stands in its place.
    this.turn();
    return space.findOrWait(length);
  }

  /** Slots of backends: those that served before keep theirs, and the datagrams that go there. */
  #makeBackends(list: readonly Backend[], before: Known['backends']): Map<string, number> | null {
    const slots = new Map<string, number>();
    const fresh: number[] = [];
    for (const backend of list) {
      const kept = before.get(nameOf(backend));
      const slot = kept ?? this.#find(this.#backends, 1);
      if (slot === null) {
        for (const each of fresh) this.#backends.release(each, 1);
        return null;
      }
      slots.set(nameOf(backend), slot);
      if (kept !== undefined) continue;
      fresh.push(slot);
      const record = { backend, slot, generation: this.#nextGeneration() };
      this.#ground.sink.record('backend_slots', slot, backendBytes(record));
    }
    return slots;
  }

  /** Backends that are gone serve nobody from here on; packets under way may still read the rest. */
  #release(before: Known, kept: Known['backends']): void {
    const { sink, limbo } = this.#ground;
    const { slot, places } = before;
    const gone = [...before.backends].filter(([name, each]) => kept.get(name) !== each).map(([, each]) => each);
    for (const each of gone) sink.live('backend_slots', each, 0n);
    limbo.later(() => {
      if (slot !== NOBODY) this.#slots.release(slot, 1);
      if (places !== null) this.#places.release(places.first, places.records);
      for (const each of gone) this.#backends.release(each, 1);
    });
  }
}

function nobody(value: PlanService): Known {
  return { at: value, slot: NOBODY, places: null, backends: new Map(), clients: clientsText(value.clients) };
}

function nameOf({ address, port }: Backend): string {
  return `${formatAddress(address)} ${port}`;
}
