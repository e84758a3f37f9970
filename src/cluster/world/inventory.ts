// The objects of an input, sorted by what Moat does with them: duplicates and kinds that it does not read are named.
import { isDeepStrictEqual } from 'node:util';
import { MANIFEST_CODES, type ManifestCode } from '#cluster/manifests/diagnostics.ts';
import { apiGroup, kindStanding } from '#cluster/manifests/kinds.ts';
import { consequence, isolating, mayBePolicy, nameStanding, standInFor } from '#cluster/manifests/stand-in.ts';
import { bounded, type Diagnostic, diagnose, firstOf, objectName } from '#policy/diagnostic.ts';
import { fieldsOf, show } from '#policy/fields.ts';
import { childPath, lineOf, type SourceObject } from '#policy/object.ts';
import { unheardAnnotations } from './annotations.ts';

/** A kind that Moat leaves to others, and how many objects of it the input has. */
export type UnknownKind = { readonly apiVersion: string; readonly kind: string; readonly count: number };

export type Inventory = {
  /** Objects of kinds that Moat reads, each once, in input order. */
  readonly objects: readonly SourceObject[];
  readonly unknownKinds: readonly UnknownKind[];
  readonly diagnostics: readonly Diagnostic[];
};

/**
 * Sorts the objects. Of two objects with one name the first stays. But a NetworkPolicy that can't be told from another
 * one, or whose header can't be understood, isolates its namespace: whatever was meant, nothing more is let through.
 */
export function takeInventory(input: readonly SourceObject[]): Inventory {
  const byKey = new Map<string, SourceObject>();
  const foreign = new Map<string, SourceObject[]>();
  const diagnostics: Diagnostic[] = [];
  for (const object of input) {
    const standing = kindStanding(object.apiVersion, object.kind);
    if (standing === 'foreign') {
      remember(foreign, `${object.apiVersion}/${object.kind}`, object);
      continue;
    }
    const fault = standing === 'misspelt' ? misspeltKind(object) : nameFault(object);
    if (fault?.severity === 'error') {
      const refused = refuse(object, fault);
      diagnostics.push(refused.fault);
      if (refused.standIn !== null) diagnostics.push(...addTo(byKey, refused.standIn));
    } else {
      const own = [...(fault === null ? [] : [fault]), ...metadataFaults(object), ...unheardAnnotations(object)];
      diagnostics.push(...firstOf([...own, ...addTo(byKey, object)]));
    }
  }
  const unknownKinds = [...foreign.values()].map(summarise);
  return {
    objects: [...byKey.values()],
    unknownKinds,
    diagnostics: [...diagnostics, ...[...foreign.values()].map(foreignKind)],
  };
}

type Refused = { readonly fault: Diagnostic; readonly standIn: SourceObject | null };

function refuse({ apiVersion, kind, content, origin }: SourceObject, fault: Diagnostic): Refused {
  if (!mayBePolicy(apiVersion, kind)) return { fault, standIn: null };
  const standIn = standInFor(fieldsOf(content), origin);
  return { fault: { ...fault, hint: `${fault.hint}${consequence(standIn)}` }, standIn };
}

/** Puts an object under its name; says so where the name is taken. */
function addTo(byKey: Map<string, SourceObject>, object: SourceObject): readonly Diagnostic[] {
  const key = objectKey(object);
  const first = byKey.get(key);
  if (first === undefined) {
    byKey.set(key, object);
    return [];
  }
  const found = duplicate(first, object);
  if (object.kind !== 'NetworkPolicy' || isDeepStrictEqual(first.content, object.content)) return [found];
  const both = isolating(first.namespace, first.name, first.origin);
  byKey.set(key, both);
  return [{ ...found, hint: `${found.hint}${consequence(both)}` }];
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
  return bounded({
    code: 'kind-not-understood',
    severity: 'warning',
    object: '',
    path: '',
    file: first?.file ?? null,
    line: lineOf(first, ''),
    message: `Moat does not read ${kind} (${apiVersion}): ${times} left out, the first one here`,
    hint: 'Nothing to do, unless you expected it to change verdicts.',
  });
}

function misspeltKind(object: SourceObject): Diagnostic {
  return complainOf(object, 'kind', {
    code: 'kind-unknown',
    message: `the API ${show(object.apiVersion)} has no kind ${show(object.kind)}`,
    hint: 'Write kind: NetworkPolicy with apiVersion: networking.k8s.io/v1, or leave the object out.',
  });
}

/** The worse of the two, where both are bad. */
function nameFault(object: SourceObject): Diagnostic | null {
  const name = nameFaultIn(object, 'name');
  const namespace = object.namespace === '' ? null : nameFaultIn(object, 'namespace');
  return namespace?.severity === 'error' ? namespace : (name ?? namespace);
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

function nameFaultIn(object: SourceObject, field: 'name' | 'namespace'): Diagnostic | null {
  const name = object[field];
  const standing = nameStanding(field, name);
  if (standing === 'valid') return null;
  return complainOf(object, `metadata.${field}`, {
    code: standing === 'harmless' ? 'object-name' : 'object-name-unsafe',
    message: `${show(name)} is no valid ${field}${standing === 'harmless' ? '' : '; the object is left out'}`,
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
