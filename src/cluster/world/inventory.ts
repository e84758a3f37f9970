// The objects of an input, sorted by what Moat does with them: duplicates and kinds that it does not read are named.

import { MANIFEST_CODES, type ManifestCode } from '#cluster/manifests/diagnostics.ts';
import { apiGroup, kindStanding } from '#cluster/manifests/kinds.ts';
import { type Diagnostic, diagnose, objectName } from '#policy/diagnostic.ts';
import { fieldsOf, show } from '#policy/fields.ts';
import { childPath, lineOf, type SourceObject } from '#policy/object.ts';

/** A kind that Moat leaves to others, and how many objects of it the input has. */
export type UnknownKind = { readonly apiVersion: string; readonly kind: string; readonly count: number };

export type Inventory = {
  /** Objects of kinds that Moat reads, each once, in input order. */
  readonly objects: readonly SourceObject[];
  readonly unknownKinds: readonly UnknownKind[];
  readonly diagnostics: readonly Diagnostic[];
};

/** Sorts the objects. Of two objects with one name the first stays. */
export function takeInventory(input: readonly SourceObject[]): Inventory {
  const byKey = new Map<string, SourceObject>();
  const foreign = new Map<string, SourceObject[]>();
  const diagnostics: Diagnostic[] = [];
  for (const object of input) {
    const standing = kindStanding(object.apiVersion, object.kind);
    if (standing === 'misspelt') diagnostics.push(misspeltKind(object));
    if (standing === 'foreign') remember(foreign, `${object.apiVersion}/${object.kind}`, object);
    if (standing !== 'read') continue;
    const badName = nameFault(object);
    if (badName !== null) diagnostics.push(badName);
    if (badName?.severity === 'error') continue;
    diagnostics.push(...metadataFaults(object));
    const key = objectKey(object);
    const first = byKey.get(key);
    if (first === undefined) byKey.set(key, object);
    else diagnostics.push(duplicate(first, object));
  }
  const unknownKinds = [...foreign.values()].map(summarise);
  return {
    objects: [...byKey.values()],
    unknownKinds,
    diagnostics: [...diagnostics, ...[...foreign.values()].map(foreignKind)],
  };
}

/** `group/Kind/namespace/name`: what makes two objects the same one, whatever their version. */
export function objectKey(object: SourceObject): string {
  return `${apiGroup(object.apiVersion)}/${object.kind}/${object.namespace}/${object.name}`;
}

/** A finding of this room about an object. */
export function complainOf(
  object: SourceObject,
  path: string,
  complaint: { readonly code: ManifestCode; readonly message: string; readonly hint: string },
): Diagnostic {
  return diagnose(object, path, { ...complaint, severity: MANIFEST_CODES[complaint.code].severity });
}

/** ` (file:line)`, or nothing for an object of no file. */
export function placeOf(object: SourceObject): string {
  return object.origin === null ? '' : ` (${object.origin.file}:${lineOf(object.origin, '') ?? 1})`;
}

function remember<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}

function summarise(objects: readonly SourceObject[]): UnknownKind {
  return { apiVersion: objects[0]?.apiVersion ?? '', kind: objects[0]?.kind ?? '', count: objects.length };
}

function foreignKind(objects: readonly SourceObject[]): Diagnostic {
  const { apiVersion, kind } = summarise(objects);
  const first = objects[0]?.origin ?? null;
  const times = objects.length === 1 ? 'one object' : `${objects.length} objects`;
  return {
    code: 'kind-not-understood',
    severity: 'warning',
    object: '',
    path: '',
    file: first?.file ?? null,
    line: lineOf(first, ''),
    message: `Moat does not read ${kind} (${apiVersion}): ${times} left out, the first one here`,
    hint: 'Nothing to do, unless you expected it to change verdicts.',
  };
}

function misspeltKind(object: SourceObject): Diagnostic {
  return complainOf(object, 'kind', {
    code: 'kind-unknown',
    message: `the API ${object.apiVersion} has no kind ${object.kind}`,
    hint: 'Write kind: NetworkPolicy with apiVersion: networking.k8s.io/v1, or leave the object out.',
  });
}

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const HARMLESS = /^[A-Za-z0-9_][-A-Za-z0-9_.]*$/;

/** Names become part of rule ids, keys and paths: one that could be taken for something else is not let in. */
function nameFault(object: SourceObject): Diagnostic | null {
  return nameFaultIn(object, 'name', 253) ?? (object.namespace === '' ? null : nameFaultIn(object, 'namespace', 63));
}

/** Fields of ObjectMeta. A misspelt one moves an object to another namespace, or takes its labels away. */
const METADATA_FIELDS: ReadonlySet<string> = new Set([
  'annotations',
  'clusterName',
  'creationTimestamp',
  'deletionGracePeriodSeconds',
  'deletionTimestamp',
  'finalizers',
  'generateName',
  'generation',
  'labels',
  'managedFields',
  'name',
  'namespace',
  'ownerReferences',
  'resourceVersion',
  'selfLink',
  'uid',
]);

function metadataFaults(object: SourceObject): Diagnostic[] {
  const unknown = Object.keys(fieldsOf(fieldsOf(object.content).metadata)).filter((key) => !METADATA_FIELDS.has(key));
  return unknown.map((key) =>
    complainOf(object, childPath('metadata', key), {
      code: 'metadata-field',
      message: `the field ${show(key)} is not known in metadata`,
      hint: 'Correct it: name, namespace, labels and annotations are what people write here.',
    }),
  );
}

function nameFaultIn(object: SourceObject, field: 'name' | 'namespace', longest: number): Diagnostic | null {
  const name = object[field];
  const fits = name.length <= longest;
  if (fits && SUBDOMAIN.test(name)) return null;
  const safe = fits && HARMLESS.test(name);
  return complainOf(object, `metadata.${field}`, {
    code: safe ? 'object-name' : 'object-name-unsafe',
    message: `${show(name)} is no valid ${field}${safe ? '' : '; the object is left out'}`,
    hint: 'Use lower-case letters, digits, "-" and ".", with a letter or digit at both ends.',
  });
}

function duplicate(first: SourceObject, second: SourceObject): Diagnostic {
  return complainOf(second, '', {
    code: 'object-duplicate',
    message: `${objectName(second)} stands in two places: here${placeOf(second)} and before${placeOf(first)}`,
    hint: 'Keep one of them; the cluster would hold whichever was applied last.',
  });
}
