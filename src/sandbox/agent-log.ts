// What an agent's log says of the end of its process.
import { FAILURE_MARK } from '#agent/process-options.ts';

/** The message of the last failure; where the process could not say one, its last line. */
export function lastWords(log: string): string {
  const at = `\n${log}`.lastIndexOf(`\n${FAILURE_MARK}`);
  const words = at < 0 ? log.trimEnd().split('\n').at(-1) : log.slice(at + FAILURE_MARK.length);
  return words?.trim() || 'it said nothing';
}
