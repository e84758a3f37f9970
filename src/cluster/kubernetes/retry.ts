// What is done after a request failed, and when. Pure: chance comes as a value.

/** The API server's answer, where it is not the one that was asked for. */
export class ApiError extends Error {
  readonly status: number;
  /** What it asks to wait, in milliseconds; null where it says nothing. */
  readonly retryAfterMs: number | null;

  constructor(status: number, message: string, retryAfterMs: number | null = null) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Bytes of an answer, or of a change of a watch: an object of 1.5 MiB in etcd may be six times as long in JSON. */
export const LARGEST_ANSWER: number = 16 << 20;

/** The answer is larger than anybody reads: of a list, less is to be asked for at a time. */
export class AnswerTooLarge extends Error {
  constructor() {
    super(`the answer has more than ${LARGEST_ANSWER} bytes`);
    this.name = 'AnswerTooLarge';
  }
}

const GONE = 410;
const TOO_MANY_REQUESTS = 429;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** A server that asks for more is not believed. */
const LONGEST_ASKED_MS = 300_000;

/** True where the version that was asked for is not kept any more: everything is listed again. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && error.status === GONE;
}

/** True where the server is well, and has too much to do: the same request will do later. */
export function isBusy(error: unknown): boolean {
  return error instanceof ApiError && error.status === TOO_MANY_REQUESTS;
}

/** The pause after an error: what the server asks for, if anything, and up to half as long again, else longer with each failure in a row. */
export function pauseAfter(error: unknown, failures: number, chance: number): number {
  const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
  return asked <= 0 ? pauseMs(failures, chance) : Math.round(Math.min(asked, LONGEST_ASKED_MS) * (1 + chance / 2));
}

/**
 * The pause after so many failures in a row: twice as long each time, up to half a minute, and by `chance` (0 to 1)
 * up to half of it less, so that the agents of a thousand nodes do not come back at once.
 */
export function pauseMs(failures: number, chance: number): number {
  const whole = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(whole * (1 - chance / 2));
}

/** True where a version is of earlier than another: the server's store was set back. Versions that are no numbers are never. */
export function isEarlier(version: string, than: string): boolean {
  if (!/^\d+$/.test(version) || !/^\d+$/.test(than)) return false;
  return BigInt(version) < BigInt(than);
}

/** `Retry-After` in seconds, as API servers write it; null where it is anything else. */
export function readRetryAfter(header: string | undefined): number | null {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : null;
}
