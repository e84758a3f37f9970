// Ctrl-C while something is up that must not be left behind: take it down, then end with 130, as a shell expects.

import { onClosedPipe } from './output.ts';

/** What is up. */
export type Closeable = { readonly down: () => Promise<void> };

/**
 * Brings something up, uses it, and takes it down, whatever happens. SIGINT, SIGTERM and SIGHUP take it down and end
 * the process, also while it is still coming up; the third does not wait. So does a pipe that its reader has closed.
 */
export async function whileUp<It extends Closeable, Result>(
  start: () => Promise<It>,
  use: (it: It) => Promise<Result>,
): Promise<Result> {
  const coming = Promise.withResolvers<It>();
  const forget = onInterrupt(async () => (await coming.promise).down());
  // A start that fails has cleaned up after itself; its error goes to the caller, below.
  coming.promise.catch(() => undefined);
  try {
    start().then(coming.resolve, coming.reject);
    const it = await coming.promise;
    try {
      return await use(it);
    } finally {
      await it.down();
    }
  } finally {
    forget();
  }
}

const SIGNALS = [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const;

/** Cleans up and exits at a signal, or when nobody reads any more, until the returned function is called. */
function onInterrupt(cleanUp: () => Promise<void>): () => void {
  let ending = false;
  const end = (code: number): void => {
    if (ending) return;
    ending = true;
    cleanUp()
      .catch((error) => console.error(`moat: ${error instanceof Error ? error.message : error}`))
      .finally(() => process.exit(code));
  };
  let asked = 0;
  const listeners = SIGNALS.map(([signal, code]) => {
    const listener = (): void => {
      asked++;
      if (asked >= 3) process.exit(code);
      end(code);
    };
    process.on(signal, listener);
    return [signal, listener] as const;
  });
  const forgetPipe = onClosedPipe(() => end(0));
  return () => {
    forgetPipe();
    for (const [signal, listener] of listeners) process.off(signal, listener);
  };
}
