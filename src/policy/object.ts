// A Kubernetes object as it was written, with the place of each of its fields.

/** Path of a field inside an object, as people write it: `spec.ingress[0].from[1].podSelector`. */
export type FieldPath = string;

/** One object, whatever its kind. Plain data: it crosses sockets as JSON. */
export type SourceObject = {
  readonly apiVersion: string;
  readonly kind: string;
  /** Namespace after defaulting (`default`); '' for cluster-scoped kinds. */
  readonly namespace: string;
  readonly name: string;
  /** The object's fields as parsed; hostile input, so `unknown` until a parser has looked at it. */
  readonly content: unknown;
  /** Where the object came from; null for one that no file holds. */
  readonly origin: Origin | null;
};

/** A file, and the line of each field of the object in it. */
export type Origin = {
  readonly file: string;
  /** Field path → line; '' is the object itself. A path that is missing stands on its nearest parent's line. */
  readonly lines: Readonly<Record<FieldPath, number>>;
};

/** The line of a field, or of its nearest parent that has one. Null where the object came from no file. */
export function lineOf(origin: Origin | null, path: FieldPath): number | null {
  if (origin === null) return null;
  let at = path;
  while (at !== '') {
    // Paths come from input: `constructor` must not find what every JavaScript object inherits.
    if (Object.hasOwn(origin.lines, at)) return origin.lines[at] ?? null;
    at = parentPath(at);
  }
  return origin.lines[''] ?? null;
}

/** `spec.ingress[0].from` → `spec.ingress[0]` → `spec.ingress` → `spec` → ''. */
export function parentPath(path: FieldPath): FieldPath {
  const cut = path.endsWith(']') ? path.lastIndexOf('[') : path.lastIndexOf('.');
  return cut <= 0 ? '' : path.slice(0, cut);
}

/** The path of a field: `spec.podSelector`; a key that is no plain word is quoted: `metadata.labels["a.b/c"]`. */
export function childPath(parent: FieldPath, key: string): FieldPath {
  if (!/^[\w-]+$/.test(key)) return `${parent}[${JSON.stringify(key)}]`;
  return parent === '' ? key : `${parent}.${key}`;
}

/** The path of a list's item: `spec.ingress[0]`. */
export function itemPath(parent: FieldPath, index: number): FieldPath {
  return `${parent}[${index}]`;
}
