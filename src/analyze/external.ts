// The outside world as a Plan sees it: every address that no pod and no node has, in ranges of one identity.
import type { IdentityNumber, Plan, Prefix } from '#compile/plan.ts';
import { type Address, type AddressKey, formatAddress, parseAddress } from '#net/address.ts';

type Family = Address['family'];

/** Addresses `first..last` of one family, as whole numbers. */
export type AddressRange = { readonly family: Family; readonly first: bigint; readonly last: bigint };

export type ExternalRange = AddressRange & { readonly identity: IdentityNumber };

/**
 * The address space of a family, split where the Plan's prefixes begin and end, ascending. Ranges whose every address
 * is a known pod's or node's are left out; else such addresses may lie in a range, and are not what it speaks of. Nor
 * are the blocks that pods get addresses from: a range runs over them.
 */
export function externalRanges(plan: Plan, family: Family): readonly ExternalRange[] {
  const taken = [...plan.addresses.keys()].flatMap((key) => knownNumber(key, family));
  taken.sort(compare);
  return split(plan, family).filter((range) => !isTaken(range, taken));
}

/** `first-last` as text. */
export function rangeText(range: AddressRange): string {
  const text = (value: bigint): string => formatAddress(addressOf(range.family, value));
  return `${text(range.first)}-${text(range.last)}`;
}

/** Neighbours joined; the ranges must be ascending and of one family. */
export function joinRanges(ranges: readonly AddressRange[]): readonly AddressRange[] {
  const joined: AddressRange[] = [];
  for (const { family, first, last } of ranges) {
    const end = joined.at(-1);
    if (end !== undefined && end.last + 1n === first) joined[joined.length - 1] = { ...end, last };
    else joined.push({ family, first, last });
  }
  return joined;
}

/** An address as a whole number. */
export function addressNumber(address: Address): bigint {
  return address.words.reduce((value, word) => (value << 32n) | BigInt(word), 0n);
}

function addressOf(family: Family, value: bigint): Address {
  const count = family === 4 ? 1 : 4;
  const words = Array.from({ length: count }, (_, i) => Number((value >> BigInt(32 * (count - 1 - i))) & 0xffffffffn));
  return { family, words };
}

/** Longest match everywhere: an inner block cuts the outer one in two. */
function split(plan: Plan, family: Family): readonly ExternalRange[] {
  const blocks = [...plan.prefixes.values()]
    .filter((prefix) => prefix.cidr.address.family === family)
    .filter((prefix) => plan.identities.get(prefix.identity)?.unknown !== true);
  blocks.sort((a, b) => compare(start(a), start(b)) || a.cidr.length - b.cidr.length);
  const found: ExternalRange[] = [];
  const open: { readonly last: bigint; readonly identity: IdentityNumber }[] = [];
  let at = 0n;
  const emitUntil = (end: bigint): void => {
    const top = open.at(-1);
    if (top !== undefined && at < end) found.push({ family, first: at, last: end - 1n, identity: top.identity });
    at = end;
  };
  const closeBefore = (limit: bigint | null): void => {
    for (let top = open.at(-1); top !== undefined && (limit === null || top.last < limit); top = open.at(-1)) {
      emitUntil(top.last + 1n);
      open.pop();
    }
  };
  for (const block of blocks) {
    closeBefore(start(block));
    emitUntil(start(block));
    open.push({ last: lastOf(block), identity: block.identity });
  }
  closeBefore(null);
  return found;
}

function start(prefix: Prefix): bigint {
  return addressNumber(prefix.cidr.address);
}

function lastOf(prefix: Prefix): bigint {
  const bits = prefix.cidr.address.words.length * 32 - prefix.cidr.length;
  return start(prefix) + (1n << BigInt(bits)) - 1n;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Only a range no longer than the list of known addresses can be full of them. */
function isTaken(range: AddressRange, taken: readonly bigint[]): boolean {
  const size = range.last - range.first + 1n;
  if (size > BigInt(taken.length)) return false;
  return BigInt(countBelow(taken, range.last + 1n) - countBelow(taken, range.first)) === size;
}

/** How many of the ascending values are below a limit. */
function countBelow(values: readonly bigint[], limit: bigint): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? limit) < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

function knownNumber(key: AddressKey, family: Family): readonly bigint[] {
  const address = parseAddress(key);
  return address?.family === family ? [addressNumber(address)] : [];
}
