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
function withoutRepeats(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return [...new Map(diagnostics.map((each) => [JSON.stringify(each), each])).values()];
}

/** So many findings of one object are told, and so many of one input. */
const MOST_OF_OBJECT = 20;
const MOST_OF_INPUT = 500;

/** Takes findings, keeps the first, and counts the others: an object or input of megabytes may have a million. */
export class Findings {
  readonly #most: number;
  readonly #kept: Diagnostic[] = [];
  readonly #more: Record<Severity, number> = { error: 0, warning: 0 };

  constructor(most: number = MOST_OF_OBJECT) {
    this.#most = most;
  }

  /** `make` is called where the finding is kept. */
  add(severity: Severity, make: () => Diagnostic): void {
    if (this.#kept.length < this.#most) this.#kept.push(make());
    else this.#more[severity]++;
  }

  /** The findings; what was not kept is one more for each severity, so that an invalid input never passes for a valid one. */
  get list(): readonly Diagnostic[] {
    const more = (['error', 'warning'] as const).filter((severity) => this.#more[severity] > 0);
    return [...this.#kept, ...more.map((severity) => this.#moreOf(severity))];
  }

  #moreOf(severity: Severity): Diagnostic {
    const [first] = this.#kept;
    const isOfOne = this.#kept.every(({ object, file }) => object === first?.object && file === first.file);
    const about = isOfOne && first !== undefined ? first : { object: '', file: null, line: null };
    const count = this.#more[severity];
    return {
      ...{ code: severity === 'error' ? 'more-errors' : 'more-warnings', severity, path: '' },
      ...{ object: about.object, file: about.file, line: about.line },
      message: `${count} more ${count === 1 ? severity : `${severity}s`}, not shown`,
      hint: 'Mend those that are shown, and look again.',
    };
  }
}

/** The first findings of an input, each once, and how many more there are. */
export function firstOfInput(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return firstOf(withoutRepeats(diagnostics), MOST_OF_INPUT);
}

/** The first findings, and how many more there are. */
export function firstOf(diagnostics: readonly Diagnostic[], most: number = MOST_OF_OBJECT): readonly Diagnostic[] {
  const findings = new Findings(most);
  for (const each of diagnostics) findings.add(each.severity, () => each);
  return findings.list;
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
