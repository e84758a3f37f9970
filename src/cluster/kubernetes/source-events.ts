// Which Events a source's findings are: policies that are not understood, and kinds that are not known.
import { randomInt } from 'node:crypto';
import { type NoteEvent, turnOf } from './event-note.ts';
import { KINDS, type ObjectKind } from './kinds.ts';
import { hasError, type LiveWorld, type Trouble } from './live-world.ts';

export type EventTimes = {
  /** How long each agent leaves it to the one before it to write what all know. */
  readonly turnMs: number;
  /** A kind is unknown for at least so long, and up to twice as long, before that is an Event. */
  readonly unknownMs: number;
  /** What goes on is written again: the API server forgets Events after an hour. */
  readonly againMs: number;
};

export const EVENT_TIMES: EventTimes = { turnMs: 15_000, unknownMs: 30_000, againMs: 1_800_000 };

const NODE = KINDS.find(({ kind }) => kind === 'Node');

export type SourceEventsParts = {
  readonly node: string;
  readonly world: LiveWorld;
  readonly note: NoteEvent;
  readonly times: EventTimes;
  /** Why a kind is not known now; null where it is. */
  readonly problemOf: (kind: ObjectKind) => string | null;
};

export class SourceEvents {
  readonly #parts: SourceEventsParts;
  readonly #timer: NodeJS.Timeout;
  /** What was said of each object: a list that says the same again is no news. */
  readonly #said = new Map<string, string>();

  constructor(parts: SourceEventsParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => this.#again(), parts.times.againMs);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** An object was read. */
  read(kind: ObjectKind, id: string): void {
    if (kind.selecting === null) return;
    const trouble = this.#parts.world.trouble(kind, id);
    const name = `${kind.kind} ${id}`;
    if (trouble === null) {
      this.#said.delete(name);
      return;
    }
    const text = trouble.findings.join('; ');
    if (this.#said.get(name) === text) return;
    this.#said.set(name, text);
    this.#trouble(trouble);
  }

  /** Why a kind is not known has changed. The first who writes that is heard for the cluster: all may be refused alike. */
  unknown(kind: ObjectKind): void {
    const { node, note, times, problemOf } = this.#parts;
    const problem = problemOf(kind);
    if (problem === null) return;
    note({
      reason: 'KindUnknown',
      regarding: { apiVersion: 'v1', kind: 'Node', namespace: '', name: node, uid: node },
      ...{ key: `KindUnknown ${kind.kind}`, stem: 'moat' },
      text: problem,
      delayMs: times.unknownMs + randomInt(times.unknownMs + 1),
      isStill: () => problemOf(kind) !== null,
      isShared: true,
    });
  }

  #again(): void {
    for (const kind of KINDS) {
      if (kind.selecting !== null) for (const trouble of this.#parts.world.troubles(kind)) this.#trouble(trouble);
      this.unknown(kind);
    }
  }

  #trouble({ kind, id, uid, findings, isRefused }: Trouble): void {
    const { node, world, note, times } = this.#parts;
    const understood = hasError(findings) ? 'PolicyPartlyUnderstood' : 'PolicyWarning';
    const reason = isRefused ? 'PolicyRefused' : understood;
    const text = findings.join('; ');
    const key = `${reason} ${kind.kind} ${id} ${uid} ${text}`;
    const turn = turnOf(node, NODE === undefined ? [] : world.names(NODE), key);
    if (turn === null) return;
    const cut = id.indexOf('/');
    const name = id.slice(cut + 1);
    note({
      ...{ reason, key, text, stem: name, isShared: true, delayMs: turn * times.turnMs },
      regarding: {
        apiVersion: kind.apiVersion,
        kind: kind.kind,
        namespace: id.slice(0, cut),
        name,
        uid,
      },
      isStill: () => world.trouble(kind, id)?.findings.join('; ') === text,
    });
  }
}
