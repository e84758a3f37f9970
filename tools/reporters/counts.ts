// A node:test reporter that writes how many tests passed, failed and did not run, for tools/check.ts to add up.
import type { TestEvent } from 'node:test/reporters';

/** What a run of tests or checks comes to. */
export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number };

/** Yields one JSON object, from the summary of the whole run (the one that names no file). */
export default async function* reportCounts(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type !== 'test:summary' || event.data.file !== undefined) continue;
    const { tests, passed, skipped } = event.data.counts;
    // What was cancelled, or marked as yet to be written, did not pass.
    const counts: Counts = { passed, failed: tests - passed - skipped, skipped };
    yield JSON.stringify(counts);
  }
}
