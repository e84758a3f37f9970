// IP addresses as values: parsed once, compared by key, never handled as free text.

/** An IPv4 or IPv6 address. `words` are big-endian 32-bit words: one for IPv4, four for IPv6. */
export type Address = {
  readonly family: 4 | 6;
  readonly words: readonly number[];
};

/** Canonical text of an address (RFC 5952 for IPv6); doubles as its key in maps. */
export type AddressKey = string & { readonly __brand: 'AddressKey' };

/** Parses dotted IPv4 or any IPv6 form (no zone). Returns null where the text is not an address. */
export function parseAddress(text: string): Address | null {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

/** The canonical text of an address. */
export function formatAddress(address: Address): AddressKey {
  return (address.family === 4 ? formatV4(address.words[0] ?? 0) : formatV6(address.words)) as AddressKey;
}

/** True for ::ffff:a.b.c.d, an IPv6 form of an IPv4 address (policy-model: families never cross). */
export function isV4Mapped(address: Address): boolean {
  const [a, b, c] = address.words;
  return address.family === 6 && a === 0 && b === 0 && c === 0xffff;
}

/**
 * Where a pod's own packets come from that a Service sends back to it: 169.254.77.1, of the block of a link alone (RFC 3927),
 * and 100::6d6f:6174, of the one that is to be discarded (RFC 6666).
 */
export const HAIRPIN: Readonly<Record<4 | 6, Address>> = {
  4: { family: 4, words: [0xa9fe_4d01] },
  6: { family: 6, words: [0x0100_0000, 0, 0, 0x6d6f_6174] },
};

export function isHairpin({ family, words }: Address): boolean {
  return HAIRPIN[family].words.every((word, index) => word === words[index]);
}

/**
 * Addresses that no packet between machines has (RFC 1122 §3.2.1.3; RFC 4291 §2.5): this host and loopback, which some
 * nodes would deliver to services of their own; and one that only pods see.
 */
export function isNowhere(address: Address): boolean {
  if (isHairpin(address)) return true;
  const { family, words } = address;
  const [first = 0, , , last = 0] = words;
  if (family === 4) return first >>> 24 === 0 || first >>> 24 === 127;
  return words.slice(0, 3).every((word) => word === 0) && last <= 1;
}

/** Multicast, reserved and broadcast: 224.0.0.0 and up; ff00::/8. */
export function isGroup(address: Address): boolean {
  const first = (address.words[0] ?? 0) >>> 24;
  return address.family === 6 ? first === 0xff : first >= 224;
}

function parseV4(text: string): Address | null {
  const word = parseV4Word(text);
  return word === null ? null : { family: 4, words: [word] };
}

function parseV4Word(text: string): number | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let word = 0;
  for (const part of parts) {
    // Leading zeros are refused here: octal to some readers, decimal to others.
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return null;
    const octet = Number(part);
    if (octet > 255) return null;
    word = word * 256 + octet;
  }
  return word;
}

function parseV6(text: string): Address | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '', true) : [];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const groups = [...head, ...Array<number>(missing).fill(0), ...tail];
  const words = [0, 2, 4, 6].map((i) => (groups[i] ?? 0) * 65536 + (groups[i + 1] ?? 0));
  return { family: 6, words };
}

/** Colon-separated groups; the last may be dotted IPv4 where `last` is true. */
function parseGroups(text: string, last: boolean): number[] | null {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (last && index === parts.length - 1 && part.includes('.')) {
      const word = parseV4Word(part);
      if (word === null) return null;
      groups.push(Math.floor(word / 65536), word % 65536);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return null;
    }
  }
  return groups;
}

function formatV4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

function formatV6(words: readonly number[]): string {
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff]);
  const run = longestZeroRun(groups);
  if (run === null) return groups.map((g) => g.toString(16)).join(':');
  const hex = (part: readonly number[]): string => part.map((g) => g.toString(16)).join(':');
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } | null {
  let best: { start: number; length: number } | null = null;
  let start = 0;
  while (start < groups.length) {
    let end = start;
    while (end < groups.length && groups[end] === 0) end++;
    if (end - start >= 2 && end - start > (best?.length ?? 1)) best = { start, length: end - start };
    start = Math.max(end, start + 1);
  }
  return best;
}
