// Times as people write them: 500ms, 30s, 10m, 2h.
import { InvalidArgumentError } from 'commander';

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const LONGEST_MS = 24 * 3_600_000;

/** Milliseconds. Throws what commander shows. */
export function parseDuration(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,9})(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(digits) * (UNITS[unit] ?? 0);
  if (unit === '' || ms > LONGEST_MS)
    throw new InvalidArgumentError('Write a time up to a day, as 500ms, 30s, 10m or 2h.');
  return ms;
}
