// Records of another version, read by a layout that only the kernel says: within the record, or not at all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Field } from '#kernel/btf.ts';
import { holds } from '#test/support/property.ts';
import { endpointReader } from './earlier.ts';

const NEEDED: readonly (readonly [name: string, size: number])[] = [
  ...[0, 1, 2, 3].map((index) => [`self.w[${index}]`, 4] as const),
  ...[0, 1, 2, 3, 4, 5].map((index) => [`pod_mac[${index}]`, 1] as const),
  ...([
    ['self.family', 1],
    ['ifindex', 4],
    ['generation', 4],
  ] as const),
];

/** The fields one after the other. */
function packed(): Map<string, Field> {
  const fields = new Map<string, Field>();
  let offset = 0;
  for (const [name, size] of NEEDED) {
    fields.set(name, { offset, size });
    offset += size;
  }
  return fields;
}

test('an endpoint is read by the names of its fields, wherever they stand', () => {
  const record = Buffer.alloc(31);
  record.set([10, 9, 0, 1], 0);
  record.set([2, 0, 0, 0, 0, 7, 4, 5, 0, 0, 0, 6, 0, 0, 0], 16);
  assert.deepEqual(endpointReader({ name: 'endpoint', fields: packed() }, record)(), {
    address: { family: 4, words: [0x0a090001] },
    mac: Uint8Array.of(2, 0, 0, 0, 0, 7),
    ...{ interfaceIndex: 5, generation: 6, slot: 0, closed: false },
  });
});

test('a layout that lacks a field, or has one of another size, reads nothing', () => {
  for (const [name, size] of NEEDED) {
    const layout = { name: 'endpoint', fields: packed() };
    layout.fields.set(name, { offset: 0, size: size * 2 });
    assert.throws(() => endpointReader(layout, Buffer.alloc(31)), { message: `endpoint.${name} has another size` });
    layout.fields.delete(name);
    assert.throws(() => endpointReader(layout, Buffer.alloc(31)), { message: `endpoint has no field ${name}` });
  }
});

test('random records by random layouts are an endpoint, nobody’s, or an error that names the field', (t) => {
  const field = fc.record({
    offset: fc.oneof(fc.nat(30), fc.nat(40), fc.constantFrom(0xffff_ffff, 0x1fff_ffff, 2 ** 40)),
    size: fc.constantFrom(0, 1, 2, 4, 4, 8, 0xffff_ffff),
  });
  const changes = fc.array(fc.tuple(fc.nat(NEEDED.length - 1), fc.option(field)), { maxLength: 2 });
  const record = fc.oneof(fc.uint8Array({ minLength: 31, maxLength: 40 }), fc.uint8Array({ maxLength: 40 }));
  const met = { read: 0, nobody: 0, refused: 0 };
  const property = fc.property(changes, record, fc.constantFrom(null, 4, 6), (changed, bytes, family) => {
    const fields = packed();
    for (const [index, other] of changed) {
      const [name] = NEEDED[index] ?? ['none'];
      if (other === null) fields.delete(name);
      else fields.set(name, other);
    }
    const held = Buffer.from(bytes);
    if (family !== null && held.length > 22) held[22] = family;
    try {
      met[endpointReader({ name: 'endpoint', fields }, held)() === null ? 'nobody' : 'read']++;
    } catch (error) {
      met.refused++;
      const said = /^endpoint has no field|^endpoint\.\S+ (has another size|stands beyond)/;
      assert.match(error instanceof Error ? error.message : '', said);
    }
  });
  holds(t, property, 2000);
  for (const [what, count] of Object.entries(met)) assert.ok(count > 0, `none was ${what}`);
});
