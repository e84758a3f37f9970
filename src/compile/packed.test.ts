// What is packed comes back as it was, and shapes live as long as something has them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { arbitraryPolicy } from '#test/support/arbitrary-policy.ts';
import { holds } from '#test/support/property.ts';
import { Packer } from './packed.ts';

const json = fc.dictionary(fc.constantFrom('kind', 'op', 'a', '"', '__proto', ''), fc.jsonValue({ maxDepth: 4 }));

test('whatever JSON can say comes back as it was, and so do policies', (context) => {
  const packer = new Packer();
  holds(
    context,
    fc.property(fc.oneof(json, arbitraryPolicy('tiered'), arbitraryPolicy('network')), (value) => {
      const text = JSON.stringify(value);
      assert.equal(JSON.stringify(packer.unpack(packer.pack(value))), JSON.stringify(JSON.parse(text)));
    }),
    150,
  );
});

test('policies that differ in names and numbers alone share their shape', () => {
  const packer = new Packer();
  const policy = (name: string, port: number): object => ({
    name,
    key: `np/${name}`,
    ports: [{ kind: 'range', port }],
  });
  const [one, other] = [packer.pack(policy('db', 80)), packer.pack(policy('web', 443))];
  assert.equal(one.shape, other.shape);
  packer.drop(one);
  assert.equal(packer.pack(policy('api', 22)).shape, other.shape);
});

test('a text and a number that look alike are two things', () => {
  const packer = new Packer();
  assert.deepEqual(packer.unpack(packer.pack({ name: '80', port: 80, again: '80' })), {
    name: '80',
    port: 80,
    again: '80',
  });
});
