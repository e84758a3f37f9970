// Pins of maps that somebody removed while this process still holds the maps: put back, so that the next one finds them.
import { closeSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { pinObject } from '#kernel/bpf.ts';
import { lockPins } from '#kernel/bpffs.ts';

/** Where a node's hooks are pinned, and where, inside, this process's maps are. */
export type PinPlaces = { readonly directory: string; readonly tables: string };

/** Every pin of a directory and below, and every directory; deepest first. */
export function listPins(directory: string): readonly string[] {
  return (readdirSync(directory, { recursive: true }) as string[]).sort().reverse();
}

/** Pins again what is missing. Returns the descriptor that makes this process the only writer: a new directory has a new one. */
export function keepPins({ directory, tables }: PinPlaces, lock: number, maps: ReadonlyMap<string, number>): number {
  let held = lock;
  if (!existsSync(directory)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    held = lockPins(directory);
    closeSync(lock);
  }
  mkdirSync(tables, { recursive: true, mode: 0o700 });
  for (const [name, fd] of maps) {
    const path = `${tables}/${name}`;
    if (!existsSync(path)) pinObject(fd, path);
  }
  return held;
}
