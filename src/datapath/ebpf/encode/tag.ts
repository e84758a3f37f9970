// Tags of keys: the same numbers as bpf/tag.h computes. A value whose tag is another key's was recycled under a reader.
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x85ebca6b) >>> 0;
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** The word as a little-endian program loads it from the wire. */
function wireWord(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

/** Tag of an address key; its low 16 bits choose the peer epoch. */
export function addressTag(address: Address): number {
  let hash = mix(0x9e3779b1, address.family);
  for (const word of address.words) hash = mix(hash, wireWord(word));
  return hash;
}

/** Tag of a class key, in the kernel's numbers. */
export function classTag(layer: number, identity: number): number {
  return mix(mix(0x7f4a7c15, layer), identity);
}

/** Length and 24 bits of the masked prefix's tag. */
export function prefixTag(cidr: Cidr): number {
  return ((cidr.length << 24) | (addressTag(cidr.address) & 0xffffff)) >>> 0;
}
