// A hash of words, the same in the kernel programs (bpf/tag.h): what they look up, user space must find, too.
import type { Address } from './address.ts';
import type { Protocol } from './protocol.ts';

/** One more word in a hash. Unsigned 32 bits. */
export function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x85ebca6b) >>> 0;
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** The hash of words in their order; seeds give hashes that have nothing to do with one another. */
export function hashWords(seed: number, words: readonly number[]): number {
  let hash = mix(0x9e3779b1, seed);
  for (const word of words) hash = mix(hash, word);
  // What differs in high bits alone has only reached high bits by now.
  return mix(mix(hash, hash >>> 16), words.length);
}

/** A number below `size` by a hash: as good in its high bits as in its low ones. */
export function reduceHash(hash: number, size: number): number {
  return Math.floor((hash * size) / 2 ** 32);
}

/** Who asks whom: what chooses a backend. */
export type HashedFlow = {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
  readonly protocol: Protocol;
};

/** The hash of a flow as its initiator sends it: flow_hash() in bpf/service.h. */
export function flowHash(flow: HashedFlow): number {
  let hash = 0x9e3779b1;
  for (const { words } of [flow.source, flow.destination]) {
    for (let index = 0; index < 4; index++) hash = mix(hash, wireWord(words[index] ?? 0));
  }
  hash = mix(hash, flow.sourcePort * 65_536 + flow.destinationPort);
  hash = mix(hash, flow.protocol);
  return mix(hash, hash >>> 16);
}

/** The word as a little-endian program loads it from the wire. */
export function wireWord(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
