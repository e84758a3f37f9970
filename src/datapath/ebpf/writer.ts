// Writes encoded entries to the kernel: hash tables by batches of system calls, arrays through shared memory.

import { BACKEND, ENDPOINT, STATE } from '#datapath/ebpf/encode/abi.gen.ts';
import type { HashName, RecordName, RoomListener, Sink, Sizes, WordName } from '#datapath/ebpf/encode/sink.ts';
import { Waiting } from '#datapath/ebpf/encode/waiting.ts';
import { deleteElement, lookupElement, updateBatch } from '#kernel/bpf.ts';
import { mapArray, type SharedMemory } from '#kernel/memory.ts';
import type { LoadedMap } from '#kernel/object.ts';
import { SystemCallError } from '#kernel/sockets.ts';
import { Batch } from './batch.ts';

const MAPPED = [
  'arena',
  'set_slots',
  'endpoint_slots',
  'set_map',
  'set_epoch',
  'peer_epoch',
  'state_map',
  'service_slots',
  'service_places',
  'service_marks',
  'backend_slots',
] as const;
type LiveName = 'endpoint_slots' | 'backend_slots';

const LIVE: Readonly<Record<LiveName, number>> = { endpoint_slots: ENDPOINT.live, backend_slots: BACKEND.live };

type MappedName = (typeof MAPPED)[number];
type Array8 = { readonly memory: SharedMemory; readonly bytes: Uint8Array; readonly words: BigUint64Array };

/** `make` deletes at once what waits to be deleted from `class_map`. */
export type RoomKeeper = RoomListener & { make(): void };

type StateField = Exclude<keyof typeof STATE, 'size'>;

/** Which of the two banks of address maps a process fills. */
export type Bank = 0 | 1;

export class KernelTables implements Sink {
  readonly #maps: ReadonlyMap<string, LoadedMap>;
  readonly #bank: Bank;
  readonly #room: RoomKeeper;
  readonly #arrays = new Map<MappedName, Array8>();
  readonly #waiting = new Waiting();
  #pending: Batch | null = null;

  constructor(maps: ReadonlyMap<string, LoadedMap>, bank: Bank, room: RoomKeeper) {
    this.#maps = maps;
    this.#bank = bank;
    this.#room = room;
    for (const name of MAPPED) {
      const map = this.#map(name);
      const memory = mapArray(map.fd, map.valueSize, map.maxEntries);
      const bytes = new Uint8Array(memory.bytes);
      this.#arrays.set(name, { memory, bytes, words: new BigUint64Array(memory.bytes) });
    }
  }

  get sizes(): Sizes {
    return {
      arena: this.#map('arena').maxEntries,
      sets: this.#map('set_map').maxEntries,
      setSlots: this.#map('set_slots').maxEntries,
      endpointSlots: this.#map('endpoint_slots').maxEntries,
      peerEpochs: this.#map('peer_epoch').maxEntries,
      services: this.#map('service_slots').maxEntries,
      servicePlaces: this.#map('service_places').maxEntries,
      backends: this.#map('backend_slots').maxEntries,
      serviceMarks: this.#map('service_marks').maxEntries * 64,
    };
  }

  put(table: HashName, key: Uint8Array, value: Uint8Array): void {
    if (this.#pending !== null && (this.#pending.table !== table || this.#pending.isFull)) this.flush();
    if (this.#waiting.has(table, key)) {
      this.#writeOne(table, key, value);
      return;
    }
    this.#pending ??= new Batch(table, this.#map(this.#kernelName(table)));
    this.#pending.add(key, value);
  }

  remove(table: HashName, key: Uint8Array): void {
    this.flush();
    if (this.#waiting.forget(table, key)) this.#room.placed(table, key);
    else this.changing(() => deleteElement(this.#map(this.#kernelName(table)), key));
  }

  read(table: HashName, key: Uint8Array): Uint8Array | null {
    this.flush();
    const map = this.#map(this.#kernelName(table));
    const value = Buffer.alloc(map.valueSize);
    return lookupElement(map, key, value) ? value : null;
  }

  retry(): void {
    this.#waiting.retry((table, key, value) => this.#writeOne(table, key, value));
  }

  get waiting(): ReadonlyMap<HashName, number> {
    return this.#waiting.counts;
  }

  /** Nothing points to these records yet, so they may go ahead of entries that still wait in the batch. */
  record(table: RecordName, index: number, bytes: Uint8Array): void {
    const { valueSize, maxEntries } = this.#map(table);
    if (index * valueSize + bytes.length > maxEntries * valueSize) throw new RangeError(`${table}[${index}]`);
    this.#array(table).bytes.set(bytes, index * valueSize);
  }

  word(table: WordName, index: number, value: bigint): void {
    this.flush();
    if (index >= this.#map(table).maxEntries) throw new RangeError(`${table}[${index}]`);
    Atomics.store(this.#array(table).words, index, value);
  }

  live(table: LiveName, slot: number, value: bigint): void {
    this.flush();
    const { valueSize, maxEntries } = this.#map(table);
    if (slot >= maxEntries) throw new RangeError(`${table}[${slot}]`);
    Atomics.store(this.#array(table).words, (slot * valueSize + LIVE[table]) / 8, value);
  }

  mark(bit: number): void {
    Atomics.or(this.#array('service_marks').words, Math.floor(bit / 64), 1n << BigInt(bit % 64));
  }

  state(field: StateField, value: bigint): void {
    this.flush();
    Atomics.store(this.#array('state_map').words, STATE[field] / 8, value);
  }

  readState(field: StateField): bigint {
    return Atomics.load(this.#array('state_map').words, STATE[field] / 8);
  }

  /** Writes what is pending. Elements of a full table wait, and who must know is told before anything else is written. */
  flush(): void {
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    const { table } = pending;
    if (this.#writeAll(pending)) return;
    // Classes of changes before this one wait for packets under way, and hold the room meanwhile.
    const canMakeRoom = table === 'class_map' && !this.#waiting.hasAny(table);
    if (canMakeRoom) this.#room.make();
    if (canMakeRoom && this.#writeAll(pending)) return;
    for (const [key, value] of pending.elements()) this.#writeOne(table, key, value);
    this.flush();
  }

  /** False where the table is full: then some of it may be written. */
  #writeAll({ table, keys, values, count }: Batch): boolean {
    return this.#write(table, keys, values, count);
  }

  /** False where the element has to wait. */
  #writeOne(table: HashName, key: Uint8Array, value: Uint8Array): boolean {
    const written = this.#write(table, key, value, 1);
    if (!written) this.#waiting.add(table, key, value);
    if (!written) this.#room.refused(table, key);
    else if (this.#waiting.forget(table, key)) this.#room.placed(table, key);
    return written;
  }

  #write(table: HashName, keys: Uint8Array, values: Uint8Array, count: number): boolean {
    try {
      this.changing(() => updateBatch(this.#map(this.#kernelName(table)), keys, values, count));
      return true;
    } catch (error) {
      if (!isFull(error)) throw error;
      return false;
    }
  }

  /** While the count is odd, or has changed, the programs make sure of what they do not find (bpf/context.h). */
  changing(work: () => void): void {
    const { words } = this.#array('state_map');
    const before = Atomics.load(words, STATE.changes / 8);
    Atomics.store(words, STATE.changes / 8, before | 1n);
    try {
      work();
    } finally {
      Atomics.store(words, STATE.changes / 8, (before | 1n) + 1n);
    }
  }

  /** Forgets what is pending or waits: for after a failure. */
  discard(): void {
    this.#pending = null;
    this.#waiting.clear();
  }

  close(): void {
    for (const { memory } of this.#arrays.values()) memory.close();
    this.#arrays.clear();
  }

  #kernelName(table: HashName): string {
    if (table === 'address') return this.#bank === 0 ? 'address_map_a' : 'address_map_b';
    if (table === 'prefix4' || table === 'prefix6') return `${table}_${this.#bank === 0 ? 'a' : 'b'}`;
    return table;
  }

  #map(name: string): LoadedMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new Error(`the kernel object has no map ${name}`);
    return map;
  }

  #array(name: MappedName): Array8 {
    const array = this.#arrays.get(name);
    if (array === undefined) throw new Error('the datapath is closed');
    return array;
  }
}

/** Of a hash table; a full prefix tree says ENOSPC, and that is a failure. */
function isFull(error: unknown): boolean {
  return error instanceof SystemCallError && error.code === 'E2BIG';
}
