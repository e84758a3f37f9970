// The kernel takes and gives as many bytes as the map has: a buffer of another size must never reach it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deleteElement, lookupElement, type MapHandle, updateBatch } from './bpf.ts';

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
