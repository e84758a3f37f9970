// The node's network configuration, put in place and watched: whoever rewrites it, or puts another one before it, takes new
// pods away from Moat. That is said at once; what others wrote stays.
import { existsSync, type FSWatcher, readFileSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import type { NoteEvent } from '#cluster/kubernetes/event-note.ts';
import { type CniPaths, type CniPlaces, cniProblem, installCni } from './cni-install.ts';

/** Notices come in swarms. */
const QUIET_MS = 15;
/** Some are lost, as with a folder that is made anew. */
const LOOK_MS = 10_000;
const NO_HOST_PORTS =
  'hostPorts of pods lead nowhere: the standard CNI plugin portmap is not among those of the container runtime; put it there, and start the agent anew';

export type CniConfigParts = {
  readonly node: string;
  readonly places: CniPlaces;
  readonly paths: CniPaths;
  readonly tell: (message: string) => void;
  readonly note: NoteEvent;
};

export class CniConfig {
  readonly #parts: CniConfigParts;
  /** What was put in place; null where nothing is yet. */
  #text: string | null = null;
  /** What the configuration of the other CNI was then. */
  #behind: string | null = null;
  /** Why that can't be followed. */
  #failure: string | null = null;
  #problem: string | null = null;
  #changes = 0;
  #watcher: FSWatcher | null = null;
  #quiet: NodeJS.Timeout | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(parts: CniConfigParts) {
    this.#parts = parts;
  }

  /** Why new pods may not be given to Moat; null where they are, or before they are to be. */
  get problem(): string | null {
    return this.#problem;
  }

  /** How often somebody changed what the runtime reads. */
  get changes(): number {
    return this.#changes;
  }

  /** Puts plugin and configuration in place, and watches over them from now on. */
  install(): void {
    if (this.#timer !== null) return;
    if (this.#put() === false) this.#parts.tell(NO_HOST_PORTS);
    this.#watch();
    this.#timer = setInterval(() => this.#lookAgain(), LOOK_MS).unref();
    this.#look();
  }

  close(): void {
    this.#watcher?.close();
    for (const timer of [this.#quiet, this.#timer]) if (timer !== null) clearTimeout(timer);
  }

  /** Whether ports of the node lead to pods; null where the other CNI's configuration can't be followed. */
  #put(): boolean | null {
    const { places, paths } = this.#parts;
    this.#behind = readIfThere(places.behind);
    try {
      const { text, hostPorts } = installCni(places, paths);
      this.#text = text;
      this.#failure = null;
      return hostPorts;
    } catch (error) {
      if (places.behind === undefined) throw error;
      this.#failure = error instanceof Error ? error.message : String(error);
      return null;
    }
  }

  #watch(): void {
    this.#watcher?.close();
    const folder = dirname(this.#parts.places.config);
    if (!existsSync(folder)) return;
    this.#watcher = watch(folder, { persistent: false }, () => {
      this.#quiet ??= setTimeout(() => {
        this.#quiet = null;
        this.#look();
      }, QUIET_MS).unref();
    }).on('error', () => undefined);
  }

  #lookAgain(): void {
    this.#watch();
    this.#look();
  }

  #look(): void {
    const { places, tell } = this.#parts;
    const behind = readIfThere(places.behind);
    // Where it is gone, ours still says what it said.
    if (behind !== null && behind !== this.#behind) {
      this.#changes += this.#behind === null ? 0 : 1;
      if (this.#put() !== null) tell(`${places.config} says what ${places.behind} says now, with Moat behind it`);
    }
    this.#is(this.#failure ?? (this.#text === null ? null : cniProblem(places, this.#text)));
  }

  #is(problem: string | null): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    const { node, tell, note, places } = this.#parts;
    if (problem === null) {
      tell(`${places.config} is in place: new pods are given to Moat`);
      return;
    }
    this.#changes += 1;
    tell(problem);
    note({
      reason: 'NetworkConfigChanged',
      regarding: { apiVersion: 'v1', kind: 'Node', namespace: '', name: node, uid: node },
      ...{ key: `NetworkConfigChanged ${node}`, stem: node, text: problem },
      ...{ delayMs: 0, isStill: () => true, isShared: false },
    });
  }
}

function readIfThere(path: string | undefined): string | null {
  return path !== undefined && existsSync(path) ? readFileSync(path, 'utf8') : null;
}
