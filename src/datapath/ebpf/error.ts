// What goes wrong with a node's datapath, as one typed error.

/** The datapath could not be opened, or failed while it was being changed: then everything is denied. */
export class DatapathError extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause });
    this.name = 'DatapathError';
  }
}
