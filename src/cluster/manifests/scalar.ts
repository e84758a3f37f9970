// What a YAML scalar means to kubectl (sigs.k8s.io/yaml, a fork of go-yaml v2: YAML 1.1 booleans and octal numbers).
// One difference on purpose: a lone `y` or `n` stays text, since most writers of YAML do not quote it.

export type Scalar = string | number | boolean | null;

const WORDS: ReadonlyMap<string, Scalar> = new Map<string, Scalar>([
  ...['', '~', 'null', 'Null', 'NULL'].map((word) => [word, null] as const),
  ...['yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'].map((word) => [word, true] as const),
  ...['no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'].map((word) => [word, false] as const),
]);

/** The value of a plain (unquoted) scalar. */
export function resolvePlain(text: string): Scalar {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  return /^[-+.\d]/.test(text) ? (resolveNumber(text) ?? text) : text;
}

/** The number that the text stands for: decimal, 0x, 0o, 0b, octal by a leading zero, underscores; or null. */
export function resolveNumber(text: string): number | null {
  const plain = text.replaceAll('_', '');
  const [, sign, digits] = /^([-+]?)(.*)$/s.exec(plain) ?? [];
  if (digits === undefined) return null;
  const value = resolveInteger(digits) ?? resolveFloat(digits);
  if (value === null) return null;
  return sign === '-' ? -value : value;
}

function resolveInteger(digits: string): number | null {
  if (/^(0|[1-9]\d*)$/.test(digits)) return Number(digits);
  if (/^0([xX][\da-fA-F]+|[oO][0-7]+|[bB][01]+)$/.test(digits)) return Number(digits);
  return /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : null;
}

function resolveFloat(digits: string): number | null {
  if (/^(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$/.test(digits)) return Number(digits);
  if (/^\.(inf|Inf|INF)$/.test(digits)) return Number.POSITIVE_INFINITY;
  return /^\.(nan|NaN|NAN)$/.test(digits) ? Number.NaN : null;
}
