// Room in the kernel's arrays: what is freed waits in limbo until no program can still be reading it.
import type { Fill } from '#datapath/port.ts';

/** Things to do once no packet of now is still being judged, in batches. */
export class Limbo {
  readonly #wait: () => void;
  readonly #taken = new Set<readonly (() => void)[]>();
  #waiting: (() => void)[] = [];

  /** `wait` holds up the caller for two grace periods: for when there is no room left to go on with. */
  constructor(wait: () => void) {
    this.#wait = wait;
  }

  /** `action` runs two grace periods after the batch it is in was taken. */
  later(action: () => void): void {
    this.#waiting.push(action);
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** The batch so far. Whoever takes it gives it to `finish` after two grace periods. */
  take(): readonly (() => void)[] {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#taken.add(batch);
    return batch;
  }

  /** Runs a batch whose time has come; once, however often it is asked for. */
  finish(batch: readonly (() => void)[]): void {
    if (!this.#taken.delete(batch)) return;
    for (const action of batch) action();
  }

  /** Waits here and now, then runs everything that was waiting. */
  drain(): void {
    const batches = [...this.#taken, this.take()];
    this.#wait();
    for (const batch of batches) this.finish(batch);
  }
}

/** No room left in one of the kernel's tables; the size to raise is `table`'s. */
export class TableFullError extends Error {
  readonly table: string;

  constructor(table: string, size: number) {
    super(`${table} is full (${size} entries)`);
    this.name = 'TableFullError';
    this.table = table;
  }
}

/** The elements of an array that a process may use: `first` to before `end`. */
export type Extent = { readonly first: number; readonly end: number };

/**
 * Each of the two banks has a half of every array, so that a new process never writes where an earlier one's tables
 * still stand. Element 0 is never given out.
 */
export function bankExtent(size: number, bank: 0 | 1): Extent {
  const half = Math.floor(size / 2);
  return bank === 0 ? { first: 1, end: half } : { first: half, end: size };
}

/** Runs of elements of one array, of any length, in size classes. */
export class Space {
  readonly #name: string;
  readonly #extent: Extent;
  readonly #limbo: Limbo;
  readonly #free = new Map<number, number[]>();
  #next: number;
  #released = 0;

  constructor(name: string, extent: Extent, limbo: Limbo) {
    this.#name = name;
    this.#extent = extent;
    this.#limbo = limbo;
    this.#next = extent.first;
  }

  /** Elements that are given out, of those that there are. What is on its way out counts until it is gone. */
  get fill(): Fill {
    const { first, end } = this.#extent;
    return { table: this.#name, entries: this.#next - first - this.#released, capacity: end - first };
  }

  /** The first element of a run of at least `length`. Throws TableFullError. */
  allocate(length: number): number {
    const found = this.findOrWait(length);
    if (found === null) throw new TableFullError(this.#name, this.#extent.end - this.#extent.first);
    return found;
  }

  /** As `allocate`; null where there is no room, even once what is on its way out is gone. */
  findOrWait(length: number): number | null {
    const found = this.find(length);
    if (found !== null) return found;
    this.#limbo.drain();
    return this.find(length);
  }

  /** As `allocate`; null where there is no room now. */
  find(length: number): number | null {
    return this.#find(sizeClass(length));
  }

  #find(rounded: number): number | null {
    const reused = this.#free.get(rounded)?.pop();
    if (reused !== undefined) {
      this.#released -= rounded;
      return reused;
    }
    if (this.#next + rounded > this.#extent.end) return this.#split(rounded);
    this.#next += rounded;
    return this.#next - rounded;
  }

  /** Gives back what `allocate(length)` gave; no program may read it any more. */
  release(offset: number, length: number): void {
    const rounded = sizeClass(length);
    this.#released += rounded;
    const runs = this.#free.get(rounded);
    if (runs === undefined) this.#free.set(rounded, [offset]);
    else runs.push(offset);
  }

  /** Nothing fresh is left: a larger free run is cut in two. */
  #split(rounded: number): number | null {
    for (const [size, runs] of [...this.#free].sort(([a], [b]) => a - b)) {
      const offset = size > rounded ? runs.pop() : undefined;
      if (offset === undefined) continue;
      this.#released -= size;
      let rest = offset + rounded;
      for (let left = size - rounded; left > 0; ) {
        const part = largestClass(left);
        this.release(rest, part);
        rest += part;
        left -= part;
      }
      return offset;
    }
    return null;
  }
}

/** Sizes are 1, 2, 3, 4, 6, 8, 12, 16, 24 …: at most a third is wasted. */
function sizeClass(length: number): number {
  let power = 1;
  while (power < length) power *= 2;
  const between = (power / 4) * 3;
  return between >= length && Number.isInteger(between) ? between : power;
}

function largestClass(length: number): number {
  let power = 1;
  while (power * 2 <= length) power *= 2;
  return Number.isInteger(power / 2) && (power / 2) * 3 <= length ? (power / 2) * 3 : power;
}
