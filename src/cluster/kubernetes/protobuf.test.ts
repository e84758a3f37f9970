// Protocol Buffers: what is read is what JSON would have, whatever stands in between; what is cut or strange is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { delimited, encodeMessage, varint } from '#test/support/protobuf.ts';
import { ProtobufError, readMessage, type Shape } from './protobuf.ts';

const INNER: Shape = { 1: { name: 'name', type: 'text' }, 3: { name: 'port', type: 'whole' } };
const SHAPE: Shape = {
  1: { name: 'title', type: 'text' },
  2: { name: 'count', type: 'whole' },
  4: { name: 'on', type: 'flag' },
  11: { name: 'labels', type: 'texts' },
  20: { name: 'inner', type: 'message', shape: INNER },
  2000: { name: 'all', type: 'messages', shape: INNER },
};

const WHOLE = fc.oneof(fc.nat(), fc.constantFrom(Number.MAX_SAFE_INTEGER, -1)).filter((value) => value !== 0);
const TEXT = fc.string({ minLength: 1, unit: 'grapheme' });
const INNER_FIELDS = fc.record({ name: TEXT, port: WHOLE }, { requiredKeys: [] });
const FIELDS = fc.record(
  {
    ...{ title: TEXT, count: WHOLE, on: fc.constant(true) },
    labels: fc
      .array(fc.tuple(fc.oneof(TEXT, fc.constant('__proto__')), fc.string()), { minLength: 1 })
      .map((entries) => Object.fromEntries(entries)),
    inner: INNER_FIELDS,
    all: fc.array(INNER_FIELDS, { minLength: 1 }),
  },
  { requiredKeys: [] },
);
/** Fields that no shape has, of every wire type that there is. */
const STRANGE = fc.array(
  fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => Buffer.concat([varint(7n * 8n), varint(value)])),
    fc.uint8Array().map((bytes) => delimited(9, Buffer.from(bytes))),
    fc.constant(Buffer.concat([varint(13n * 8n + 1n), Buffer.alloc(8, 255)])),
    fc.constant(Buffer.concat([varint(99_999n * 8n + 5n), Buffer.alloc(4, 255)])),
  ),
);

test('the fields of a shape are read as JSON would have them, and nothing else', () => {
  const property = fc.property(FIELDS, STRANGE, (fields, strange) => {
    const read = readMessage(encodeMessage(SHAPE, fields, strange), SHAPE);
    assert.deepEqual(read, JSON.parse(JSON.stringify(fields)));
  });
  fc.assert(property, { numRuns: 300 });
});

test('zero values are left out, as the API leaves them out of JSON', () => {
  const zeros = { title: '', count: 0, on: false, inner: { name: '', port: 0 } };
  assert.deepEqual(readMessage(encodeMessage(SHAPE, zeros), SHAPE), { inner: {} });
});

test('a key of a map has no power over the object that it is in', () => {
  const { labels } = readMessage(encodeMessage(SHAPE, { labels: JSON.parse('{"__proto__":"x"}') }), SHAPE);
  assert.deepEqual(Object.keys(labels as object), ['__proto__']);
  assert.equal(Object.getPrototypeOf(labels), Object.prototype);
});

test('a message that is cut anywhere is refused, or ends before a field', () => {
  const fields = { title: 'title', count: 300, on: true, labels: { a: 'b' }, all: [{ name: 'x', port: 1 }] };
  const whole = encodeMessage(SHAPE, fields);
  let refused = 0;
  for (let end = 0; end < whole.length; end++) {
    try {
      const read = readMessage(whole.subarray(0, end), SHAPE);
      assert.notDeepEqual(read, fields);
    } catch (error) {
      assert.ok(error instanceof ProtobufError);
      refused++;
    }
  }
  assert.equal(refused, whole.length - 5);
});

const HOSTILE: readonly (readonly [what: string, bytes: Buffer, message: RegExp])[] = [
  ['a text longer than its message', Buffer.from([0x0a, 5, 97]), /title is longer/],
  ['a field within a message that reaches beyond it', Buffer.from([0xa2, 1, 2, 0x0a, 5, 97, 97, 97, 97, 97]), /longer/],
  ['an unknown field beyond the end', Buffer.from([0x4a, 200, 1]), /longer/],
  ['a length of 2^63', Buffer.concat([Buffer.from([0x0a]), varint(2n ** 63n)]), /title is longer/],
  ['a number without an end', Buffer.from([0x10, ...new Array<number>(12).fill(255)]), /no end/],
  ['text where a number is expected', Buffer.from([0x12, 1, 97]), /count has the wire type 2/],
  ['a number where text is expected', Buffer.from([0x08, 1]), /title has the wire type 0/],
  ['a group, which nobody sends', Buffer.from([0x3b, 0x3c]), /wire type 3/],
];

for (const [what, bytes, message] of HOSTILE) {
  test(`refused: ${what}`, () => {
    assert.throws(() => readMessage(bytes, SHAPE), { name: 'ProtobufError', message });
  });
}

test('no bytes make it fail in another way', () => {
  const property = fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    try {
      readMessage(Buffer.from(bytes), SHAPE);
    } catch (error) {
      assert.ok(error instanceof ProtobufError);
    }
  });
  fc.assert(property, { numRuns: 2000 });
});
