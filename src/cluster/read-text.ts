// The text of a file or of standard input, as far as Moat reads: a file of gigabytes, or one that never ends, is refused.
import { closeSync, openSync, readSync } from 'node:fs';

/** Larger files are refused before they are in memory. The API server's own limit, for one object, is 3 MiB. */
export const MAX_FILE_BYTES: number = 64 * 1024 * 1024;

const CHUNK = 1 << 16;

/** Reads a file to its end. Throws the system's error, or one with the code EFBIG. */
export function readTextFile(path: string): string {
  const fd = openSync(path, 'r');
  try {
    return readText(fd);
  } finally {
    closeSync(fd);
  }
}

/** Reads to the end. A pipe that another program made may answer "not yet" (EAGAIN): wait and ask again. */
export function readText(fd: number): string {
  const chunks: Buffer[] = [];
  const buffer = Buffer.alloc(CHUNK);
  for (let size = 0; size <= MAX_FILE_BYTES; ) {
    const count = readSome(fd, buffer);
    if (count === 0) return Buffer.concat(chunks).toString('utf8');
    if (count === null) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    else chunks.push(Buffer.from(buffer.subarray(0, count)));
    size += count ?? 0;
  }
  throw Object.assign(new Error(`more than ${MAX_FILE_BYTES} bytes`), { code: 'EFBIG' });
}

/** Null: nothing there yet. */
function readSome(fd: number, buffer: Buffer): number | null {
  try {
    return readSync(fd, buffer);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return null;
    throw error;
  }
}
