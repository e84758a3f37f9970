// Random moves of the clock, mostly to just before or after what ends by time.
import fc from 'fast-check';

/** Of fragments; of TCP that is half-open or closing, what is neither TCP nor UDP, and pods that left; of UDP and tombstones. */
const SHORT = [30, 60, 60, 60, 120, 120];
/** Of what a Service remembers of its clients (`AFFINITIES`); of open TCP. */
const LONG = [300, 10_800, 86_400];

export type ClockMove = {
  /** As so many packets have been sent since the last change. */
  readonly before: number;
  readonly seconds: number;
  /** What is over is swept then; else it waits for its next packet. */
  readonly sweeps: boolean;
};

/** How long Services keep their clients, where they do. */
export const AFFINITIES: readonly number[] = [300, 10_800];

/** Whether a packet of so long ago is at its very end by now. */
export function isAmbiguous(seconds: number): boolean {
  return [...SHORT, ...LONG].includes(seconds);
}

const around = (timeouts: readonly number[]): fc.Arbitrary<number> =>
  fc.tuple(fc.constantFrom(...timeouts), fc.constantFrom(-1, 1)).map(([timeout, by]) => timeout + by);

/** A move before one of so many packets. */
export function arbitraryMove(packets: number): fc.Arbitrary<ClockMove> {
  return fc.record({
    before: fc.nat({ max: packets - 1 }),
    seconds: fc.oneof(
      { weight: 6, arbitrary: around(SHORT) },
      { weight: 2, arbitrary: around(LONG) },
      { weight: 2, arbitrary: fc.nat({ max: 3 }) },
      { weight: 1, arbitrary: fc.nat({ max: 200_000 }) },
    ),
    sweeps: fc.boolean(),
  });
}
