// Where commands write: the width and colours of the terminal, and a pipe that its reader has closed.
import { styleText } from 'node:util';

type Format = Parameters<typeof styleText>[0];

/** What ends the process in another way than at once, when a pipe is closed. */
const endings = new Set<() => void>();

/** While something is up: `end` must end the process itself. Until the returned function is called. */
export function onClosedPipe(end: () => void): () => void {
  endings.add(end);
  return () => void endings.delete(end);
}

/** `| head` closes the pipe early: that is no error of ours. */
export function endQuietlyOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      if (endings.size === 0) process.exit(0);
      for (const end of endings) end();
    });
  }
}

/** Columns that a table may fill: the terminal's, 80 where there is none. */
export function outputWidth(): number {
  // Some terminals say 0, and no table fits into a handful of columns.
  return Math.max(process.stdout.columns || 80, 40);
}

/** The text in a style, where stdout is a terminal that shows it and NO_COLOR does not forbid it. */
export function styled(format: Format, text: string): string {
  return styleText(format, text, { stream: process.stdout });
}

/** Writes a line, or several, to stdout. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** One JSON document on stdout. */
export function printJson(value: unknown): void {
  print(jsonText(value));
}

/** JSON that a terminal may show: what JSON itself lets stand and a terminal would obey is escaped. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, null, 2).replaceAll(/[\x7f-\x9f]|\p{Cf}|\p{Zl}|\p{Zp}/gu, (character) => {
    return [...Array(character.length).keys()].map((at) => `\\u${hex4(character.charCodeAt(at))}`).join('');
  });
}

function hex4(code: number): string {
  return code.toString(16).padStart(4, '0');
}
