// Manifests that change while the sandbox is up: files and directories → the objects they hold now. A file that can't
// be used keeps its last good objects and is named; one that stays away for a second takes its objects with it.
import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';
import { parseManifest } from '#cluster/manifests/parse.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import { type FileStates, nextStates } from './file-states.ts';
import { listFiles, readFiles } from './files.ts';

/** What the watched paths hold. `diagnostics` are about the files; what the objects mean is buildWorld's part. */
export type ManifestSet = { readonly objects: readonly SourceObject[]; readonly diagnostics: readonly Diagnostic[] };

export type WatchOptions = {
  /** How long a burst of changes must be over before the files are read. */
  readonly settleMs: number;
  /** How long a file may be away, or empty, before its objects are. */
  readonly goneAfterMs: number;
  /** How often the files are looked at without being told: notifications can be lost. */
  readonly pollMs: number;
};

export const DEFAULT_WATCH: WatchOptions = { settleMs: 15, goneAfterMs: 1000, pollMs: 1000 };

/** A running watch. `current` is what was last read; `close` ends it and leaves nothing behind. */
export type ManifestWatch = { current(): ManifestSet; close(): void };

/**
 * Reads the paths, then calls `onChange` whenever what they hold, or what is wrong with them, changes. `-` is read
 * once. The first set is `current()`; it may be broken, like any other: see its diagnostics.
 */
export function watchManifests(
  paths: readonly string[],
  onChange: (set: ManifestSet) => void,
  options: WatchOptions = DEFAULT_WATCH,
): ManifestWatch {
  const watcher = new Watcher(paths, onChange, options);
  return { current: () => watcher.current, close: () => watcher.close() };
}

/** Owns the notifications and timers. */
class Watcher {
  current: ManifestSet;
  readonly #paths: readonly string[];
  readonly #onChange: (set: ManifestSet) => void;
  readonly #options: WatchOptions;
  readonly #stdin: ManifestSet;
  readonly #watched = new Map<string, FSWatcher>();
  readonly #poll: NodeJS.Timeout;
  #settle: NodeJS.Timeout | null = null;
  #away: NodeJS.Timeout | null = null;
  #states: FileStates = new Map();

  constructor(paths: readonly string[], onChange: (set: ManifestSet) => void, options: WatchOptions) {
    this.#paths = paths;
    this.#onChange = onChange;
    this.#options = options;
    this.#stdin = readStdin(paths);
    this.current = this.#read();
    this.#poll = setInterval(() => this.#look(), options.pollMs);
  }

  close(): void {
    clearInterval(this.#poll);
    if (this.#settle !== null) clearTimeout(this.#settle);
    if (this.#away !== null) clearTimeout(this.#away);
    for (const watcher of this.#watched.values()) watcher.close();
    this.#watched.clear();
  }

  /** Reads what changed, and tells of it where anything did. */
  #look(): void {
    const before = this.current;
    this.current = this.#read();
    if (!sameSet(before, this.current)) this.#onChange(this.current);
  }

  #read(): ManifestSet {
    const listing = listFiles(this.#paths);
    this.#watchDirectories([...listing.directories, ...this.#paths.filter((path) => path !== '-').map(dirname)]);
    const next = nextStates(this.#states, listing.names, {
      nowMs: performance.now(),
      goneAfterMs: this.#options.goneAfterMs,
    });
    this.#states = next.states;
    this.#lookAgainIn(next.lookAgainInMs);
    return {
      objects: [...this.#stdin.objects, ...[...next.states.values()].flatMap(({ objects }) => objects)],
      diagnostics: [...this.#stdin.diagnostics, ...listing.diagnostics, ...next.diagnostics],
    };
  }

  #lookAgainIn(milliseconds: number | null): void {
    if (this.#away !== null) clearTimeout(this.#away);
    this.#away = milliseconds === null ? null : setTimeout(() => this.#look(), milliseconds);
  }

  /** Watches exactly these directories, as far as they can be watched: the poll covers the rest. */
  #watchDirectories(directories: readonly string[]): void {
    const wanted = new Set(directories);
    for (const [directory, watcher] of this.#watched) {
      if (wanted.has(directory)) continue;
      watcher.close();
      this.#watched.delete(directory);
    }
    for (const directory of wanted) if (!this.#watched.has(directory)) this.#watchDirectory(directory);
  }

  #watchDirectory(directory: string): void {
    const drop = (): void => {
      this.#watched.get(directory)?.close();
      this.#watched.delete(directory);
    };
    try {
      const watcher = watch(directory, () => this.#notice());
      watcher.on('error', drop);
      this.#watched.set(directory, watcher);
    } catch {
      // Missing, or the system's limit of watches is reached: the listing names the first, the poll covers both.
    }
  }

  /** Waits for the end of a burst: an editor's save is several changes. */
  #notice(): void {
    if (this.#settle !== null) clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#look(), this.#options.settleMs);
  }
}

function readStdin(paths: readonly string[]): ManifestSet {
  const { files, diagnostics } = readFiles(paths.filter((path) => path === '-'));
  const parsed = files.map(({ name, text }) => parseManifest(text, name));
  return {
    objects: parsed.flatMap(({ objects }) => objects),
    diagnostics: [...diagnostics, ...parsed.flatMap((file) => file.diagnostics)],
  };
}

/** Objects of a file that did not change are the same values, so identity tells. */
function sameSet(a: ManifestSet, b: ManifestSet): boolean {
  const sameObjects = a.objects.length === b.objects.length && a.objects.every((object, i) => object === b.objects[i]);
  return sameObjects && JSON.stringify(a.diagnostics) === JSON.stringify(b.diagnostics);
}
