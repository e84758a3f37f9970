// What is counted as it happens, since nobody could read it afterwards. Labels are of sets that only this code can enlarge.
import type { Distribution } from './exposition.ts';

/** Seconds: changes take milliseconds, and a first list of a large cluster many seconds. */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

export class Histogram implements Distribution {
  readonly bounds: readonly number[] = BOUNDS;
  readonly counts: number[] = new Array<number>(BOUNDS.length + 1).fill(0);
  sum = 0;

  observe(seconds: number): void {
    const found = BOUNDS.findIndex((bound) => seconds <= bound);
    const index = found < 0 ? BOUNDS.length : found;
    this.counts[index] = (this.counts[index] ?? 0) + 1;
    this.sum += seconds;
  }
}

/** How often something happened, by its kind. */
export class Tally {
  readonly counts: Map<string, number> = new Map();

  add(kind: string, count = 1): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + count);
  }
}

/** Of one process. */
export class Meters {
  /** Of changes: until every packet is judged by them. */
  readonly applies: Histogram = new Histogram();
  /** By `COMMAND outcome`. */
  readonly cniCalls: Tally = new Tally();
  readonly cniTimes: Map<string, Histogram> = new Map();

  /** `outcome`: `ok`, or the specification's code of the error. */
  cniCall(command: string, outcome: string, seconds: number): void {
    this.cniCalls.add(`${command} ${outcome}`);
    const times = this.cniTimes.get(command) ?? new Histogram();
    this.cniTimes.set(command, times);
    times.observe(seconds);
  }
}
