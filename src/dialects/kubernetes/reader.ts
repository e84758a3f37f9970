// What every part of the NetworkPolicy reader shares: where findings go, and the checks that each mapping needs.
import { diagnose, type Findings } from '#policy/diagnostic.ts';
import { describe, type Fields, isAbsent, isFields } from '#policy/fields.ts';
import { childPath, type FieldPath, itemPath, type SourceObject } from '#policy/object.ts';
import { KUBERNETES_CODES, type KubernetesCode } from './diagnostics.ts';

/** The object being read and what was found in it so far. */
export type Reader = { readonly object: SourceObject; readonly findings: Findings };

/** A value and where it stands. */
export type Located = { readonly value: unknown; readonly path: FieldPath };

export type Complaint = { readonly code: KubernetesCode; readonly message: string; readonly hint: string };

/** Notes a finding. Returns null, so that a part that is not understood can `return complain(…)`. */
export function complain(reader: Reader, path: FieldPath, complaint: Complaint): null {
  const { severity } = KUBERNETES_CODES[complaint.code];
  reader.findings.add(severity, () => diagnose(reader.object, path, { ...complaint, severity }));
  return null;
}

/** A field of a mapping, located. */
export function fieldAt(parent: { readonly value: Fields; readonly path: FieldPath }, key: string): Located {
  const value = Object.hasOwn(parent.value, key) ? parent.value[key] : undefined;
  return { value, path: childPath(parent.path, key) };
}

/** The value as a mapping that has no fields but the known ones; null where it is none, or has others. */
export function readMapping(
  reader: Reader,
  { value, path }: Located,
  known: readonly string[],
): { readonly value: Fields; readonly path: FieldPath } | null {
  if (!isFields(value)) return complainType(reader, { value, path }, 'a mapping of fields');
  let understood = true;
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    understood = false;
    complain(reader, childPath(path, key), {
      code: 'np-unknown-field',
      message: `the field "${key}" is not known here`,
      hint: suggestField(key, known),
    });
  }
  return understood ? { value, path } : null;
}

/** The items of a list; absent and null are `absent`, which is not an empty list. Null where it is no list. */
export function readList(reader: Reader, { value, path }: Located): readonly Located[] | 'absent' | null {
  if (isAbsent(value)) return 'absent';
  if (!Array.isArray(value)) return complainType(reader, { value, path }, 'a list');
  return value.map((item: unknown, index) => ({ value: item, path: itemPath(path, index) }));
}

/** A null item of a list is what Kubernetes makes of it: the empty mapping. Said aloud, for it is seldom meant. */
export function nullItemAsEmpty(reader: Reader, item: Located): Located {
  if (item.value !== null) return item;
  complain(reader, item.path, {
    code: 'np-null-item',
    message: 'the list item is null, which Kubernetes reads as {}',
    hint: 'Write {} if you mean it, or remove the item.',
  });
  return { value: {}, path: item.path };
}

export function complainType(reader: Reader, { value, path }: Located, wanted: string): null {
  return complain(reader, path, {
    code: 'np-wrong-type',
    message: `found ${describe(value)} where ${wanted} is expected`,
    hint: `Write ${wanted}.`,
  });
}

function suggestField(key: string, known: readonly string[]): string {
  if (key === 'to' && known.includes('from')) return 'Ingress rules have "from"; "to" belongs to egress rules.';
  if (key === 'from' && known.includes('to')) return 'Egress rules have "to"; "from" belongs to ingress rules.';
  const near = known.find((name) => name.toLowerCase() === key.toLowerCase() || isOneEditApart(name, key));
  return near === undefined ? `Known fields here: ${known.join(', ')}.` : `Did you mean "${near}"?`;
}

/** True where one inserted, removed or replaced character, or one more at the end, makes the two equal. */
function isOneEditApart(a: string, b: string): boolean {
  let head = 0;
  while (head < a.length && a[head] === b[head]) head++;
  let tail = 0;
  const shorter = Math.min(a.length, b.length);
  while (tail < shorter - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  return Math.max(a.length, b.length) - head - tail <= 1;
}
