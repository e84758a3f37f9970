// Addresses: what parses, what does not, and one text for each.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { type Address, formatAddress, isV4Mapped, parseAddress } from './address.ts';

const CANONICAL: readonly (readonly [string, string])[] = [
  ['0.0.0.0', '0.0.0.0'],
  ['255.255.255.255', '255.255.255.255'],
  ['10.0.0.1', '10.0.0.1'],
  ['::', '::'],
  ['::1', '::1'],
  ['1::', '1::'],
  ['2001:DB8::00A1', '2001:db8::a1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ['1:0:3:4:5:6:7:8', '1:0:3:4:5:6:7:8'],
  ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
  ['::ffff:1.2.3.4', '::ffff:102:304'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
];

for (const [text, canonical] of CANONICAL) {
  test(`address ${text} is ${canonical}`, () => {
    const address = parseAddress(text);
    assert.ok(address);
    assert.equal(formatAddress(address), canonical);
  });
}

const REFUSED: readonly string[] = [
  '',
  '1.2.3',
  '1.2.3.4.5',
  '1.2.3.256',
  '1.2.3.-4',
  '1.2.3.04',
  '1.2.3.4 ',
  '1.2.3.4/8',
  '0x1.2.3.4',
  '1.2.3.',
  ':',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7::8:9',
  '::12345',
  '::g',
  '1:2:3:4:5:6:7:8::',
  '::1.2.3.4:5',
  '1.2.3.4::',
  '::1.2.3',
  'fe80::1%eth0',
  '[::1]',
];

for (const text of REFUSED) {
  test(`address ${text === '' ? '(empty)' : text} is refused`, () => {
    assert.equal(parseAddress(text), null);
  });
}

test('an address of IPv4 in IPv6 is told from others', () => {
  const mapped = (text: string): boolean => {
    const address = parseAddress(text);
    assert.ok(address);
    return isV4Mapped(address);
  };
  assert.deepEqual(['::ffff:1.2.3.4', '::1.2.3.4', '1.2.3.4', '::fffe:1.2.3.4'].map(mapped), [
    true,
    false,
    false,
    false,
  ]);
});

const word = fc.oneof(fc.constantFrom(0, 1, 0xffff, 0x10000, 0xffffffff), fc.nat(0xffffffff));
const anyAddress = fc.oneof(
  word.map((one): Address => ({ family: 4, words: [one] })),
  fc.tuple(word, word, word, word).map((words): Address => ({ family: 6, words })),
);

test('every address comes back from its text', (t) => {
  holds(
    t,
    fc.property(anyAddress, (address) => assert.deepEqual(parseAddress(formatAddress(address)), address)),
    500,
  );
});
