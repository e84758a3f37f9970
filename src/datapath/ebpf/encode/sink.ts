// Where encoded entries go. The edge writes them to the kernel; tests give one that checks the order.

/** Hash tables and tries. `@` stands for the bank. */
export type HashName =
  | 'endpoint_map'
  | 'iface_map'
  | 'node_map'
  | 'uplink_map'
  | 'class_map'
  | 'address'
  | 'prefix4'
  | 'prefix6';

/** Arrays of immutable records. */
export type RecordName = 'arena' | 'set_slots' | 'endpoint_slots';

/** Arrays of words that are swapped in one store. */
export type WordName = 'set_map' | 'set_epoch' | 'peer_epoch';

/** Writes in order; nothing written earlier may be missing when a later write is seen. */
export type Sink = {
  put(table: HashName, key: Uint8Array, value: Uint8Array): void;
  /** Deleting what is not there is no error. */
  remove(table: HashName, key: Uint8Array): void;
  /** Records from `index` on; nothing points there yet. */
  record(table: RecordName, index: number, bytes: Uint8Array): void;
  word(table: WordName, index: number, value: bigint): void;
  /** Whether an endpoint record's address leads to it: `live` of struct endpoint. */
  live(slot: number, value: bigint): void;
  /** The node's own numbers. */
  state(field: 'epoch' | 'high' | 'generation', value: bigint): void;
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
};
