// Counting through the addresses and sub-blocks of a block.
import { type Address, formatAddress } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';

/** Gives the next address that is not taken, or null when the block is used up. */
export type NextAddress = (taken: ReadonlySet<string>) => Address | null;

/** Addresses of a block in order, from the third on: the first two are the network's and, by custom, the gateway's. */
export function freeAddresses(block: Cidr): NextAddress {
  let index = 2;
  return (taken) => {
    for (; isInside(block, index); index++) {
      const address = addressAt(block, index);
      if (!taken.has(formatAddress(address))) {
        index++;
        return address;
      }
    }
    return null;
  };
}

/** The blocks of the longer `length` inside a block, in order: at most 256. */
export function blocksOf(block: Cidr, length: number): Cidr[] {
  const count = Math.min(256, 2 ** (length - block.length));
  const step = 2 ** (block.address.words.length * 32 - length);
  return Array.from({ length: count }, (_, index) => ({ address: addressAt(block, index * step), length }));
}

/** The last address of an IPv4 block is its broadcast address, which no pod has. */
function isInside(block: Cidr, index: number): boolean {
  const bits = block.address.words.length * 32 - block.length;
  return bits >= 31 || index < 2 ** bits - 1;
}

/** The address `index` places after the first of the block; `index` stays within 31 bits. */
function addressAt(block: Cidr, index: number): Address {
  const words = [...block.address.words];
  const last = words.length - 1;
  words[last] = ((words[last] ?? 0) | index) >>> 0;
  return { family: block.address.family, words };
}
