// What there is no room for: each lack is said when it begins, and when it is another one.
export class Complaints {
  readonly #tell: (message: string) => void;
  #now: readonly string[] = [];

  constructor(tell: (message: string) => void) {
    this.#tell = tell;
  }

  get now(): readonly string[] {
    return this.#now;
  }

  /** These are all that there are at this moment. */
  are(complaints: readonly string[]): void {
    for (const message of complaints) if (!this.#now.includes(message)) this.#tell(message);
    this.#now = complaints;
  }
}
