// What the kernel holds of one test: pins, maps and programs, counted to find what is left behind.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { allKeys, closeObject, getPinned, handleOf } from '#kernel/bpf.ts';

export type KernelState = {
  /** Paths under the directory of pins. */
  readonly pins: readonly string[];
  /** Maps that carry the test's own size, by name, once for each. */
  readonly maps: readonly string[];
  /** Programs that use one of these maps, by name, once for each. */
  readonly programs: readonly string[];
  /** All maps that these programs use. */
  readonly used: number;
};

const COUNTED = /^(address|prefix|class|endpoint|iface|node)\w*_map(_[ab])?$|^prefix\d_[ab]$/;

type MapInfo = { readonly id: number; readonly name: string; readonly max_entries: number };
type ProgramInfo = { readonly id: number; readonly name?: string; readonly map_ids?: readonly number[] };

/** Reads what there is. `entries`: the number of entries by which a test knows its own connection tables. */
export function readKernel(directory: string, entries: number): KernelState {
  const mine = bpftool<MapInfo>('map').filter((map) => map.max_entries === entries);
  const ids = new Set(mine.map((map) => map.id));
  const programs = bpftool<ProgramInfo>('prog').filter((program) => program.map_ids?.some((id) => ids.has(id)));
  return {
    pins: existsSync(directory) ? pinsUnder(directory, '') : [],
    maps: mine.map((map) => map.name).sort(),
    programs: programs.map((program) => program.name ?? '').sort(),
    used: new Set(programs.flatMap((program) => program.map_ids ?? [])).size,
  };
}

/**
 * How many elements the pinned tables of policy hold, by their names; both banks of a table are one. Connections and
 * drops come and go by themselves, so their tables are not counted.
 */
export function countEntries(directory: string): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const pin of pinsUnder(directory, '')) {
    const name = basename(pin);
    if (!COUNTED.test(name)) continue;
    const map = getPinned(join(directory, pin));
    if (map === null) throw new Error(`${pin} is gone`);
    const table = name.replace(/_[ab]$/, '');
    counts[table] = (counts[table] ?? 0) + allKeys(handleOf(map)).length;
    closeObject(map);
  }
  return counts;
}

function pinsUnder(directory: string, prefix: string): readonly string[] {
  return readdirSync(directory, { withFileTypes: true })
    .flatMap((entry) => {
      const name = `${prefix}${entry.name}`;
      return entry.isDirectory() ? pinsUnder(join(directory, entry.name), `${name}/`) : [name];
    })
    .sort();
}

/** A map or program may go between bpftool's listing and its look: then it lists again. */
function bpftool<T>(kind: 'map' | 'prog', ...which: readonly string[]): readonly T[] {
  for (let attempt = 1; ; attempt++) {
    try {
      const path = `${process.env.PATH}:/usr/sbin`;
      const options = { encoding: 'utf8', maxBuffer: 1 << 26, env: { ...process.env, PATH: path } } as const;
      const text = execFileSync('bpftool', ['-j', kind, 'show', ...which], { ...options, stdio: 'pipe' });
      return [JSON.parse(text) as T | readonly T[]].flat() as readonly T[];
    } catch (error) {
      if (attempt === 20) throw error;
    }
  }
}
