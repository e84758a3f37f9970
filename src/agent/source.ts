// The agent's side of a cluster source: a socket that lists what exists, says `synced`, then sends changes.
import { connect, type Socket } from 'node:net';
import type { WorldEvent } from '#policy/world.ts';
import { readLines } from './json-lines.ts';
import type { SourceMessage } from './protocol.ts';

/** Changes that belong together, and the revision they lead to. */
export type Batch = { readonly events: readonly WorldEvent[]; readonly revision: number };

const RETRY_MS = 200;

/**
 * Follows a source until closed, connecting again whenever the connection breaks. A new connection lists everything
 * again: what is not listed any more is gone, so a change missed meanwhile is not missed for good.
 */
export class ClusterSource {
  readonly #path: string;
  readonly #handle: (batch: Batch) => void;
  /** The deletion of each thing that exists, by its key. */
  #existing: Map<string, WorldEvent> = new Map();
  #socket: Socket | null = null;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(path: string, handle: (batch: Batch) => void) {
    this.#path = path;
    this.#handle = handle;
    this.#connect();
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
    if (this.#retry !== null) clearTimeout(this.#retry);
  }

  #connect(): void {
    const socket = connect(this.#path);
    this.#socket = socket;
    let listed: Map<string, WorldEvent> | null = new Map();
    let pending: WorldEvent[] = [];
    readLines(socket, (value) => {
      const message = value as SourceMessage;
      if (message.kind === 'change') {
        pending.push(message.event);
        noteExistence(listed ?? this.#existing, message.event);
        return;
      }
      const gone = listed === null ? [] : this.#replace(listed);
      this.#handle({ events: [...pending, ...gone], revision: message.revision });
      listed = null;
      pending = [];
    });
    // `close` follows every error, and is where the next try starts.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (!this.#closed) this.#retry = setTimeout(() => this.#connect(), RETRY_MS);
    });
  }

  /** Takes a new list for what exists; returns the deletions of what it lacks. */
  #replace(listed: Map<string, WorldEvent>): readonly WorldEvent[] {
    const gone = [...this.#existing].filter(([key]) => !listed.has(key)).map(([, deletion]) => deletion);
    this.#existing = listed;
    return gone;
  }
}

function noteExistence(existing: Map<string, WorldEvent>, event: WorldEvent): void {
  const key = `${event.kind} ${'key' in event ? event.key : event.name}`;
  if (event.value === null) existing.delete(key);
  else existing.set(key, { ...event, value: null });
}
