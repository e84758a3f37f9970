// The objects of an input, sorted by what Moat does with them: duplicates and kinds that it does not read are named.

import { MANIFEST_CODES, type ManifestCode } from '#cluster/manifests/diagnostics.ts';
import { apiGroup, kindStanding } from '#cluster/manifests/kinds.ts';
import { type Diagnostic, diagnose, objectName } from '#policy/diagnostic.ts';
import { lineOf, type SourceObject } from '#policy/object.ts';

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

function duplicate(first: SourceObject, second: SourceObject): Diagnostic {
  return complainOf(second, '', {
    code: 'object-duplicate',
    message: `${objectName(second)} stands in two places: here${placeOf(second)} and before${placeOf(first)}`,
    hint: 'Keep one of them; the cluster would hold whichever was applied last.',
  });
}
