// Whether two values, or two lists, say the same.

/** True where two plain values (numbers, texts, records, arrays) are equal all the way down. Maps are not looked into. */
export function sameValue(before: unknown, now: unknown): boolean {
  if (before === now) return true;
  if (!isRecord(before) || !isRecord(now)) return false;
  const keys = Object.keys(before);
  if (keys.length !== Object.keys(now).length) return false;
  for (const key of keys) if (!sameValue(before[key], now[key])) return false;
  return true;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

/** A number that is equal for lists with equal numbers in the same order, and seldom for others. */
export function hashOf<Item>(list: readonly Item[], numberOf: (item: Item) => number): number {
  let hash = list.length;
  for (const item of list) hash = Math.imul(hash ^ numberOf(item), 0x9e37_79b1) ^ (hash >>> 15);
  return hash;
}

/** True where two lists have the same items in the same order. */
export function sameList<Item, Other>(
  a: readonly Item[],
  b: readonly Other[],
  same: (one: Item, other: Other) => boolean,
): boolean {
  if (a.length !== b.length) return false;
  let index = 0;
  for (const one of a) {
    const other = b[index++];
    if (other === undefined || !same(one, other)) return false;
  }
  return true;
}
