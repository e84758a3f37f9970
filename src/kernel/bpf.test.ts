// The kernel takes and gives as many bytes as the map has: a buffer of another size must never reach it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { holds } from '#test/support/property.ts';
import { Witness } from '#test/support/witness.ts';
import { decodeIds, deleteElement, lookupElement, type MapHandle, updateBatch } from './bpf.ts';
import { mapArray } from './memory.ts';

/** No such descriptor: were a call made, it would fail with EBADF. */
const MAP: MapHandle = { fd: 0x7fff_ffff, keySize: 4, valueSize: 16 };

test('a key or value of another size than the map’s is refused before the kernel is asked', () => {
  const message = (sizes: string): { readonly name: string; readonly message: RegExp } => ({
    name: 'RangeError',
    message: new RegExp(sizes),
  });
  assert.throws(() => lookupElement(MAP, Buffer.alloc(3), Buffer.alloc(16)), message('a key of 3 bytes.*has 4'));
  assert.throws(() => lookupElement(MAP, Buffer.alloc(4), Buffer.alloc(15)), message('a value of 15 bytes.*has 16'));
  assert.throws(() => deleteElement(MAP, Buffer.alloc(5)), message('a key of 5 bytes'));
  assert.throws(() => updateBatch(MAP, Buffer.alloc(8), Buffer.alloc(16), 2), message('2 values of 16 bytes.*has 32'));
  assert.throws(() => updateBatch(MAP, Buffer.alloc(4), Buffer.alloc(32), 2), message('2 keys of 4 bytes.*has 8'));
});

test('of the right sizes the kernel is asked, and refuses a descriptor that is none', () => {
  const refused = { name: 'SystemCallError', code: 'EBADF' };
  assert.throws(() => lookupElement(MAP, Buffer.alloc(4), Buffer.alloc(16)), refused);
  assert.throws(() => updateBatch(MAP, Buffer.alloc(8), Buffer.alloc(32), 2), refused);
});

test('programs at a place are as many as the kernel had room for, or it is an error', (t) => {
  const property = fc.property(
    fc.uint8Array({ maxLength: 64 }),
    fc.oneof(fc.nat(20), fc.nat(0xffff_ffff)),
    (bytes, count) => {
      const ids = Buffer.from(bytes.subarray(0, bytes.length - (bytes.length % 4)));
      const room = ids.length / 4;
      if (count > room) assert.throws(() => decodeIds(ids, count), { name: 'RangeError', message: /and room for/ });
      else assert.deepEqual(decodeIds(ids, count), [...new Uint32Array(new Uint8Array(ids).buffer)].slice(0, count));
    },
  );
  holds(t, property, 2000);
});

test('an array is mapped with the elements that it has, and no others (root)', {
  skip: needsRoot.skip || needsSources.skip,
}, () => {
  const witness = new Witness();
  try {
    mapArray(witness.store, 8, 1).close();
    for (const [size, entries] of [
      [8, 2],
      [16, 1],
      [4, 2],
      [0, 1],
      [8, 2 ** 31],
    ] as const) {
      assert.throws(() => mapArray(witness.store, size, entries), {
        name: 'RangeError',
        message: /has 1 elements of 8 bytes/,
      });
    }
  } finally {
    witness.close();
  }
});
