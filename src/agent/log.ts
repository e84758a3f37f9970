// What an agent writes to its log: one line each, as text or as JSON, and no more of a kind than somebody can read. pino was
// looked at: 10 MB resident for what is some thirty lines here.

export const LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type Level = (typeof LEVELS)[number];

/** Kinds of lines; docs/operations.md says what each is about. */
export type LogEvent =
  | 'start'
  | 'source'
  | 'network'
  | 'problem'
  | 'failure'
  | 'pages'
  | 'cni'
  | 'bypass'
  | 'denied'
  | 'audited'
  | 'events'
  | 'memory';

export type LogFields = Readonly<Record<string, string | number | null>>;

export type LogOptions = {
  readonly format: 'text' | 'json';
  /** What is less urgent than this is left out. */
  readonly level: Level;
};

/** Where lines go, and when it is. */
export type LogEdge = { readonly write: (line: string) => void; readonly nowMs: () => number };

/** So many lines of a kind at once, and so many a second: what pods and tenants do may be as often as they like. */
const BURST = 100;
const PER_SECOND = 10;

type Bucket = { room: number; atMs: number; leftOut: number };

const STDERR: LogEdge = { write: (line) => console.error(line), nowMs: () => Date.now() };
// A full disk under the log is no end of an agent. There is nowhere left to say it.
process.stderr.on('error', () => undefined);

export class Log {
  readonly #options: LogOptions;
  readonly #edge: LogEdge;
  readonly #buckets = new Map<LogEvent, Bucket>();
  #leftOut = 0;

  constructor(options: LogOptions, edge: LogEdge = STDERR) {
    this.#options = options;
    this.#edge = edge;
  }

  /** How many lines were left out since the start. */
  get leftOut(): number {
    return this.#leftOut;
  }

  /** `text` is shown where lines are text, with what the fields say in it. */
  say(level: Level, event: LogEvent, text: string, fields: LogFields = {}): void {
    if (LEVELS.indexOf(level) > LEVELS.indexOf(this.#options.level)) return;
    const nowMs = this.#edge.nowMs();
    const bucket = this.#refill(event, nowMs);
    if (bucket.room < 1) {
      bucket.leftOut++;
      this.#leftOut++;
      return;
    }
    bucket.room--;
    const { leftOut } = bucket;
    bucket.leftOut = 0;
    const time = new Date(nowMs).toISOString();
    const more = `${leftOut} lines like the next were left out`;
    if (leftOut > 0) this.#write(more, { time, level: 'warn', event, message: more, leftOut });
    this.#write(text, { time, level, event, message: text, ...fields });
  }

  #refill(event: LogEvent, nowMs: number): Bucket {
    const known = this.#buckets.get(event);
    const bucket = known ?? { room: BURST, atMs: nowMs, leftOut: 0 };
    if (known === undefined) this.#buckets.set(event, bucket);
    // A clock that was set back fills nothing.
    const passedMs = Math.max(0, nowMs - bucket.atMs);
    bucket.room = Math.min(BURST, bucket.room + (passedMs / 1000) * PER_SECOND);
    bucket.atMs = nowMs;
    return bucket;
  }

  #write(text: string, line: LogFields): void {
    this.#edge.write(this.#options.format === 'text' ? text : JSON.stringify(line));
  }
}
