// In the guest: runs test files one after the other and says what they came to, on one line. `run-tests.ts TEST FILE…`.
//
// A file whose process a signal ended, with no test failed, runs again and is named: under the emulator V8 finds itself in
// code that it never put there, and node ends by a trap or without a word (docs/testing.md). A file in which a test failed does not.
import { run } from 'node:test';
import type { TestEvent } from 'node:test/reporters';
import type { Counts } from '../reporters/counts.ts';
import report from '../reporters/report.ts';

/** What a guest's run comes to. `again`: a file for each time that it ran again. */
export type GuestCounts = Counts & { readonly again: readonly string[] };

const RUNS = 3;
const TIMEOUT_MS = 20 * 60_000;

/** What is seen of one file's run. */
class FileRun {
  counts: Counts = { passed: 0, failed: 1, skipped: 0 };
  #failures = 0;
  #signal: string | null = null;

  /** What ended the process, where nothing but that failed. */
  get endedBySignal(): string | null {
    return this.#failures === 1 ? this.#signal : null;
  }

  /** Yields what it is given. */
  async *watch(events: AsyncIterable<TestEvent>): AsyncGenerator<TestEvent> {
    for await (const event of events) {
      this.#note(event);
      yield event;
    }
  }

  #note(event: TestEvent): void {
    if (event.type === 'test:fail') {
      this.#failures++;
      this.#signal = (event.data.details.error as { readonly signal?: string }).signal ?? null;
    }
    if (event.type === 'test:summary' && event.data.file === undefined) {
      const { tests, passed, skipped } = event.data.counts;
      this.counts = { passed, failed: tests - passed - skipped, skipped };
    }
  }
}

/** Prints what people read of it. */
async function runFile(file: string): Promise<FileRun> {
  const seen = new FileRun();
  for await (const text of report(seen.watch(run({ files: [file], timeout: TIMEOUT_MS })))) process.stdout.write(text);
  return seen;
}

const again: string[] = [];
const counts = { passed: 0, failed: 0, skipped: 0 };
for (const file of process.argv.slice(2)) {
  let seen = await runFile(file);
  for (let runs = 1; runs < RUNS && seen.endedBySignal !== null; runs++) {
    console.log(`! ${file} was ended by ${seen.endedBySignal}, and runs again`);
    again.push(file);
    seen = await runFile(file);
  }
  for (const key of ['passed', 'failed', 'skipped'] as const) counts[key] += seen.counts[key];
}
console.log(`\nMOAT-RESULT ${JSON.stringify({ ...counts, again } satisfies GuestCounts)}`);
