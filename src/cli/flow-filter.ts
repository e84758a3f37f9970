// Which flows somebody wants to see, and how a flow's verdict and time are read.
import type { FlowEvent } from '#agent/protocol.ts';

export type Verdict = 'forwarded' | 'dropped' | 'audit';

/** Null: whatever. */
export type FlowFilter = {
  readonly namespace: string | null;
  readonly pod: string | null;
  readonly verdict: Verdict | null;
};

/** The day's clock and the monotonic one, in the same moment. */
export type Clocks = { readonly dayMs: number; readonly monotonicNs: bigint };

export function verdictOf({ kind }: FlowEvent): Verdict {
  if (kind === 'audit') return 'audit';
  return kind === 'drop' ? 'dropped' : 'forwarded';
}

export function isWanted({ namespace, pod, verdict }: FlowFilter, event: FlowEvent): boolean {
  const ends = [event.sourcePod, event.destinationPod].filter((each) => each !== null);
  if (verdict !== null && verdictOf(event) !== verdict) return false;
  if (namespace !== null && !ends.some((each) => each.startsWith(`${namespace}/`))) return false;
  return pod === null || ends.some((each) => each === pod);
}

/** The time of an event on the day's clock. */
export function timeOf({ timeNs }: FlowEvent, { dayMs, monotonicNs }: Clocks): Date {
  return new Date(dayMs - Number((monotonicNs - BigInt(timeNs)) / 1_000_000n));
}
