// How a command ends early.

/** Ends the command with this message on stderr (none where it is '': all has been said) and this exit code. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, options: { readonly exitCode?: number; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'CommandError';
    this.exitCode = options.exitCode ?? 2;
  }
}
