// Which branches of some sources a test has taken, by V8's own counters.
import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { fileURLToPath } from 'node:url';

type Range = { readonly startOffset: number; readonly endOffset: number; readonly count: number };
type Script = { readonly url: string; readonly functions: readonly { readonly ranges: readonly Range[] }[] };

/** One source: how many blocks V8 counts in it, and the lines of those that nothing went through. */
export type FileCoverage = { readonly file: string; readonly blocks: number; readonly missed: readonly number[] };

export class Coverage {
  readonly #session: Session = new Session();

  /** Starts counting; sources loaded earlier are counted too, from now on. */
  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** What was gone through of the sources whose path holds one of these. Ends the counting. */
  take(paths: readonly string[]): readonly FileCoverage[] {
    let scripts: readonly Script[] = [];
    this.#session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error !== null) throw error;
      scripts = taken.result;
    });
    this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.disconnect();
    return scripts.filter(({ url }) => paths.some((path) => url.endsWith(path))).map(coverageOf);
  }
}

function coverageOf({ url, functions }: Script): FileCoverage {
  const file = fileURLToPath(url);
  const text = readFileSync(file, 'utf8');
  // A fall-back for an index that is out of bounds is there for the compiler: the bounds were checked before.
  const ranges = functions
    .flatMap((each) => each.ranges)
    .filter((range) => text.slice(range.startOffset, range.endOffset) !== '?? 0');
  const missed = ranges.filter(({ count }) => count === 0).map((range) => lineOf(text, range.startOffset));
  return { file: file.slice(file.lastIndexOf('/src/') + 1), blocks: ranges.length, missed };
}

/** The line of the first thing in the block: blocks begin where the brace or the line before ends. */
function lineOf(text: string, offset: number): number {
  const start = offset + (/^[\s{]*/.exec(text.slice(offset))?.[0].length ?? 0);
  return text.slice(0, start).split('\n').length;
}
