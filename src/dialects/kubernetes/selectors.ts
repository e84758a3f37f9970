// metav1.LabelSelector → LabelSelector, with every mistake named.
import { describe, isAbsent, isFields, show } from '#policy/fields.ts';
import type { LabelSelector, Requirement } from '#policy/selector.ts';
import { labelKeyFault, labelValueFault } from './names.ts';
import {
  complain,
  complainType,
  fieldAt,
  type Located,
  nullItemAsEmpty,
  type Reader,
  readList,
  readMapping,
} from './reader.ts';

/** The selector; null where any part of it is not understood. An empty one matches everything. */
export function readSelector(reader: Reader, at: Located): LabelSelector | null {
  const mapping = readMapping(reader, at, ['matchLabels', 'matchExpressions']);
  const labels = mapping === null ? null : readMatchLabels(reader, fieldAt(mapping, 'matchLabels'));
  const expressions = mapping === null ? null : readExpressions(reader, fieldAt(mapping, 'matchExpressions'));
  if (labels === null || expressions === null) return null;
  return { requirements: [...labels, ...expressions] };
}

function readMatchLabels(reader: Reader, { value, path }: Located): Requirement[] | null {
  if (isAbsent(value)) return [];
  if (!isFields(value)) return complainType(reader, { value, path }, 'a mapping of labels');
  const found: (Requirement | null)[] = Object.keys(value).map((key) => {
    const at = fieldAt({ value, path }, key);
    const text = readLabelValue(reader, at);
    return checkKey(reader, key, at.path) && text !== null ? { op: 'In', key, values: [text] } : null;
  });
  return allOrNull(found);
}

function readExpressions(reader: Reader, at: Located): Requirement[] | null {
  const items = readList(reader, at);
  if (items === null) return null;
  return items === 'absent' ? [] : allOrNull(items.map((item) => readExpression(reader, item)));
}

function readExpression(reader: Reader, at: Located): Requirement | null {
  const mapping = readMapping(reader, nullItemAsEmpty(reader, at), ['key', 'operator', 'values']);
  if (mapping === null) return null;
  const key = fieldAt(mapping, 'key');
  const operator = fieldAt(mapping, 'operator').value;
  const values = readValues(reader, fieldAt(mapping, 'values'));
  if (typeof key.value !== 'string') return complainType(reader, key, 'the key of a label, as text,');
  if (!checkKey(reader, key.value, key.path) || values === null) return null;
  return requirementOf(reader, at, { key: key.value, operator, values });
}

function requirementOf(
  reader: Reader,
  at: Located,
  found: { readonly key: string; readonly operator: unknown; readonly values: readonly string[] },
): Requirement | null {
  const { key, operator, values } = found;
  switch (operator) {
    case 'In':
    case 'NotIn':
      if (values.length > 0) return { op: operator, key, values };
      return complain(reader, at.path, {
        code: 'np-selector-values',
        message: `the operator ${operator} has no values`,
        hint: 'Give it at least one value, or use Exists or DoesNotExist.',
      });
    case 'Exists':
    case 'DoesNotExist':
      if (values.length === 0) return { op: operator, key };
      return complain(reader, at.path, {
        code: 'np-selector-values',
        message: `the operator ${operator} has values, and takes none`,
        hint: `Remove the values, or use ${operator === 'Exists' ? 'In' : 'NotIn'}.`,
      });
    default:
      return complain(reader, `${at.path}.operator`, {
        code: 'np-selector-operator',
        message: `found ${describe(operator)} where an operator is expected`,
        hint: 'Use In, NotIn, Exists or DoesNotExist, spelt exactly so.',
      });
  }
}

function readValues(reader: Reader, at: Located): readonly string[] | null {
  const items = readList(reader, at);
  if (items === null) return null;
  return items === 'absent' ? [] : allOrNull(items.map((item) => readLabelValue(reader, item)));
}

function readLabelValue(reader: Reader, { value, path }: Located): string | null {
  if (typeof value !== 'string') {
    return complain(reader, path, {
      code: 'np-label-value',
      message: `the label value is ${describe(value)}, and must be text`,
      hint: 'Put it in quotes.',
    });
  }
  const fault = labelValueFault(value);
  if (fault === null) return value;
  return complain(reader, path, {
    code: 'np-label-value',
    message: `the label value ${show(value)} ${fault}`,
    hint: 'No object can carry this value; correct it.',
  });
}

function checkKey(reader: Reader, key: string, path: string): boolean {
  const fault = labelKeyFault(key);
  if (fault === null) return true;
  const hint = 'No object can carry this key; write name or prefix/name.';
  complain(reader, path, { code: 'np-label-key', message: `the label key ${show(key)} ${fault}`, hint });
  return false;
}

function allOrNull<T>(items: readonly (T | null)[]): T[] | null {
  const found = items.filter((item) => item !== null);
  return found.length === items.length ? found : null;
}
