// Other programs, run for their output.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';

/** Ends whatever is under way: what waits throws AbortError. */
export const stop: AbortController = new AbortController();

/** Runs a program; its standard output. Throws with what it said on standard error, after a title. */
export async function run(
  program: string,
  args: readonly string[],
  input = '',
  title: string = titleOf(program, args),
): Promise<string> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], signal: stop.signal });
  const closed = Promise.withResolvers<number | null>();
  child.once('error', closed.reject).once('close', closed.resolve);
  // One that ends without reading is judged by its exit code.
  child.stdin.on('error', () => undefined).end(input);
  const [code, said, complaint] = await Promise.all([closed.promise, text(child.stdout), text(child.stderr)]);
  if (code === 0) return said;
  throw new Error(`${title}: ${complaint.trim() || `code ${code}`}`);
}

/** A command as people would name it: by its first words. */
export function titleOf(program: string, args: readonly string[]): string {
  return [program.split('/').at(-1), ...args.slice(0, 6)].join(' ');
}

/** What no further look would mend. */
export class FinalError extends Error {}

/** Looks until it finds something. Throws what the last look threw, when the time is over or that was final. */
export async function until<T>(what: string, limitMs: number, look: () => Promise<T | null>): Promise<T> {
  let last = '';
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    try {
      const found = await look();
      if (found !== null) return found;
    } catch (error) {
      if (stop.signal.aborted || error instanceof FinalError) throw error;
      last = `: ${error instanceof Error ? error.message : error}`;
    }
    await pause(250, undefined, { signal: stop.signal });
  }
  throw new Error(`${what}: not within ${Math.round(limitMs / 1000)} s${last}`);
}
