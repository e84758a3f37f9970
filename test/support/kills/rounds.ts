// When an agent is killed, and what changes meanwhile: drawn at random, the same for the same seed.
import fc from 'fast-check';
import { arbitraryEdit, type Edit } from './world.ts';

/** starting: at some point of start-up and takeover · changing: while a change is applied · serving: at rest. */
export type Round = {
  readonly when: 'starting' | 'changing' | 'serving';
  /** From 0 to 1: how late within that time. */
  readonly at: number;
  readonly edits: readonly Edit[];
};

const round: fc.Arbitrary<Round> = fc.record({
  when: fc.constantFrom('starting', 'starting', 'changing', 'changing', 'serving'),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  edits: fc.array(arbitraryEdit, { minLength: 1, maxLength: 4, size: 'max' }),
});

export function drawRounds(seed: number, count: number): readonly Round[] {
  return fc.sample(round, { seed, numRuns: count });
}
