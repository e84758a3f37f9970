// The sets of pinned tables of a node, each in a directory of its own: usually one. While a version with other layouts
// takes over, its tables stand beside those of the version before.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ABI_VERSION } from '#datapath/ebpf/encode/abi.gen.ts';
import { closeObject, getPinned, handleOf, lookupElement, type MapShape, mapShape } from '#kernel/bpf.ts';
import { pinPath } from '#kernel/bpffs.ts';
import { mapLayouts } from '#kernel/btf.ts';

/** Where the tables of this process are, and those of other versions, the newest last. */
export type Generations = { readonly own: string; readonly earlier: readonly string[] };

const NAME = /^tables_(\d+)$/;
const GONE = '_gone';

/**
 * Finds the tables that a process with these maps can go on with, or names a new directory for them. `shapes`: of the
 * maps that outlive a process. Tables that were never in force are taken away: their process died while it made them.
 */
export function findGenerations(directory: string, shapes: ReadonlyMap<string, MapShape>): Generations {
  const found = listGenerations(directory);
  const fitting = found.findLast((each) => fits(each, shapes));
  const others = found.filter((each) => each !== fitting);
  const earlier = others.filter((each) => versionOf(each) !== 0);
  for (const each of others) if (!earlier.includes(each)) removeGeneration(each);
  for (const name of readdirSync(directory).filter(isGone)) rmSync(join(directory, name), { recursive: true });
  return { own: fitting ?? join(directory, `tables_${nextNumber(found)}`), earlier };
}

/** The directories of all of a node's tables, oldest first. */
export function listGenerations(directory: string): readonly string[] {
  return readdirSync(directory)
    .filter((name) => NAME.test(name))
    .sort((a, b) => numberOf(a) - numberOf(b))
    .map((name) => join(directory, name));
}

/** The directory of a node's tables in force, or being made: the newest. Throws Error where there is none. */
export function tablesPath(instance: string, node: string): string {
  const newest = listGenerations(pinPath(instance, node)).at(-1);
  if (newest === undefined) throw new Error(`there are no tables of ${instance} on ${node}`);
  return newest;
}

export function makeGeneration(own: string): void {
  mkdirSync(own, { recursive: true, mode: 0o700 });
}

/** Takes tables away: at once, so that nobody goes on with half of them, whenever this process dies. */
export function removeGeneration(generation: string): void {
  const gone = `${generation}${GONE}`;
  renameSync(generation, gone);
  rmSync(gone, { recursive: true });
}

function isGone(name: string): boolean {
  return name.endsWith(GONE);
}

/** The version that wrote some tables; 0 where none has. */
function versionOf(generation: string): number {
  const state = openPin(generation, 'state_map');
  if (state === null) return 0;
  try {
    const layout = mapLayouts(state)?.value.fields.get('abi_version');
    const value = Buffer.alloc(mapShape(state).valueSize);
    if (layout === undefined || !lookupElement(handleOf(state), Buffer.alloc(4), value)) return 0;
    return Number(value.readBigUInt64LE(layout.offset));
  } finally {
    closeObject(state);
  }
}

/** Maps that are not there (yet) fit; a process that died while it pinned them left some. */
function fits(generation: string, shapes: ReadonlyMap<string, MapShape>): boolean {
  const version = versionOf(generation);
  if (version !== 0 && version !== ABI_VERSION.CURRENT) return false;
  return [...shapes].every(([name, shape]) => {
    const map = openPin(generation, name);
    if (map === null) return true;
    try {
      return isAlike(mapShape(map), shape);
    } finally {
      closeObject(map);
    }
  });
}

function isAlike(a: MapShape, b: MapShape): boolean {
  const sizes = a.keySize === b.keySize && a.valueSize === b.valueSize && a.maxEntries === b.maxEntries;
  return sizes && a.kind === b.kind && a.flags === b.flags;
}

function openPin(generation: string, name: string): number | null {
  const path = join(generation, name);
  return existsSync(path) ? getPinned(path) : null;
}

function numberOf(name: string): number {
  return Number(NAME.exec(name)?.[1]);
}

function nextNumber(found: readonly string[]): number {
  const last = found.at(-1);
  return last === undefined ? 1 : numberOf(last.slice(last.lastIndexOf('/') + 1)) + 1;
}
