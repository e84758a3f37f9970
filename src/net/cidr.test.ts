// Blocks of addresses: parsing, masking, containment, against plain arithmetic on big integers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { holds } from '#test/support/property.ts';
import { type Address, parseAddress } from './address.ts';
import { type Cidr, cidrContains, cidrCovers, formatCidr, hostCidr, maskAddress, parseCidr } from './cidr.ts';

const PARSED: readonly (readonly [string, string, boolean])[] = [
  ['10.0.0.0/8', '10.0.0.0/8', false],
  ['10.1.2.3/8', '10.0.0.0/8', true],
  ['0.0.0.0/0', '0.0.0.0/0', false],
  ['255.255.255.255/0', '0.0.0.0/0', true],
  ['1.2.3.4/32', '1.2.3.4/32', false],
  ['128.0.0.1/1', '128.0.0.0/1', true],
  ['::/0', '::/0', false],
  ['2001:db8::1/33', '2001:db8::/33', true],
  ['2001:db8:ffff::/33', '2001:db8:8000::/33', true],
  ['::1/128', '::1/128', false],
];

for (const [text, canonical, hostBits] of PARSED) {
  test(`block ${text} is ${canonical}`, () => {
    const parsed = parseCidr(text);
    assert.ok(parsed);
    assert.equal(formatCidr(parsed.cidr), canonical);
    assert.equal(parsed.hostBits, hostBits);
  });
}

for (const text of [
  '',
  '/8',
  '10.0.0.0',
  '10.0.0.0/',
  '10.0.0.0/33',
  '10.0.0.0/08',
  '10.0.0.0/-1',
  '10.0.0.0/8/8',
  '::/129',
  '10.0.0.0/8 ',
  'a/8',
]) {
  test(`block ${text === '' ? '(empty)' : text} is refused`, () => {
    assert.equal(parseCidr(text), null);
  });
}

/** The address as one number. */
function numberOf({ words }: Address): bigint {
  return words.reduce((value, word) => (value << 32n) | BigInt(word), 0n);
}

function contains({ address, length }: Cidr, other: Address): boolean {
  const shift = BigInt(address.words.length * 32 - length);
  return address.family === other.family && numberOf(address) >> shift === numberOf(other) >> shift;
}

/** The last address of a block. */
function lastOf({ address, length }: Cidr): Address {
  const words = address.words.map((word, index) => {
    const fixed = Math.min(32, Math.max(0, length - index * 32));
    return fixed === 32 ? word : (word | (0xffffffff >>> fixed)) >>> 0;
  });
  return { family: address.family, words };
}

const word = fc.oneof(fc.constantFrom(0, 1, 0x80000000, 0xffffffff), fc.nat(0xffffffff));
const anyAddress = fc.oneof(
  word.map((one): Address => ({ family: 4, words: [one] })),
  fc.tuple(word, word, word, word).map((words): Address => ({ family: 6, words })),
);
const anyCidr = fc.tuple(anyAddress, fc.nat(128)).map(([address, length]): Cidr => {
  const most = Math.min(length, address.words.length * 32);
  return { address: maskAddress(address, most), length: most };
});
/** An address near the block, so that both answers are met. */
const near = fc.tuple(anyCidr, anyAddress, fc.nat(127)).map(([cidr, other, bit]) => {
  if (bit < 40 || other.family !== cidr.address.family) return { cidr, address: other };
  const place = bit % (cidr.address.words.length * 32);
  const words = cidr.address.words.map((one, index) =>
    index === place >> 5 ? (one ^ (1 << (31 - (place & 31)))) >>> 0 : one,
  );
  return { cidr, address: { family: cidr.address.family, words } };
});

test('a block holds exactly the addresses with its prefix', (t) => {
  let held = 0;
  const check = fc.property(near, ({ cidr, address }) => {
    assert.equal(cidrContains(cidr, address), contains(cidr, address));
    if (contains(cidr, address)) held++;
  });
  holds(t, check, 2000);
  assert.ok(held > 0, 'some address was inside');
});

test('a block covers another exactly when it holds its first and last address', (t) => {
  const check = fc.property(anyCidr, anyCidr, (outer, inner) => {
    const last = lastOf(inner);
    assert.equal(cidrCovers(outer, inner), contains(outer, inner.address) && contains(outer, last));
  });
  holds(t, check, 500);
});

test('the block of one address holds it alone', () => {
  const [one, two] = ['10.0.0.1', '10.0.0.2'].map(parseAddress);
  assert.ok(one && two);
  assert.deepEqual(
    [one, two].map((address) => cidrContains(hostCidr(one), address)),
    [true, false],
  );
});
