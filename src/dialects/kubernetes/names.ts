// The syntax of names in the Kubernetes API: label keys and values, names of ports (apimachinery's util/validation).

const NAME = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** What is wrong with a label key, in words that follow "the label key … "; null for a valid one. */
export function labelKeyFault(key: string): string | null {
  const parts = key.split('/');
  if (parts.length > 2) return 'has more than one "/"';
  const name = parts.at(-1) ?? '';
  const prefix = parts.length === 2 ? (parts[0] ?? '') : null;
  if (name === '') return 'has no name';
  if (name.length > 63) return 'has a name of more than 63 characters';
  if (!NAME.test(name))
    return 'holds characters other than letters, digits, "-", "_" and ".", or begins or ends with one of these';
  if (prefix === null) return null;
  return prefix.length <= 253 && SUBDOMAIN.test(prefix) ? null : 'has a prefix that is no lower-case DNS name';
}

/** What is wrong with a label value, in words; null for a valid one. */
export function labelValueFault(value: string): string | null {
  if (value.length > 63) return 'has more than 63 characters';
  if (value === '' || NAME.test(value)) return null;
  return 'holds characters other than letters, digits, "-", "_" and ".", or begins or ends with one of these';
}

/** What is wrong with the name of a port (an IANA service name), in words; null for a valid one. */
export function portNameFault(name: string): string | null {
  if (name === '') return 'is empty';
  if (name.length > 15) return 'has more than 15 characters';
  if (!/^[-a-z0-9]+$/.test(name)) return 'holds characters other than lower-case letters, digits and "-"';
  if (!/[a-z]/.test(name)) return 'has no letter: a number in quotes is the name of a port, not its number';
  return name.includes('--') || name.startsWith('-') || name.endsWith('-')
    ? 'has a "-" at an end, or two in a row'
    : null;
}
