// Where encoded entries go. The edge writes them to the kernel; tests give one that checks the order.

/** Hash tables and tries. `@` stands for the bank. */
export type HashName =
  | 'endpoint_map'
  | 'iface_map'
  | 'node_map'
  | 'uplink_map'
  | 'class_map'
  | 'service_map'
  | 'address'
  | 'prefix4'
  | 'prefix6';

/** Arrays of immutable records. */
export type RecordName =
  | 'arena'
  | 'set_slots'
  | 'endpoint_slots'
  | 'service_slots'
  | 'service_places'
  | 'backend_slots';

/** Arrays of words that are swapped in one store. */
export type WordName = 'set_map' | 'set_epoch' | 'peer_epoch';

/** The node's own numbers that encoding changes. */
export type StateWord = 'epoch' | 'high' | 'generation' | 'marked' | 'self4' | 'self6First' | 'self6Last';

/** Writes in order; nothing written earlier may be missing when a later write is seen. */
export type Sink = {
  /** What is kept of key and value is a copy: the caller uses their bytes again. */
  put(table: HashName, key: Uint8Array, value: Uint8Array): void;
  /** What a look-up finds: of a prefix tree, the longest prefix there is. Null = nothing. */
  read(table: HashName, key: Uint8Array): Uint8Array | null;
  /** Writes what is pending: from here on it is known what found no room. */
  flush(): void;
  /** Writes what found no room before, as far as there is some now. */
  retry(): void;
  /** How many elements of each table found no room. */
  readonly waiting: ReadonlyMap<HashName, number>;
  /** Deleting what is not there is no error. */
  remove(table: HashName, key: Uint8Array): void;
  /** Records from `index` on; nothing points there yet. */
  record(table: RecordName, index: number, bytes: Uint8Array): void;
  word(table: WordName, index: number, value: bigint): void;
  /** Whether an endpoint record's address leads to it, or a backend serves: `live` of its struct. */
  live(table: 'endpoint_slots' | 'backend_slots', slot: number, value: bigint): void;
  /** Sets a bit of `service_marks`. */
  mark(bit: number): void;
  /** The node's own numbers. */
  state(field: StateWord, value: bigint): void;
};

/** A step that speaks of a number never published: the steps were not in order, or two of them contradict. */
export class StepOrderError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'StepOrderError';
  }
}

/** How large the kernel's arrays are. */
export type Sizes = {
  readonly arena: number;
  readonly sets: number;
  readonly setSlots: number;
  readonly endpointSlots: number;
  readonly peerEpochs: number;
  readonly services: number;
  readonly servicePlaces: number;
  readonly backends: number;
  /** Bits. */
  readonly serviceMarks: number;
};

/** Who is told of elements that find no room, and of those that do after all or are not wanted any more. */
export type RoomListener = {
  refused(table: HashName, key: Uint8Array): void;
  placed(table: HashName, key: Uint8Array): void;
};

/** Agents of this node gave out every number that the kernel's keys hold: only a node without tables can begin again. */
export class NumbersUsedUpError extends Error {
  constructor() {
    super('the numbers of rules, layers and identities are used up: take the pins of this node away, as a reboot does');
    this.name = 'NumbersUsedUpError';
  }
}
