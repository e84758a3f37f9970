// What any source of a cluster's changes does for whoever follows it.
import type { ClusterEvent } from '#policy/world.ts';

/** Changes that belong together, and the revision they lead to. */
export type Batch = { readonly events: readonly ClusterEvent[]; readonly revision: number };

/** Who follows a source. */
export type Follower = {
  /** A part of a list: it counts once the batch that ends the list is applied. */
  note(events: readonly ClusterEvent[]): void;
  apply(batch: Batch): void;
  /** The deletion of each thing that was noted or applied and is not gone. */
  known(): Iterable<ClusterEvent>;
};

/** How one kind of object is followed. */
export type WatchState = {
  readonly kind: string;
  /** Why it is not known as it is now; null where it is. */
  readonly problem: string | null;
  /** How often it was listed after the first time. */
  readonly restarts: number;
  /** When it was last heard of, in milliseconds of the day's clock; null where it never was. */
  readonly heardMs: number | null;
  /** By what could be made of them. */
  readonly objects: { readonly understood: number; readonly partly: number; readonly refused: number };
};

/** Something that tells a follower what there is in a cluster, and what changes, until it is closed. */
export type Source = {
  /** What keeps it from knowing the cluster as it is now: what it told before stays in force. Null = nothing. */
  readonly problem: string | null;
  /** Objects that can't be understood, and what was made of them: one line each. */
  readonly findings: readonly string[];
  readonly watches: readonly WatchState[];
  /** Why new pods of a namespace wait, a line each. */
  readonly waits: readonly string[];
  close(): void;
};

/** What a source says of itself unasked: one line. */
export type Tell = (message: string) => void;

/** A list is passed on in parts of so many events and rules: few enough that those that are not kept die young. */
export const PAGE = 32;
