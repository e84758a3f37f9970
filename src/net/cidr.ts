// Address blocks: parsed, masked, compared by key.
import { type Address, formatAddress, parseAddress } from './address.ts';

/** A block of addresses; `address` has its host bits cleared. */
export type Cidr = { readonly address: Address; readonly length: number };

/** Canonical text of a block; doubles as its key in maps. */
export type CidrKey = string & { readonly __brand: 'CidrKey' };

/** What parsing found: the masked block, and whether the text had host bits set (worth a warning, not an error). */
export type ParsedCidr = { readonly cidr: Cidr; readonly hostBits: boolean };

/** Parses `address/length`. Null where either part is not valid. */
export function parseCidr(text: string): ParsedCidr | null {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const address = match?.[1] === undefined ? null : parseAddress(match[1]);
  if (address === null || match?.[2] === undefined) return null;
  const length = Number(match[2]);
  if (length > address.words.length * 32) return null;
  const masked = maskAddress(address, length);
  return { cidr: { address: masked, length }, hostBits: formatAddress(masked) !== formatAddress(address) };
}

/** The canonical text of a block. */
export function formatCidr(cidr: Cidr): CidrKey {
  return `${formatAddress(cidr.address)}/${cidr.length}` as CidrKey;
}

/** The address with every bit after `length` cleared. */
export function maskAddress(address: Address, length: number): Address {
  const words = address.words.map((word, index) => (word & wordMask(length - index * 32)) >>> 0);
  return { family: address.family, words };
}

/** True where the block holds the address; families never cross. */
export function cidrContains(cidr: Cidr, address: Address): boolean {
  if (cidr.address.family !== address.family) return false;
  return cidr.address.words.every((word, index) => {
    const mask = wordMask(cidr.length - index * 32);
    return ((word ^ (address.words[index] ?? 0)) & mask) === 0;
  });
}

/** True where every address of `inner` is in `outer`. */
export function cidrCovers(outer: Cidr, inner: Cidr): boolean {
  return inner.length >= outer.length && cidrContains(outer, inner.address);
}

/** The block of one address. */
export function hostCidr(address: Address): Cidr {
  return { address, length: address.words.length * 32 };
}

function wordMask(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
