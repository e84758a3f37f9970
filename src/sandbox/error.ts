// The sandbox's errors: what went wrong and what to do, never a stack trace for people.
import type { Diagnostic } from '#policy/diagnostic.ts';

/** A sandbox can't do what was asked. `code` is stable; `hint` says what to do. */
export class SandboxError extends Error {
  readonly code: string;
  readonly hint: string;

  constructor(code: string, message: string, hint: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SandboxError';
    this.code = code;
    this.hint = hint;
  }
}

/** Refused input, with everything that is wrong with it. */
export class InvalidInputError extends SandboxError {
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super('invalid-input', 'the manifests are not valid', 'correct them, or use --lenient');
    this.diagnostics = diagnostics;
  }
}

/** The text of anything thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
