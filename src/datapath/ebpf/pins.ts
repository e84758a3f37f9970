// Pins of maps that somebody removed while this process still holds the maps: put back, so that the next one finds them.
import { closeSync, existsSync, mkdirSync } from 'node:fs';
import { pinObject } from '#kernel/bpf.ts';
import { lockPins } from '#kernel/bpffs.ts';

/** Pins again what is missing. Returns the descriptor that makes this process the only writer: a new directory has a new one. */
export function keepPins(directory: string, lock: number, maps: ReadonlyMap<string, number>): number {
  let held = lock;
  if (!existsSync(directory)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    held = lockPins(directory);
    closeSync(lock);
  }
  for (const [name, fd] of maps) {
    const path = `${directory}/${name}`;
    if (!existsSync(path)) pinObject(fd, path);
  }
  return held;
}
