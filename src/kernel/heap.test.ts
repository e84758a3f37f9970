// What malloc keeps that is free, and that trimming gives back.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import koffi from 'koffi';
import { trimHeap } from './heap.ts';

const libc = koffi.load('libc.so.6');
const calloc = libc.func('void *calloc(size_t count, size_t size)');
const free = libc.func('void free(void *at)');
const memset = libc.func('void *memset(void *at, int byte, size_t size)');

/** Resident bytes of the heap that malloc gets by brk(2). */
function residentHeap(): number {
  const [, heap = ''] = readFileSync('/proc/self/smaps', 'utf8').split('[heap]');
  return Number(/Rss:\s+(\d+) kB/.exec(heap)?.[1] ?? 0) * 1024;
}

test('what is free below a piece in use is given back by trimming, and not without', () => {
  const size = 8192;
  const pieces = Array.from({ length: 2048 }, () => calloc(1, size) as unknown);
  for (const piece of pieces) memset(piece, 1, size);
  const last = pieces.pop();
  try {
    const full = residentHeap();
    for (const piece of pieces) free(piece);
    const freed = residentHeap();
    assert.ok(full - freed < 4e6, `malloc gave back ${full - freed} bytes by itself`);
    assert.equal(trimHeap(), true);
    const given = freed - residentHeap();
    assert.ok(given > 12e6, `${given} of 16 MB were given back`);
  } finally {
    free(last);
  }
});
