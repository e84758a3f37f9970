// Events as the kernel writes them, and bytes that no kernel would write.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EVENT } from '#datapath/ebpf/encode/abi.gen.ts';
import { DROP_REASONS } from '#datapath/port.ts';
import { holds } from '#test/support/property.ts';
import { DatapathError } from './error.ts';
import { decodeEvent } from './events.ts';

test('random bytes of an event’s size are an event with fields in their ranges; of another size an error', (t) => {
  const property = fc.property(fc.uint8Array({ maxLength: 2 * EVENT.size }), fc.nat(16), (bytes, offset) => {
    // Inside something larger, as in the ring: nothing beside it may be read.
    const room = new Uint8Array(offset + bytes.length + 64).fill(0xff);
    room.set(bytes, offset);
    const record = room.subarray(offset, offset + bytes.length);
    if (bytes.length !== EVENT.size) {
      assert.throws(() => decodeEvent(record, () => null), DatapathError);
      return;
    }
    const event = decodeEvent(record, (rule) => rule);
    assert.ok(['new', 'close', 'drop'].includes(event.kind));
    assert.ok(['from-pod', 'to-pod'].includes(event.hook));
    assert.ok(DROP_REASONS.includes(event.reason));
    assert.ok([null, 'egress', 'ingress'].includes(event.leg));
    for (const end of [event.source, event.destination]) assert.equal(end.words.length, end.family === 4 ? 1 : 4);
    assert.ok(event.sourcePort <= 0xffff && event.destinationPort <= 0xffff && event.protocol <= 0xff);
  });
  holds(t, property, 2000);
  const sized = fc.property(fc.uint8Array({ minLength: EVENT.size, maxLength: EVENT.size }), (bytes) => {
    assert.ok(decodeEvent(bytes, () => null).count >= 0);
  });
  holds(t, sized, 2000);
});
