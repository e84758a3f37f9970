// The agent's side of a cluster source: a socket that lists what exists, says `synced`, then sends changes.
import { connect, type Socket } from 'node:net';
import { type Follower, PAGE, type Source, type WatchState } from '#cluster/follower.ts';
import type { ClusterEvent } from '#policy/world.ts';
import { readLines } from './json-lines.ts';
import type { SourceMessage } from './protocol.ts';

const RETRY_MS = 200;

/**
 * Follows a source until closed, connecting again whenever the connection breaks. A new connection lists everything
 * again: what is not listed any more is gone, so a change missed meanwhile is not missed for good.
 */
export class ClusterSource implements Source {
  readonly #path: string;
  readonly #follower: Follower;
  /** Something was listed: the next list says what is gone. */
  #listed = false;
  #socket: Socket | null = null;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;
  #following = false;
  #lists = 0;
  #heardMs: number | null = null;
  /** Whoever serves the socket has read the objects, and says what is wrong with them. */
  readonly findings: readonly string[] = [];
  readonly waits: readonly string[] = [];

  constructor(path: string, follower: Follower) {
    this.#path = path;
    this.#follower = follower;
    this.#connect();
  }

  get problem(): string | null {
    return this.#following ? null : `the cluster source at ${this.#path} has not listed everything yet`;
  }

  /** It tells of all kinds at once. */
  get watches(): readonly WatchState[] {
    const objects = { understood: 0, partly: 0, refused: 0 };
    const restarts = Math.max(0, this.#lists - 1);
    return [{ kind: 'all', problem: this.problem, restarts, heardMs: this.#heardMs, objects }];
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
    let pending: ClusterEvent[] = [];
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
      if (listing) this.#lists++;
      this.#heardMs = Date.now();
      listed = null;
      listing = false;
      this.#following = true;
      pending = [];
      size = 0;
    });
    // `close` follows every error, and is where the next try starts.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#following = false;
      if (!this.#closed) this.#retry = setTimeout(() => this.#connect(), RETRY_MS);
    });
  }

  /** The deletions of what a list lacks. */
  #lacking(listed: ReadonlySet<string>): ClusterEvent[] {
    return [...this.#follower.known()].filter((deletion) => !listed.has(keyOf(deletion)));
  }
}

/** A policy is as much as its rules. */
function sizeOf(event: ClusterEvent): number {
  const rules = event.kind === 'policy' && event.value !== null ? [event.value.egress, event.value.ingress] : [];
  return rules.reduce((sum, { length }) => sum + length, 1);
}

function keyOf(event: ClusterEvent): string {
  return `${event.kind} ${'key' in event ? event.key : event.name}`;
}
