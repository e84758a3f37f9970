// Whether two values say the same.

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
