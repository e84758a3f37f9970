// Reading fields of objects that are not policies: each helper notes a wrong type, and returns what can be used.
import type { Diagnostic } from '#policy/diagnostic.ts';
import { describe, type Fields, isAbsent, isFields } from '#policy/fields.ts';
import { childPath, type FieldPath, itemPath, type SourceObject } from '#policy/object.ts';
import { complainOf } from './inventory.ts';

/** The object being read, and where findings about it go. */
export type Notes = { readonly object: SourceObject; readonly diagnostics: Diagnostic[] };

/** A value and where it stands. */
export type Located = { readonly value: unknown; readonly path: FieldPath };

/** A mapping and where it stands. */
export type LocatedFields = { readonly value: Fields; readonly path: FieldPath };

/** The whole object. */
export function rootOf({ object }: Notes): LocatedFields {
  return { value: isFields(object.content) ? object.content : {}, path: '' };
}

/** A field, whatever it holds. */
export function fieldAt(parent: LocatedFields, key: string): Located {
  const value = Object.hasOwn(parent.value, key) ? parent.value[key] : undefined;
  return { value, path: childPath(parent.path, key) };
}

/** A field that is a mapping; an empty one where it is absent or something else. */
export function mappingAt(notes: Notes, parent: LocatedFields, key: string): LocatedFields {
  const { value, path } = fieldAt(parent, key);
  if (isFields(value)) return { value, path };
  if (!isAbsent(value)) noteField(notes, { value, path }, 'a mapping of fields');
  return { value: {}, path };
}

/** The items of a field that is a list of mappings. */
export function mappingsAt(notes: Notes, parent: LocatedFields, key: string): LocatedFields[] {
  return itemsAt(notes, parent, key).flatMap((item) => {
    if (isFields(item.value)) return [{ value: item.value, path: item.path }];
    noteField(notes, item, 'a mapping of fields');
    return [];
  });
}

/** The items of a field that is a list; none where it is absent or something else. */
export function itemsAt(notes: Notes, parent: LocatedFields, key: string): Located[] {
  const { value, path } = fieldAt(parent, key);
  if (Array.isArray(value)) return value.map((item: unknown, index) => ({ value: item, path: itemPath(path, index) }));
  if (!isAbsent(value)) noteField(notes, { value, path }, 'a list');
  return [];
}

/** A field that is text; '' where it is absent or something else. */
export function textAt(notes: Notes, parent: LocatedFields, key: string): string {
  const { value, path } = fieldAt(parent, key);
  if (typeof value === 'string') return value;
  if (!isAbsent(value)) noteField(notes, { value, path }, 'text');
  return '';
}

/** True where a field says so. */
export function flagAt(notes: Notes, parent: LocatedFields, key: string): boolean {
  const { value, path } = fieldAt(parent, key);
  if (!isAbsent(value) && typeof value !== 'boolean') noteField(notes, { value, path }, 'true or false');
  return value === true;
}

/** A field that is a whole number from 0 on; null where it is absent or something else. */
export function countAt(notes: Notes, parent: LocatedFields, key: string): number | null {
  const { value, path } = fieldAt(parent, key);
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  if (!isAbsent(value)) noteField(notes, { value, path }, 'a whole number from 0 on');
  return null;
}

/** Notes a field that has another type or value than the API allows. */
export function noteField(notes: Notes, { value, path }: Located, wanted: string): void {
  notes.diagnostics.push(
    complainOf(notes.object, path, {
      code: 'object-field',
      message: `found ${describe(value)} where ${wanted} is expected`,
      hint: 'Correct the field; the Kubernetes API refuses it too.',
    }),
  );
}
