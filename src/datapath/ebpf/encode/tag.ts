// Tags of keys: the same numbers as bpf/tag.h computes. A value whose tag is another key's was recycled under a reader.
import type { ServiceAddress } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import { mix, wireWord } from '#net/hash.ts';
import { SERVICE_SCOPE } from './abi.gen.ts';

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

/** A Service's scope, as the kernel's keys have it. */
export function scopeNumber(scope: ServiceAddress['scope']): number {
  return scope === 'outside' ? SERVICE_SCOPE.OUTSIDE : SERVICE_SCOPE.INSIDE;
}

/** Tag of a service's key. */
export function serviceTag({ address, protocol, port, scope }: ServiceAddress): number {
  return mix(mix(addressTag(address), protocol | (scopeNumber(scope) << 8)), port);
}
