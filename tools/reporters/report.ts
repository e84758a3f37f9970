// A node:test reporter for people: one line for each test file, what failed in full, what did not run by name, and
// what tests say of themselves (seeds, counts).
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';
import { styleText } from 'node:util';

type FileRun = { tests: number; failed: number; ms: number };
type Finished = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>;

/** Yields text as files end; `test:summary` of a file comes after all its tests. */
export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const runs = new Map<string, FileRun>();
  for await (const event of source) {
    if (event.type === 'test:stderr' || event.type === 'test:stdout') yield event.data.message;
    else if (event.type === 'test:diagnostic') yield* diagnostic(event.data);
    else if (event.type === 'test:pass' || event.type === 'test:fail') yield* finished(event, runs);
    else if (event.type === 'test:summary' && event.data.file !== undefined) {
      yield fileLine(event.data.file, runs.get(event.data.file), event.data.duration_ms);
    }
  }
}

function* finished(event: Finished, runs: Map<string, FileRun>): Generator<string> {
  const { data } = event;
  const file = data.file ?? '';
  const run = runs.get(file) ?? { tests: 0, failed: 0, ms: 0 };
  runs.set(file, run);
  if (data.details.type !== 'suite') run.tests++;
  if (data.skip !== undefined) yield `  did not run: ${data.name} (${data.skip})\n`;
  if (event.type !== 'test:fail') return;
  run.failed++;
  yield failure(event);
}

function failure(event: Extract<TestEvent, { type: 'test:fail' }>): string {
  const { name, file, line, details } = event.data;
  const indented = cause(details.error)
    .split('\n')
    .map((each) => `    ${each}`);
  return `${styleText('red', '✖')} ${name} (${place(file)}:${line ?? '?'})\n${indented.join('\n')}\n`;
}

/** What a failure is of: its error with the stack, and how the file's process ended. */
export function cause(error: Error): string {
  const inner: unknown = error.cause ?? error;
  return (inner instanceof Error ? (inner.stack ?? inner.message) : String(inner)) + processEnd(error);
}

/** How a file's process ended, where that is what failed: one that a signal ended says nothing itself. */
function processEnd(error: object): string {
  const { signal, exitCode } = error as { readonly signal?: string | null; readonly exitCode?: number };
  if (typeof signal === 'string') return ` (${signal})`;
  return exitCode === undefined ? '' : ` (exit code ${exitCode})`;
}

/** The run's own closing figures come as diagnostics without a file: tools/check.ts prints better ones. */
function* diagnostic(data: Extract<TestEvent, { type: 'test:diagnostic' }>['data']): Generator<string> {
  if (data.file !== undefined) yield `  ${place(data.file)}: ${data.message}\n`;
}

function fileLine(file: string, run: FileRun | undefined, ms: number): string {
  const failed = run?.failed ?? 0;
  const mark = failed === 0 ? styleText('green', '✔') : styleText('red', '✖');
  return `${mark} ${place(file)} · ${run?.tests ?? 0} tests · ${(ms / 1000).toFixed(1)} s\n`;
}

/** A file's name from the project's root. */
export function place(file: string | undefined): string {
  return file === undefined ? '?' : relative(process.cwd(), file);
}
