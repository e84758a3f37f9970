// JSON lines over a stream socket: one value a line, both ways.
import type { Socket } from 'node:net';

/** A line that is longer, in characters, is an attack or a bug: the connection is closed. */
export const LINE_LIMIT: number = 64 * 1024 * 1024;

/** A request, as far as it must be known to be answered. */
export type Request = { readonly id: number; readonly method: string };

/** A value as its line; null where it is longer than readers take. */
export function lineOf(value: unknown): string | null {
  try {
    const line = `${JSON.stringify(value)}\n`;
    return line.length > LINE_LIMIT ? null : line;
  } catch (error) {
    // Longer than any text can be.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** Writes one value. Returns how many bytes wait in this process because the reader is slow. */
export function writeLine(socket: Socket, value: unknown): number {
  if (socket.writable) socket.write(`${JSON.stringify(value)}\n`);
  return socket.writableLength;
}

/** Whether a value can be answered at all; anything else is no request of ours. */
export function isRequest(value: unknown): value is Request {
  if (typeof value !== 'object' || value === null) return false;
  return 'id' in value && typeof value.id === 'number' && 'method' in value && typeof value.method === 'string';
}

/** Calls `handle` for each value that arrives. A line that is not JSON, or too long, ends the connection with an error. */
export function readLines(socket: Socket, handle: (value: unknown) => void, limit: number = LINE_LIMIT): void {
  let parts: string[] = [];
  let size = 0;
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    const lines = text.split('\n');
    for (const [index, line] of lines.entries()) {
      parts.push(line);
      size += line.length;
      if (size > limit) return void socket.destroy(new Error('a line is too long'));
      if (index === lines.length - 1) break;
      const whole = parts.join('');
      parts = [];
      size = 0;
      if (whole === '') continue;
      const parsed = parseLine(whole);
      if (!parsed.ok) return void socket.destroy(new Error('a line is not JSON'));
      handle(parsed.value);
    }
  });
}

function parseLine(line: string): { readonly ok: true; readonly value: unknown } | { readonly ok: false } {
  try {
    return { ok: true, value: JSON.parse(line) };
  } catch {
    return { ok: false };
  }
}
