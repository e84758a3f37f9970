// The agent's side of a cluster source: a socket that lists what exists, says `synced`, then sends changes.
import { connect, type Socket } from 'node:net';
import type { WorldEvent } from '#policy/world.ts';
import { readLines } from './json-lines.ts';
import type { SourceMessage } from './protocol.ts';

/** Changes that belong together, and the revision they lead to. */
export type Batch = { readonly events: readonly WorldEvent[]; readonly revision: number };

/** Who follows a source. */
export type Follower = {
  /** A part of a list: it counts once the batch that ends the list is applied. */
  note(events: readonly WorldEvent[]): void;
  apply(batch: Batch): void;
  /** The deletion of each thing that was noted or applied and is not gone. */
  known(): Iterable<WorldEvent>;
};

/** A list is passed on in parts of so many events and rules: few enough that those that are not kept die young. */
const PAGE = 32;
const RETRY_MS = 200;

/**
 * Follows a source until closed, connecting again whenever the connection breaks. A new connection lists everything
 * again: what is not listed any more is gone, so a change missed meanwhile is not missed for good.
 */
export class ClusterSource {
  readonly #path: string;
  readonly #follower: Follower;
  /** Something was listed: the next list says what is gone. */
  #listed = false;
  #socket: Socket | null = null;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(path: string, follower: Follower) {
    this.#path = path;
    this.#follower = follower;
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
    // Keys of what this connection listed, where there is something to compare it with; null once that is done.
    let listed: Set<string> | null = this.#listed ? new Set() : null;
    let listing = true;
    let pending: WorldEvent[] = [];
    let size = 0;
    readLines(socket, (value) => {
      const message = value as SourceMessage;
      if (message.kind === 'change') {
        pending.push(message.event);
        size += sizeOf(message.event);
        listed?.add(keyOf(message.event));
        if (listing && size >= PAGE) {
          this.#listed = true;
          this.#follower.note(pending);
          pending = [];
          size = 0;
        }
        return;
      }
      const gone = listed === null ? [] : this.#lacking(listed);
      this.#listed = true;
      this.#follower.apply({ events: [...pending, ...gone], revision: message.revision });
      listed = null;
      listing = false;
      pending = [];
      size = 0;
    });
    // `close` follows every error, and is where the next try starts.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (!this.#closed) this.#retry = setTimeout(() => this.#connect(), RETRY_MS);
    });
  }

  /** The deletions of what a list lacks. */
  #lacking(listed: ReadonlySet<string>): WorldEvent[] {
    return [...this.#follower.known()].filter((deletion) => !listed.has(keyOf(deletion)));
  }
}

/** A policy is as much as its rules. */
function sizeOf(event: WorldEvent): number {
  const rules = event.kind === 'policy' && event.value !== null ? [event.value.egress, event.value.ingress] : [];
  return rules.reduce((sum, { length }) => sum + length, 1);
}

function keyOf(event: WorldEvent): string {
  return `${event.kind} ${'key' in event ? event.key : event.name}`;
}
