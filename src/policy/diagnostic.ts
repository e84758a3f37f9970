// What is wrong with an input, said once and in one form: object, field path, place, what was found, what to do.
import type { FieldPath, SourceObject } from './object.ts';
import { lineOf } from './object.ts';

export type Severity = 'error' | 'warning';

/** One finding about the input. */
export type Diagnostic = {
  /** Stable code, listed in docs/errors.md; never reused. */
  readonly code: string;
  readonly severity: Severity;
  /** `Kind namespace/name` of the object, or '' where no object was recognised. */
  readonly object: string;
  /** Field path inside the object, '' for the object itself. */
  readonly path: FieldPath;
  readonly file: string | null;
  readonly line: number | null;
  /** What was found and what was expected, one sentence. */
  readonly message: string;
  /** What to do about it, one sentence. */
  readonly hint: string;
};

/** The findings, each once: an object that is looked at twice has the same ones twice. */
export function withoutRepeats(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return [...new Map(diagnostics.map((each) => [JSON.stringify(each), each])).values()];
}

/** What a finding says, apart from where it stands. */
export type Finding = {
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
  readonly hint: string;
};

/** `NetworkPolicy shop/allow-web`. */
export function objectName(object: Pick<SourceObject, 'kind' | 'namespace' | 'name'>): string {
  const name = object.namespace === '' ? object.name : `${object.namespace}/${object.name}`;
  return `${object.kind} ${name}`;
}

/** A diagnostic on a field of an object. */
export function diagnose(object: SourceObject, path: FieldPath, finding: Finding): Diagnostic {
  return bounded({
    ...finding,
    object: objectName(object),
    path,
    file: object.origin?.file ?? null,
    line: lineOf(object.origin, path),
  });
}

/** The longest name of a valid object has 63 + 1 + 253 characters beside its kind; the longest valid path about 400. */
const LONGEST_NAME = 400;
const LONGEST_PATH = 500;
const LONGEST_TEXT = 1000;

/** The finding with nothing longer than a valid input could make it: names of megabytes are hostile. */
export function bounded(diagnostic: Diagnostic): Diagnostic {
  return {
    ...diagnostic,
    object: clip(diagnostic.object, LONGEST_NAME),
    path: clip(diagnostic.path, LONGEST_PATH),
    message: clip(diagnostic.message, LONGEST_TEXT),
    hint: clip(diagnostic.hint, LONGEST_TEXT),
  };
}

function clip(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}
