// Runs a property with as many cases as asked for, and says with which seed: MOAT_FUZZ_CASES, MOAT_FUZZ_SEED.
import type { TestContext } from 'node:test';
import fc from 'fast-check';

/**
 * How many runs a property makes: its usual number, scaled up where MOAT_FUZZ_CASES asks for more than 100 000 cases. Never
 * fewer: properties also look whether their cases went everywhere, as so many do.
 */
function runsOf(usual: number): number {
  const cases = Number(process.env.MOAT_FUZZ_CASES ?? 100_000);
  return Math.max(usual, Math.ceil((usual * cases) / 100_000));
}

function seedOf(): { seed?: number } {
  const seed = process.env.MOAT_FUZZ_SEED;
  return seed === undefined ? {} : { seed: Number(seed) };
}

/** Holds for every case, or throws with the smallest case found. `runs`: at the usual effort of `make test`. */
export function holds<Values>(context: TestContext, property: fc.IProperty<Values>, runs: number): void {
  const details = fc.check(property, { numRuns: runsOf(runs), ...seedOf() });
  context.diagnostic(`seed ${details.seed}, ${details.numRuns} runs`);
  const message = fc.defaultReportMessage(details);
  if (message !== undefined) throw new Error(message, { cause: details.errorInstance });
}

/** The teeth of a property: it must fail for a case within so many runs. Returns how many it took. */
export function fails<Values>(property: fc.IProperty<Values>, runs: number): number {
  const details = fc.check(property, { numRuns: runs, endOnFailure: true, ...seedOf() });
  if (!details.failed) throw new Error(`no case of ${runs} was found, seed ${details.seed}`);
  return details.numRuns;
}

/** So many values are made at a time: all of a long fuzz would not fit into memory. */
const PART = 100;

/**
 * Values to be tried one after the other by a test that must wait in between. `runs`: at the usual effort of
 * `make test`. The same seed gives the same values.
 */
export function* samples<Value>(context: TestContext, arbitrary: fc.Arbitrary<Value>, runs: number): Generator<Value> {
  const seed = seedOf().seed ?? Math.trunc(Date.now() % 0x7fff_ffff);
  const numRuns = runsOf(runs);
  context.diagnostic(`seed ${seed}, ${numRuns} runs`);
  for (let made = 0; made < numRuns; made += PART) {
    yield* fc.sample(arbitrary, { seed: seed + made, numRuns: Math.min(PART, numRuns - made) });
  }
}
