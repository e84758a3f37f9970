// Bounded big-endian reads: a read past the end is null, never a zero.
import type { Address } from '#net/address.ts';

/** Unsigned big-endian integer of `size` (1, 2 or 4) bytes at `at`, or null past the end. */
export function readUint(bytes: Uint8Array, at: number, size: 1 | 2 | 4): number | null {
  if (at < 0 || at + size > bytes.length) return null;
  let value = 0;
  for (let index = 0; index < size; index++) value = value * 256 + (bytes[at + index] ?? 0);
  return value;
}

/** An address of `family` at `at`, or null past the end. */
export function readAddress(bytes: Uint8Array, at: number, family: 4 | 6): Address | null {
  const words: number[] = [];
  for (let index = 0; index < (family === 4 ? 1 : 4); index++) {
    const word = readUint(bytes, at + index * 4, 4);
    if (word === null) return null;
    words.push(word);
  }
  return { family, words };
}

/** True where the two have the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
