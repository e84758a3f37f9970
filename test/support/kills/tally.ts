// What was counted while agents were killed, and everything that was not as it must be.
import type { Held } from '../held.ts';
import type { KernelState } from './kernel.ts';
import type { MatrixResult } from './matrix.ts';
import type { TrafficReport } from './traffic.ts';

export type Usage = { readonly descriptors: number; readonly residentKb: number };

/** Each pod has two hooks, and a process holds each by a descriptor. */
const HOOKS = 2;
/** So long may who asks from outside of the node hear nothing, where datagrams may be lost; 156 ms is the most that was seen. */
const SILENCE_MS = 2000;
/** A thread or a connection more at one moment is no leak. */
const SPARE = 6;

export class Tally {
  kills = 0;
  /** Restarts after which everything was looked at. */
  checks = 0;
  /** Changes of the cluster while an agent followed. */
  changes = 0;
  verdicts = 0;
  allowed = 0;
  /** From the start of a process until every pod's policy is in force. */
  readonly startsMs: number[] = [];
  readonly usage: Usage[] = [];
  readonly findings: string[] = [];
  #usual: KernelState | null = null;

  expect(holds: boolean, message: () => string): void {
    if (!holds) this.findings.push(`after ${this.kills} kills: ${message()}`);
  }

  noteMatrix({ tried, allowed, wrong }: MatrixResult, when: string): void {
    this.verdicts += tried;
    this.allowed += allowed;
    this.expect(wrong.length === 0, () => `${when}: ${wrong.join('; ')}`);
  }

  noteTraffic(report: TrafficReport): void {
    this.expect(report.lost.length === 0, () => `lost: ${report.lost.join('; ')}`);
    this.expect(report.refused.length === 0, () => `allowed connections did not open: ${report.refused.join('; ')}`);
    const { longestSilenceMs } = report;
    this.expect(longestSilenceMs < SILENCE_MS, () => `no answers outside for ${longestSilenceMs.toFixed(0)} ms`);
    this.expect(report.passed === 0, () => `${report.passed} of denied pairs got through`);
  }

  /** Once nothing is on its way any more. */
  noteTrafficAtEnd(report: TrafficReport): void {
    this.noteTraffic(report);
    const { sent, received, answered } = report;
    this.expect(received === sent, () => `${sent - received} allowed datagrams lost`);
    this.expect(answered === received, () => `${received - answered} answers lost, or not from whom was asked`);
  }

  /** Descriptors are counted without those of the pods' hooks. */
  noteUsage({ descriptors, residentKb }: Usage, pods: number): void {
    const own = descriptors - HOOKS * pods;
    this.usage.push({ descriptors: own, residentKb });
    const first = this.usage[0]?.descriptors ?? own;
    this.expect(own <= first + SPARE, () => `${own} descriptors open, ${first} at first`);
  }

  /** Whether the kernel holds what it held the first time, and for each pod its links. */
  isUsual(state: KernelState, links: readonly string[]): boolean {
    const tables = state.pins.filter((pin) => !links.includes(pin));
    if (state.pins.length !== tables.length + links.length) return false;
    // The directory of the tables has another number after each change of version; there is one only.
    const rest = { ...state, pins: tables.map((pin) => pin.replace(/^tables_\d+\//, '')) };
    this.#usual ??= rest;
    return JSON.stringify(rest) === JSON.stringify(this.#usual);
  }
}

/** What a life begins with is not counted: caches fill, and malloc goes on for long to give out more for hot code. */
const SETTLING = 1 / 2;
/** In a shorter life, not all has settled that will. */
const GROWTH_FROM_MINUTES = 8;
/** What a life holds more from minute to minute, in kilobytes: more is a leak, which doubles an agent in a day. */
const GROWTH_LIMIT_KB = 64;

/** What a life holds more from minute to minute, in kilobytes, once it has settled; null where it was too short to say. */
export function growth(
  life: readonly Held[],
  everyMs: number,
): { readonly data: number; readonly native: number; readonly isLeak: boolean } | null {
  const perMinute = 60_000 / everyMs;
  if (life.length < GROWTH_FROM_MINUTES * perMinute) return null;
  const settled = life.slice(Math.trunc(life.length * SETTLING));
  const kilobytes = (of: (held: Held) => number): number => (slope(settled.map(of)) * perMinute) / 1024;
  const [data, native] = [kilobytes((held) => held.data), kilobytes((held) => held.native)];
  return { data, native, isLeak: data > GROWTH_LIMIT_KB || native > GROWTH_LIMIT_KB };
}

/** The value that `share` of them do not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/**
 * By how much values grow from one to the next: the median of the slopes between any two (Theil and Sen). While code is
 * being compiled malloc has given out megabytes more, and one such value would bend a line of least squares.
 */
function slope(values: readonly number[]): number {
  const slopes = values.flatMap((value, index) =>
    values.slice(index + 1).map((later, distance) => (later - value) / (distance + 1)),
  );
  return quantile(slopes, 0.5);
}
