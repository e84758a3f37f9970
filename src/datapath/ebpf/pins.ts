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
export type Kept = { readonly lock: number; readonly failure: string | null };

/** Pins again what is missing. Without pins all goes on, as long as this process holds it. */
export function keepPins(places: PinPlaces, lock: number, maps: ReadonlyMap<string, number>): Kept {
  let held = lock;
  try {
    held = keepDirectory(places.directory, lock);
    mkdirSync(places.tables, { recursive: true, mode: 0o700 });
    for (const [name, fd] of maps) {
      const path = `${places.tables}/${name}`;
      if (!existsSync(path)) pinObject(fd, path);
    }
    return { lock: held, failure: null };
  } catch (error) {
    if (!(error instanceof BpffsError || error instanceof SystemCallError)) throw error;
    return { lock: held, failure: error.message };
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
