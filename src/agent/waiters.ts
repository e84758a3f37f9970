// Those who wait until something holds: it is looked at again whenever things have changed.
export class Waiters {
  #waiting: (() => void)[] = [];

  /** Something has changed. */
  look(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const check of waiting) check();
  }

  async until(done: () => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const check = (): void => {
      if (done()) resolve();
      else this.#waiting.push(check);
    };
    check();
    await promise;
  }

  /** Throws what `late` says where it does not hold after so long. */
  async within(limitMs: number, done: () => boolean, late: () => string): Promise<void> {
    let over = false;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const limit = setTimeout(() => {
      over = true;
      reject(new Error(late()));
    }, limitMs);
    // Whoever gave up is not asked for ever.
    void this.until(() => over || done()).then(resolve);
    await promise.finally(() => clearTimeout(limit));
  }
}
