// Pins of maps that somebody removed while this process still holds the maps: put back, so that the next one finds them.
import { closeSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { pinObject } from '#kernel/bpf.ts';
import { BpffsError, lockPins, mountBpffs } from '#kernel/bpffs.ts';
import { SystemCallError } from '#kernel/sockets.ts';

/** Where a node's hooks are pinned, and where, inside, this process's maps are. */
export type PinPlaces = { readonly directory: string; readonly tables: string };

/** Every pin of a directory and below, and every directory; deepest first. */
export function listPins(directory: string): readonly string[] {
  return (readdirSync(directory, { recursive: true }) as string[]).sort().reverse();
}

/** The descriptor that makes this process the only writer, and why pins can't be kept; null where they are. */
export type Kept = {
  readonly lock: number;
  readonly failure: string | null;
  /** Whether there was a pin at a path of a hook when they were listed, just now. */
  readonly isPinned: (path: string) => boolean;
};

/** Pins again what is missing. Without pins all goes on, as long as this process holds it. */
export function keepPins(places: PinPlaces, lock: number, maps: ReadonlyMap<string, number>): Kept {
  let held = lock;
  try {
    held = keepDirectory(places.directory, lock);
    mkdirSync(places.tables, { recursive: true, mode: 0o700 });
    const tables = new Set(namesIn(places.tables));
    for (const [name, fd] of maps) if (!tables.has(name)) pinObject(fd, `${places.tables}/${name}`);
    const hooks = new Set(namesIn(places.directory).map((name) => `${places.directory}/${name}`));
    return { lock: held, failure: null, isPinned: (path) => hooks.has(path) };
  } catch (error) {
    if (!(error instanceof BpffsError || error instanceof SystemCallError)) throw error;
    return { lock: held, failure: error.message, isPinned: existsSync };
  }
}

/** None where the folder has just gone: the next look makes it again. */
function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** A new directory has a new lock. Throws BpffsError where there is no place for it, and none can be made. */
function keepDirectory(directory: string, lock: number): number {
  if (existsSync(directory)) return lock;
  mountBpffs();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const held = lockPins(directory);
  closeSync(lock);
  return held;
}
