// When an agent is killed, and what changes meanwhile: drawn at random, the same for the same seed.
import fc from 'fast-check';
import { arbitraryEdit, type Edit } from './world.ts';

/** starting: at some point of start-up and takeover · changing: while a change is applied · serving: at rest · bypassed: while policy is. */
export type Round = {
  readonly when: 'starting' | 'changing' | 'serving' | 'bypassed';
  /** From 0 to 1: how late within that time. */
  readonly at: number;
  readonly edits: readonly Edit[];
  /** Which of the versions that there are, by its number. */
  readonly version: number;
};

const round: fc.Arbitrary<Round> = fc.record({
  when: fc.constantFrom(...many(8, 'starting'), ...many(8, 'changing'), ...many(4, 'serving'), 'bypassed'),
  at: fc.nat({ max: 1000 }).map((part) => part / 1000),
  version: fc.constantFrom(0, 1),
  edits: fc.array(arbitraryEdit, { minLength: 1, maxLength: 4, size: 'max' }),
});

function many<When extends Round['when']>(count: number, when: When): readonly When[] {
  return Array.from({ length: count }, () => when);
}

export function drawRounds(seed: number, count: number): readonly Round[] {
  return fc.sample(round, { seed, numRuns: count });
}
