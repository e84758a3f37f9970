// A node:test reporter that writes what failed, shortly, for tools/check.ts to say once more at the end: whoever has only
// the last lines of a run then knows which tests failed, and of what.
import type { TestEvent } from 'node:test/reporters';
import { cause, place } from './report.ts';

const LONGEST = 300;

/** Yields for each failed test its name and place, and the beginning of what it said. */
export default async function* reportFailures(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type !== 'test:fail') continue;
    const { name, file, line, details } = event.data;
    // A suite or file fails by its tests, and they are named.
    if ((details.error as { readonly failureType?: string }).failureType === 'subtestsFailed') continue;
    const said = cause(details.error).replace(/\s+/g, ' ').slice(0, LONGEST);
    yield `✖ ${name} (${place(file)}:${line ?? '?'})\n    ${said}\n`;
  }
}
