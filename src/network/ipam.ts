// Which address a pod gets: the next free one of the node's blocks, round and round, so that one that was just given
// back rests as long as can be. Who holds what is the caller's to know.
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { type Cidr, cidrContains } from '#net/cidr.ts';

/** What is in use, and what each family was given last. */
export type Holdings = { readonly held: ReadonlySet<AddressKey>; readonly last: readonly Address[] };

/** One address of each family that the node has a block of, in the blocks' order; null where one has none left. */
export function allocate(blocks: readonly Cidr[], holdings: Holdings): readonly Address[] | null {
  const families = [...new Set(blocks.map((block) => block.address.family))];
  const given = families.flatMap((family) => {
    const own = blocks.filter((block) => block.address.family === family);
    return own.flatMap((block) => nextFree(block, holdings) ?? []).slice(0, 1);
  });
  return given.length === families.length && given.length > 0 ? given : null;
}

/** The first free address after the last one given, and from the block's start again. */
function nextFree(block: Cidr, { held, last }: Holdings): Address | null {
  const { first, end } = usable(block);
  const base = numberOf(block.address);
  const before = last.find((address) => cidrContains(block, address));
  const start = before === undefined ? first : numberOf(before) - base + 1n;
  const count = end - first;
  // Of more than are held, one is free.
  for (let step = 0n; step < count && step <= BigInt(held.size); step++) {
    const offset = first + mod(start - first + step, count);
    const address = addressOf(block.address.family, base + offset);
    if (!held.has(formatAddress(address))) return address;
  }
  return null;
}

/**
 * A block's own address, the one after it, which gateways have everywhere, and the last of an IPv4 block (its broadcast)
 * are nobody's. In IPv6 the first is the routers' anycast address.
 */
function usable({ address, length }: Cidr): { readonly first: bigint; readonly end: bigint } {
  const bits = address.family === 4 ? 32 : 128;
  const size = 1n << BigInt(bits - length);
  const end = address.family === 4 ? size - 1n : size;
  return { first: 2n, end: end < 2n ? 2n : end };
}

function numberOf(address: Address): bigint {
  return address.words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n);
}

function addressOf(family: 4 | 6, number: bigint): Address {
  const shifts = family === 4 ? [0n] : [96n, 64n, 32n, 0n];
  return { family, words: shifts.map((shift) => Number((number >> shift) & 0xffff_ffffn)) };
}

function mod(value: bigint, size: bigint): bigint {
  return ((value % size) + size) % size;
}
