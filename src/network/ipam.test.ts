// Addresses are given once, all of them, round and round, and never those that are nobody's.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { type Cidr, cidrContains, parseCidr } from '#net/cidr.ts';
import { holds } from '#test/support/property.ts';
import { allocate } from './ipam.ts';

function blocks(...texts: readonly string[]): readonly Cidr[] {
  return texts.flatMap((text) => parseCidr(text)?.cidr ?? []);
}

/** Gives out so many, one after the other, and keeps them. */
class Pool {
  readonly held: Set<AddressKey> = new Set();
  readonly #blocks: readonly Cidr[];
  #last: readonly Address[] = [];

  constructor(...texts: readonly string[]) {
    this.#blocks = blocks(...texts);
  }

  next(): readonly AddressKey[] | null {
    const given = allocate(this.#blocks, { held: this.held, last: this.#last });
    if (given === null) return null;
    this.#last = given;
    for (const address of given) {
      assert.ok(!this.held.has(formatAddress(address)));
      this.held.add(formatAddress(address));
    }
    return given.map(formatAddress);
  }
}

test('a block’s own address, its gateway’s and its broadcast are nobody’s', () => {
  const pool = new Pool('10.1.2.0/29');
  const given = Array.from({ length: 5 }, () => pool.next()?.[0]);
  assert.deepEqual(given, ['10.1.2.2', '10.1.2.3', '10.1.2.4', '10.1.2.5', '10.1.2.6']);
  assert.equal(pool.next(), null);
  for (const length of [30, 31, 32]) {
    assert.equal(new Pool(`10.1.2.0/${length}`).next()?.[0], length === 30 ? '10.1.2.2' : undefined);
  }
  const six = new Pool('fd00::/126');
  assert.deepEqual([six.next(), six.next(), six.next()], [['fd00::2'], ['fd00::3'], null]);
});

test('one that was given back comes last', () => {
  const pool = new Pool('10.1.2.0/29');
  pool.next();
  pool.next();
  pool.held.delete('10.1.2.3' as AddressKey);
  assert.deepEqual([pool.next(), pool.next(), pool.next(), pool.next(), pool.next()].flat(), [
    ...['10.1.2.4', '10.1.2.5', '10.1.2.6', '10.1.2.3', null],
  ]);
});

test('a node of two families gives one of each, or none at all', () => {
  const pool = new Pool('10.1.2.0/30', 'fd00::/64');
  assert.deepEqual(pool.next(), ['10.1.2.2', 'fd00::2']);
  assert.equal(pool.next(), null);
  assert.equal(new Pool().next(), null);
});

test('a second block of a family is used when the first is full', () => {
  const pool = new Pool('10.1.2.0/30', '10.1.3.0/30');
  assert.deepEqual([pool.next(), pool.next(), pool.next()], [['10.1.2.2'], ['10.1.3.2'], null]);
});

test('however they come and go, an address is in its block, held by one, and found as long as there is one', (t) => {
  const lengths = fc.integer({ min: 26, max: 30 });
  const acts = fc.array(fc.option(fc.nat(100), { freq: 2 }), { maxLength: 120 });
  const property = fc.property(lengths, acts, (length, steps) => {
    const pool = new Pool(`10.1.2.64/${length}`);
    const room = 2 ** (32 - length) - 3;
    const [block] = blocks(`10.1.2.64/${length}`);
    for (const back of steps) {
      const holder = back === null ? undefined : [...pool.held][back % Math.max(pool.held.size, 1)];
      if (holder !== undefined) pool.held.delete(holder);
      const isFull = pool.held.size === room;
      const given = pool.next();
      assert.equal(given === null, isFull);
      for (const text of given ?? []) {
        const parsed = parseCidr(`${text}/32`)?.cidr.address;
        assert.ok(block && parsed && cidrContains(block, parsed));
      }
    }
  });
  holds(t, property, 300);
});
