// Whether two values of a Plan say the same.

/** True where two plain values (numbers, or records of arrays and numbers in one order of fields) are equal. */
export function sameValue(before: unknown, now: unknown): boolean {
  if (before === now) return true;
  if (typeof before !== 'object' || typeof now !== 'object') return false;
  return JSON.stringify(before) === JSON.stringify(now);
}
