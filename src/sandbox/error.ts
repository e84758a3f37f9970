// The one error of the sandbox: what went wrong and what to do, never a stack trace for people.

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

/** The text of anything thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
