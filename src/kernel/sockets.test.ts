// The sender of a datagram is read within what the kernel wrote of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { decodeSocketAddress, encodeSocketAddress } from './sockets.ts';

const word = fc.nat(0xffff_ffff);

test('an address and port are read as they were written; cut short anywhere they are nobody’s', (t) => {
  const words = fc.oneof(fc.tuple(word), fc.tuple(word, word, word, word));
  const property = fc.property(words, fc.nat(65_535), (given, port) => {
    const address = { family: given.length === 1 ? 4 : 6, words: given } as const;
    const bytes = encodeSocketAddress(address, port);
    assert.deepEqual(decodeSocketAddress(bytes), { address, port });
    for (let size = 0; size < bytes.length; size++) assert.equal(decodeSocketAddress(bytes.subarray(0, size)), null);
  });
  holds(t, property, 500);
});

test('random bytes are an address or nobody’s, and what stands behind them is not read', (t) => {
  const families = fc.constantFrom([2, 0], [10, 0], [1, 0], [17, 0]);
  const property = fc.property(families, fc.uint8Array({ maxLength: 26 }), fc.nat(28), (family, rest, size) => {
    const read = (behind: number): unknown => {
      const room = Buffer.alloc(64, behind);
      room.set([...family, ...rest]);
      room.fill(behind, Math.min(size, family.length + rest.length));
      return decodeSocketAddress(room.subarray(0, Math.min(size, family.length + rest.length)));
    };
    assert.deepEqual(read(0xa5), read(0x5a));
  });
  holds(t, property, 2000);
});
