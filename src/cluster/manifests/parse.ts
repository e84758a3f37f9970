// Text of a file → the Kubernetes objects in it, with the line of each field. Pure: reading files is files.ts's part.
import { bounded, type Diagnostic } from '#policy/diagnostic.ts';
import { describe, type Fields, isAbsent, isFields } from '#policy/fields.ts';
import { childPath, type FieldPath, itemPath, type Origin, type SourceObject } from '#policy/object.ts';
import { MANIFEST_CODES, type ManifestCode } from './diagnostics.ts';
import { type BrokenDocument, type DocumentError, parseDocuments } from './documents.ts';
import { isClusterScoped } from './kinds.ts';
import { consequence, consequences, mayBePolicy, standInFor, standInsForText } from './stand-in.ts';
import type { Place, Tree } from './tree.ts';

/** A file's objects in the order they stand in, and everything that is wrong with it. */
export type ParsedFile = {
  readonly objects: readonly SourceObject[];
  readonly diagnostics: readonly Diagnostic[];
  /** True where the file has something that can't be read: the objects lack it, or hold what stands in for it. */
  readonly incomplete: boolean;
};

/** The objects of one file. `file` is its name as people know it; it is carried into every position. */
export function parseManifest(text: string, file: string): ParsedFile {
  const { trees, errors } = parseDocuments(text);
  const reader: Reader = { file, objects: [], diagnostics: [], incomplete: errors.length > 0 };
  for (const error of errors) reportBroken(reader, error);
  for (const tree of trees) if (tree.value !== null) readItem(reader, tree, { value: tree.value, list: null });
  return reader;
}

type Reader = {
  readonly file: string;
  readonly objects: SourceObject[];
  readonly diagnostics: Diagnostic[];
  incomplete: boolean;
};

/** `list` is the XxxList that holds the item: it lends its kind and version to items that have none. */
type Item = { readonly value: unknown; readonly list: { readonly apiVersion: string; readonly kind: string } | null };

function readItem(reader: Reader, tree: Tree, item: Item): void {
  const { value } = item;
  const line = lineOfValue(tree, value);
  if (!isFields(value)) {
    report(reader, { code: 'not-an-object', line, message: 'the document is no mapping of fields' });
    return;
  }
  if (value.apiVersion === undefined && value.kind === undefined && item.list === null) {
    const message = 'the document has neither apiVersion nor kind: it is no Kubernetes object';
    report(reader, { code: 'not-an-object', line, message });
    return;
  }
  const kind = value.kind ?? item.list?.kind;
  const apiVersion = value.apiVersion ?? item.list?.apiVersion;
  if (typeof kind !== 'string' || kind === '' || typeof apiVersion !== 'string' || apiVersion === '') {
    const field = typeof kind === 'string' && kind !== '' ? 'apiVersion' : 'kind';
    const found = field === 'kind' ? kind : apiVersion;
    refuse(reader, tree, { line, what: 'the object', field, found, value, isPolicy: mayBePolicy(apiVersion, kind) });
    return;
  }
  if (kind.endsWith('List') && Array.isArray(value.items)) {
    const list = kind === 'List' ? null : { apiVersion, kind: kind.slice(0, -'List'.length) };
    for (const entry of value.items) readItem(reader, tree, { value: entry, list });
    return;
  }
  readObject(reader, tree, { value, kind, apiVersion });
}

type Header = { readonly value: Fields; readonly kind: string; readonly apiVersion: string };

function readObject(reader: Reader, tree: Tree, { value, kind, apiVersion }: Header): void {
  const metadata = isFields(value.metadata) ? value.metadata : {};
  const origin: Origin = { file: reader.file, lines: collectLines(tree, value) };
  const name = ownName(metadata);
  const namespace = metadata.namespace ?? '';
  const line = lineOfValue(tree, isFields(value.metadata) ? value.metadata : value);
  const isPolicy = mayBePolicy(apiVersion, kind);
  if (name === null || name === '') {
    const at = origin.lines['metadata.name'] ?? line;
    if (kind.endsWith('List') && metadata.name === undefined) {
      const message = `the ${kind} has neither a list in items nor a name`;
      report(reader, { code: 'object-header', line, message }, kind === 'NetworkPolicyList' ? consequence(null) : '');
      reader.incomplete = true;
      return;
    }
    const found = metadata.name;
    refuse(reader, tree, { line: at, what: `the ${kind}`, field: 'metadata.name', found, value, isPolicy });
    return;
  }
  if (typeof namespace !== 'string') {
    const at = origin.lines['metadata.namespace'] ?? line;
    const what = `the ${kind} "${name}"`;
    refuse(reader, tree, { line: at, what, field: 'metadata.namespace', found: namespace, value, isPolicy });
    return;
  }
  const scoped = isClusterScoped(apiVersion, kind) ? '' : namespace === '' ? 'default' : namespace;
  reader.objects.push({ apiVersion, kind, namespace: scoped, name, content: value, origin });
}

/** metadata.name, or the name that stands for generateName; null where neither is text. */
function ownName(metadata: Fields): string | null {
  const { name, generateName } = metadata;
  if (typeof name === 'string') return name;
  return name === undefined && typeof generateName === 'string' ? `${generateName}0` : null;
}

/** The line of each field of an object, by path. */
function collectLines(tree: Tree, root: object): Record<FieldPath, number> {
  const lines: Record<FieldPath, number> = { '': lineOfValue(tree, root) };
  const walk = (value: object, path: FieldPath): void => {
    const place = tree.places.get(value);
    if (place === undefined) return;
    for (const [index, key] of place.keys.entries()) {
      const child = typeof key === 'number' ? itemPath(path, key) : childPath(path, key);
      if (child !== '__proto__') lines[child] = place.lines[index] ?? place.line;
      const inner = fieldOf(value, key);
      if (typeof inner === 'object' && inner !== null) walk(inner, child);
    }
  };
  walk(root, '');
  return lines;
}

function fieldOf(value: object, key: Place['keys'][number]): unknown {
  return (value as Record<string | number, unknown>)[key];
}

function lineOfValue(tree: Tree, value: unknown): number {
  return typeof value === 'object' && value !== null ? (tree.places.get(value)?.line ?? 1) : 1;
}

function documentDiagnostic(error: DocumentError, file: string, more = ''): Diagnostic {
  const { code, line, message } = error;
  const hint = `${HINTS[code] ?? ''}${more}`;
  return bounded({ code, severity: MANIFEST_CODES[code].severity, object: '', path: '', file, line, message, hint });
}

function report(reader: Reader, error: DocumentError, more = ''): void {
  reader.diagnostics.push(documentDiagnostic(error, reader.file, more));
}

/** In the place of policies in a document that can't be read, the namespaces that it seems to speak of are isolated. */
function reportBroken(reader: Reader, error: BrokenDocument): void {
  const standIns = standInsForText(error.text, { file: reader.file, lines: { '': error.line } });
  reader.objects.push(...standIns);
  report(reader, error, consequences(standIns));
}

/** An object whose header can't be understood. `isPolicy`: it may be a NetworkPolicy. */
type Refused = {
  readonly line: number;
  readonly what: string;
  readonly field: string;
  readonly found: unknown;
  readonly value: Fields;
  readonly isPolicy: boolean;
};

/** Names what is missing. The object is left out; in the place of a policy its namespace is isolated. */
function refuse(reader: Reader, tree: Tree, refused: Refused): void {
  const { line, what, field, found, value, isPolicy } = refused;
  const absent = isAbsent(found) || found === '';
  const message = absent ? `${what} has no ${field}` : `${field} of ${what} is ${describe(found)}, and must be text`;
  const origin = { file: reader.file, lines: collectLines(tree, value) };
  const standIn = isPolicy ? standInFor(value, origin) : null;
  report(reader, { code: 'object-header', line, message }, isPolicy ? consequence(standIn) : '');
  if (standIn !== null) reader.objects.push(standIn);
  reader.incomplete = true;
}

const HINTS: Partial<Readonly<Record<ManifestCode, string>>> = {
  'yaml-syntax': 'Correct the text at this line; `kubectl apply --dry-run=client` reads files the same way.',
  'yaml-duplicate-key': 'Keep one of the two.',
  'yaml-alias': 'Put the anchor before the alias, outside of it.',
  'yaml-too-large': 'Split the file, or write out what the aliases stand for.',
  'yaml-tag': 'Remove the tag, or quote the value.',
  'yaml-key': 'Write the key as text; render templates ({{ … }}) first.',
  'yaml-merge': 'Merge a mapping: `<<: *anchor`.',
  'file-binary': 'Leave this file out, or save it as UTF-8 text.',
  'not-an-object': 'Leave it out of the input, or give it apiVersion and kind.',
  'object-header': 'Write it as text, quoted where YAML would read a number or a boolean.',
};
