// Writes Kubernetes Events: one at a time, no more than a server and people can bear, and what can't be written is lost,
// counted, and holds up nobody.
import { setTimeout as pause } from 'node:timers/promises';
import { fieldsOf } from '#policy/fields.ts';
import { type EventNote, eventObject, nameOf, namespaceOf, seriesPatch } from './event-note.ts';
import { ApiError } from './retry.ts';

/** How Events reach the server. Each throws an ApiError where it refuses. */
export type EventRequests = {
  get(path: string, signal: AbortSignal): Promise<unknown>;
  send(method: 'POST' | 'PATCH', path: string, body: object, signal: AbortSignal): Promise<unknown>;
};

export type EventWriterOptions = {
  readonly node: string;
  /** The same Event is written again after this long at the soonest: what happens meanwhile counts with it. */
  readonly repeatMs: number;
  /** Is told why Events can't be written, each reason once in a row. */
  readonly tell: (message: string) => void;
};

export const REPEAT_MS = 60_000;
/** So many Events wait; and so many are remembered, to know what is written again. */
const MOST_WAITING = 256;
const MOST_KNOWN = 1024;
/** So many at once, and one a second after those. */
const BURST = 20;
const PACE_MS = 1000;
const TRIES = 4;
const CONFLICT = 409;

type Waiting = { note: EventNote; count: number; tries: number; dueMs: number };

/** What became of an Event; each is a value of a metric's label. */
export type EventOutcome = 'written' | 'repeated' | 'left_to_others' | 'over' | 'failed' | 'dropped';

export class EventWriter {
  readonly #requests: EventRequests;
  readonly #options: EventWriterOptions;
  readonly #end = new AbortController();
  readonly #outcomes = new Map<EventOutcome, number>();
  readonly #waiting = new Map<string, Waiting>();
  /** When each was written last, the oldest first. */
  readonly #known = new Map<string, number>();
  #room = BURST;
  #refilledMs: number = performance.now();
  #complaint: string | null = null;
  #isRunning = false;
  #wake = new AbortController();

  constructor(requests: EventRequests, options: EventWriterOptions) {
    this.#requests = requests;
    this.#options = options;
  }

  get outcomes(): ReadonlyMap<EventOutcome, number> {
    return this.#outcomes;
  }

  close(): void {
    this.#end.abort();
    this.#wake.abort();
  }

  note(note: EventNote): void {
    const name = nameOf(note);
    const waiting = this.#waiting.get(name);
    if (waiting !== undefined) {
      waiting.count++;
      return;
    }
    if (this.#end.signal.aborted || this.#waiting.size >= MOST_WAITING) {
      this.#count('dropped');
      return;
    }
    const nowMs = performance.now();
    const dueMs = Math.max(nowMs + note.delayMs, (this.#known.get(name) ?? -Infinity) + this.#options.repeatMs);
    this.#waiting.set(name, { note, count: 1, tries: 0, dueMs });
    this.#wake.abort();
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.size > 0 && !this.#end.signal.aborted) {
      const [name, next] = [...this.#waiting].reduce((a, b) => (b[1].dueMs < a[1].dueMs ? b : a));
      const waitMs = Math.max(next.dueMs - performance.now(), this.#untilRoomMs());
      if (waitMs > 0) {
        this.#wake = new AbortController();
        // Rejects where there is another one.
        await pause(waitMs, undefined, { signal: this.#wake.signal }).catch(() => undefined);
        continue;
      }
      this.#waiting.delete(name);
      await this.#try(name, next);
    }
    this.#isRunning = false;
  }

  /** How long until one may be written. */
  #untilRoomMs(): number {
    const nowMs = performance.now();
    this.#room = Math.min(BURST, this.#room + (nowMs - this.#refilledMs) / PACE_MS);
    this.#refilledMs = nowMs;
    return this.#room >= 1 ? 0 : Math.ceil((1 - this.#room) * PACE_MS);
  }

  async #try(name: string, next: Waiting): Promise<void> {
    if (!next.note.isStill()) {
      this.#count('over');
      return;
    }
    this.#room--;
    // What happens while it is written is one more of the same already.
    this.#remember(name);
    try {
      const outcome = await this.#write(next);
      this.#count(outcome);
      this.#complaint = null;
    } catch (error) {
      if (this.#end.signal.aborted) return;
      this.#failed(name, next, error);
    }
  }

  #failed(name: string, next: Waiting, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (message !== this.#complaint) this.#options.tell(`an Event can't be written: ${message}`);
    this.#complaint = message;
    const tries = next.tries + 1;
    const isLasting = error instanceof ApiError && error.status < 500 && error.status !== 429;
    if (isLasting || tries >= TRIES || this.#waiting.has(name)) this.#count('failed');
    else this.#waiting.set(name, { ...next, tries, dueMs: performance.now() + PACE_MS * 2 ** tries });
  }

  async #write({ note, count }: Waiting): Promise<EventOutcome> {
    const { node } = this.#options;
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespaceOf(note))}/events`;
    const { signal } = this.#end;
    try {
      await this.#requests.send('POST', path, eventObject(note, node, { at: new Date(), count }), signal);
      return 'written';
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== CONFLICT) throw error;
    }
    const own = `${path}/${encodeURIComponent(nameOf(note))}`;
    const { reportingInstance, series } = fieldsOf(await this.#requests.get(own, signal));
    if (note.isShared && reportingInstance !== node) return 'left_to_others';
    const { count: before } = fieldsOf(series);
    const total = (typeof before === 'number' ? before : 1) + count;
    await this.#requests.send('PATCH', own, seriesPatch({ at: new Date(), count: total }), signal);
    return 'repeated';
  }

  #remember(name: string): void {
    this.#known.delete(name);
    this.#known.set(name, performance.now());
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST_KNOWN && oldest !== undefined) this.#known.delete(oldest);
  }

  #count(outcome: EventOutcome): void {
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
  }
}
