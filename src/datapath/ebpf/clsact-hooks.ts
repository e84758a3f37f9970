// Hooks on kernels before tcx: filters of clsact at the lowest priority. A filter holds its program, so it outlives the process.
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { closeObject, getPinned, pinObject, programId } from '#kernel/bpf.ts';
import type { Filter } from '#kernel/netlink.ts';
import { Rtnetlink } from '#kernel/rtnetlink.ts';
import {
  attachFilter,
  createClsact,
  createClsactBy,
  destroyClsact,
  detachFilter,
  type FilterPlace,
  fillClsact,
  listFilters,
} from '#kernel/tc.ts';
import {
  type HookHealth,
  type HookPrograms,
  type HookSetup,
  type Hooks,
  type HookView,
  hasTcx,
  type Places,
  POD_PLACES,
  programsAt,
  type Side,
  UPLINK_PLACES,
  withShut,
  worst,
} from './hooks.ts';

/** No priority comes before the first. The handles are Moat's own ("moat"), so that nobody else's filter is replaced. */
const HOOK = { priority: 1, handle: 0x6d6f6174 } as const;
const BOTH = ['ingress', 'egress'] as const;
const SHUT = { priority: 1, handle: 0x6d6f6175 } as const;
const ALL_PLACES: Places = [...POD_PLACES, ...UPLINK_PLACES];

export class ClsactHooks implements Hooks {
  readonly #places: Places;
  readonly #programs: HookPrograms;
  readonly #directory: string;
  readonly #ids: ReadonlyMap<Side, number>;
  readonly #tcx: boolean = hasTcx();
  readonly #attached = new Set<number>();
  /** Interfaces whose queue this process made: it goes when nothing is left on it. */
  readonly #queues = new Set<number>();
  /** Of the namespace that this process is in, once something was attached. */
  #socket: Rtnetlink | null = null;

  constructor({ places, programs, directory }: HookSetup) {
    this.#places = places;
    this.#programs = programs;
    this.#directory = directory;
    this.#ids = new Map(places.map(([side]) => [side, programId(programs[side])]));
  }

  attach(interfaceIndex: number): void {
    if (this.#attached.has(interfaceIndex)) return;
    this.#socket ??= new Rtnetlink();
    const isFresh = createClsactBy(this.#socket, interfaceIndex);
    if (isFresh) this.#fill(this.#socket, interfaceIndex);
    else for (const [side, place] of this.#places) this.#put(interfaceIndex, side, place);
    this.#attached.add(interfaceIndex);
  }

  /** A queue that was just made: nothing of anybody's hangs there, and all of it goes where this fails. */
  #fill(socket: Rtnetlink, interfaceIndex: number): void {
    this.#queues.add(interfaceIndex);
    const marks = this.#places.map(([side]) => ({ side, paths: markPaths(this.#directory, interfaceIndex, side) }));
    try {
      for (const { side, paths } of marks) this.#mark(side, paths[1]);
      const filters = this.#places.map(([side, place]) => ({ place, program: this.#programs[side] }));
      fillClsact(socket, interfaceIndex, HOOK, filters);
    } catch (error) {
      this.#queues.delete(interfaceIndex);
      destroyClsact(interfaceIndex);
      for (const { paths } of marks) rmSync(paths[1], { force: true });
      throw error;
    }
    for (const { paths } of marks) renameSync(paths[1], paths[0]);
  }

  stands(interfaceIndex: number): boolean {
    return this.#places.every(([side, place]) =>
      markPaths(this.#directory, interfaceIndex, side).some((path) => isMarked(path, interfaceIndex, place)),
    );
  }

  detach(interfaceIndex: number): void {
    this.#attached.delete(interfaceIndex);
    for (const [side, place] of this.#places) {
      detachFilter(interfaceIndex, place, HOOK);
      for (const path of markPaths(this.#directory, interfaceIndex, side)) rmSync(path, { force: true });
    }
    if (this.#queues.delete(interfaceIndex) && isEmpty(interfaceIndex)) destroyClsact(interfaceIndex);
  }

  forgetGone(): void {
    for (const name of readdirSync(this.#directory)) {
      const mark = readMark(name);
      const place = this.#places.find(([side]) => side === mark?.side)?.[1];
      if (mark === null || place === undefined || this.#attached.has(mark.interfaceIndex)) continue;
      const path = `${this.#directory}/${name}`;
      if (isMarked(path, mark.interfaceIndex, place)) this.#put(mark.interfaceIndex, mark.side, place);
      else rmSync(path, { force: true });
    }
  }

  look(interfaceIndex: number, isPinned: (path: string) => boolean = existsSync): HookView {
    const found = this.#places.map(([side, place]) => {
      const filters = listFilters(interfaceIndex, place);
      // tcx runs before any filter.
      const ahead = this.#tcx ? programsAt(interfaceIndex, place).length : 0;
      const health = this.#health(side, filters);
      return { health: health === 'first' && ahead > 0 ? ('behind' as const) : health, count: filters.length + ahead };
    });
    return {
      health: worst(found.map((each) => each.health)),
      alone: found.every((each) => each.count === 1),
      pinned: this.#places.every(([side]) => isPinned(markPath(this.#directory, interfaceIndex, side))),
    };
  }

  repair(interfaceIndex: number): void {
    if (createClsact(interfaceIndex)) this.#queues.add(interfaceIndex);
    for (const [side, place] of this.#places) {
      const health = this.#health(side, listFilters(interfaceIndex, place));
      if (health === 'behind') this.#moveFirst(interfaceIndex, side, place);
      else if (health === 'absent') this.#put(interfaceIndex, side, place);
      else this.#marked(interfaceIndex, side, () => undefined);
    }
  }

  /** Filters and marks stay. */
  close(): void {
    this.#attached.clear();
    this.#queues.clear();
    this.#socket?.close();
    this.#socket = null;
  }

  #health(side: Side, filters: readonly Filter[]): HookHealth {
    const at = filters.findIndex((each) => isHook(each) && each.program === this.#ids.get(side));
    return at < 0 ? 'absent' : at === 0 ? 'first' : 'behind';
  }

  #put(interfaceIndex: number, side: Side, place: FilterPlace): void {
    this.#marked(interfaceIndex, side, () => attachFilter(interfaceIndex, place, HOOK, this.#programs[side]));
    // What a process left that ended while it moved its hook.
    detachFilter(interfaceIndex, place, SHUT);
  }

  /** Of one priority, what was added last comes first; a filter that drops everything holds the place meanwhile. */
  #moveFirst(interfaceIndex: number, side: Side, place: FilterPlace): void {
    withShut((shut) => attachFilter(interfaceIndex, place, SHUT, shut));
    detachFilter(interfaceIndex, place, HOOK);
    this.#put(interfaceIndex, side, place);
  }

  /**
   * A pinned program tells the next process where its filter hangs. It is there before the filter, beside the mark of the one that
   * is swapped: whenever this process is killed, one of them names what hangs there.
   */
  #marked(interfaceIndex: number, side: Side, hang: () => void): void {
    const [path, next] = markPaths(this.#directory, interfaceIndex, side);
    this.#mark(side, next);
    try {
      hang();
    } catch (error) {
      rmSync(next, { force: true });
      throw error;
    }
    renameSync(next, path);
  }

  #mark(side: Side, path: string): void {
    rmSync(path, { force: true });
    pinObject(this.#programs[side], path);
  }
}

/** Takes the filters off every interface of this network namespace that marks in the directory name. */
export function dropAllFilters(directory: string): void {
  if (!existsSync(directory)) return;
  const marks = readdirSync(directory).map(readMark);
  const interfaces = new Set(marks.flatMap((mark) => (mark === null ? [] : [mark.interfaceIndex])));
  for (const interfaceIndex of interfaces) dropFilters({ places: ALL_PLACES, directory }, interfaceIndex);
}

/** Takes an interface's filters away, if they are those that were marked, and the marks. */
export function dropFilters(
  { places, directory }: Pick<HookSetup, 'places' | 'directory'>,
  interfaceIndex: number,
): void {
  let wasMarked = false;
  for (const [side, place] of places) {
    for (const path of markPaths(directory, interfaceIndex, side)) {
      if (isMarked(path, interfaceIndex, place)) wasMarked = detachFilter(interfaceIndex, place, HOOK) || wasMarked;
      rmSync(path, { force: true });
    }
  }
  // A queue without filters is nobody's.
  if (wasMarked && isEmpty(interfaceIndex)) destroyClsact(interfaceIndex);
}

function isEmpty(interfaceIndex: number): boolean {
  return BOTH.every((place) => listFilters(interfaceIndex, place).length === 0);
}

/** True where the filter there has the very program of the mark: another interface may have the number by now. */
function isMarked(path: string, interfaceIndex: number, place: FilterPlace): boolean {
  const program = getPinned(path);
  if (program === null) return false;
  const id = programId(program);
  closeObject(program);
  return listFilters(interfaceIndex, place).some((each) => isHook(each) && each.program === id);
}

function isHook(filter: Filter): boolean {
  return filter.handle === HOOK.handle && filter.priority === HOOK.priority;
}

/** The mark of a filter that hangs, and that of one that is being hung. */
function markPaths(directory: string, interfaceIndex: number, side: Side): readonly [string, string] {
  return [markPath(directory, interfaceIndex, side), `${directory}/next_${interfaceIndex}_${side}`];
}

function markPath(directory: string, interfaceIndex: number, side: Side): string {
  return `${directory}/filter_${interfaceIndex}_${side}`;
}

function readMark(name: string): { readonly interfaceIndex: number; readonly side: Side } | null {
  const side = ALL_PLACES.find((place) => name.endsWith(`_${place[0]}`))?.[0];
  const found = /^(?:filter|next)_(\d+)_/.exec(name);
  return found === null || side === undefined ? null : { interfaceIndex: Number(found[1]), side };
}
