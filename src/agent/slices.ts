// How much a slice of work takes on, so that whatever else there is to do waits for some milliseconds at most.

/** A slice is to take so long: five milliseconds are the limit, and one can take longer than the one before it. */
const SLICE_MS = 2.5;
const FIRST = 64;
const SHORTEST = 8;
const LONGEST = 4096;

/** Sizes by the kind of work: each is that of the slice before, made longer or shorter by how long that took. */
export class Slices<Work> {
  readonly #sizes = new Map<Work, number>();

  size(work: Work): number {
    return this.#sizes.get(work) ?? FIRST;
  }

  /** The slice of this work took so many milliseconds. */
  took(work: Work, ms: number): void {
    const change = Math.min(2, Math.max(0.5, SLICE_MS / ms));
    this.#sizes.set(work, Math.min(LONGEST, Math.max(SHORTEST, Math.round(this.size(work) * change))));
  }
}
