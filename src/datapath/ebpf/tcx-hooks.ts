// Hooks by tcx links: first in the chain, pinned so that they outlive the process.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import type { TcxPlace } from '#kernel/bpf.ts';
import {
  attachTcx,
  closeObject,
  detachLink,
  getPinned,
  linkTarget,
  pinObject,
  programId,
  updateLink,
} from '#kernel/bpf.ts';
import {
  type HookHealth,
  type HookPrograms,
  type HookSetup,
  type Hooks,
  type HookView,
  type Places,
  programsAt,
  type Side,
  withShut,
  worst,
} from './hooks.ts';

export class TcxHooks implements Hooks {
  readonly #places: Places;
  readonly #programs: HookPrograms;
  readonly #directory: string;
  readonly #ids: ReadonlyMap<Side, number>;
  readonly #links = new Map<string, number>();

  constructor({ places, programs, directory }: HookSetup) {
    this.#places = places;
    this.#programs = programs;
    this.#directory = directory;
    this.#ids = new Map(places.map(([side]) => [side, programId(programs[side])]));
  }

  attach(interfaceIndex: number): void {
    // All are in hand before the first one turns: who is killed in between leaves hooks of two versions at one interface.
    const left = this.#places
      .map(([side, place]) => ({ side, place, path: linkPath(this.#directory, interfaceIndex, side) }))
      .filter(({ path }) => !this.#links.has(path))
      .map((each) => ({ ...each, standing: this.#standing(each.path, interfaceIndex) }));
    for (const { side, place, path, standing } of left) {
      if (standing !== null) updateLink(standing, this.#programs[side]);
      this.#links.set(path, standing ?? this.#create(path, interfaceIndex, [side, place]));
    }
  }

  stands(interfaceIndex: number): boolean {
    return this.#places.every(([side]) => {
      const link = getPinned(linkPath(this.#directory, interfaceIndex, side));
      if (link === null) return false;
      const target = linkTarget(link).interfaceIndex;
      closeObject(link);
      return target === interfaceIndex;
    });
  }

  detach(interfaceIndex: number): void {
    for (const [side] of this.#places) this.#drop(linkPath(this.#directory, interfaceIndex, side));
  }

  forgetGone(): void {
    for (const name of readdirSync(this.#directory)) {
      const path = `${this.#directory}/${name}`;
      const side = this.#places.find((place) => name.startsWith('link_') && name.endsWith(place[0]))?.[0];
      if (side === undefined || this.#links.has(path)) continue;
      const link = getPinned(path);
      if (link === null) continue;
      if (linkTarget(link).interfaceIndex === 0) rmSync(path, { force: true });
      else updateLink(link, this.#programs[side]);
      closeObject(link);
    }
  }

  look(interfaceIndex: number, isPinned: (path: string) => boolean = existsSync): HookView {
    const found = this.#places.map(([side, place]) => ({ side, ids: programsAt(interfaceIndex, place) }));
    return {
      health: worst(found.map(({ side, ids }) => this.#health(side, ids))),
      alone: found.every(({ ids }) => ids.length === 1),
      pinned: this.#places.every(([side]) => isPinned(linkPath(this.#directory, interfaceIndex, side))),
    };
  }

  repair(interfaceIndex: number): void {
    for (const [side, place] of this.#places) {
      const path = linkPath(this.#directory, interfaceIndex, side);
      const health = this.#health(side, programsAt(interfaceIndex, place));
      const link = this.#links.get(path);
      if (health === 'behind') this.#moveFirst(path, interfaceIndex, [side, place]);
      else if (health === 'absent' || link === undefined) this.#renew(path, interfaceIndex, [side, place]);
      else if (!existsSync(path)) pinObject(link, path);
    }
  }

  close(): void {
    for (const link of this.#links.values()) closeObject(link);
    this.#links.clear();
  }

  #health(side: Side, ids: readonly number[]): HookHealth {
    const at = ids.indexOf(this.#ids.get(side) ?? 0);
    return at < 0 ? 'absent' : at === 0 ? 'first' : 'behind';
  }

  /** The link that an earlier process left there; null where there is none. */
  #standing(path: string, interfaceIndex: number): number | null {
    const link = getPinned(path);
    if (link === null) return null;
    if (linkTarget(link).interfaceIndex === interfaceIndex) return link;
    // The interface that it was on is gone, and another has its number now; or somebody took the hook off.
    closeObject(link);
    rmSync(path, { force: true });
    return null;
  }

  #create(path: string, interfaceIndex: number, [side, place]: readonly [Side, TcxPlace]): number {
    const link = attachTcx(this.#programs[side], interfaceIndex, place);
    pinObject(link, path);
    return link;
  }

  #renew(path: string, interfaceIndex: number, hook: readonly [Side, TcxPlace]): void {
    this.#drop(path);
    this.#links.set(path, this.#create(path, interfaceIndex, hook));
  }

  /** A program is at a place once only, so another one that drops everything holds the new place meanwhile. */
  #moveFirst(path: string, interfaceIndex: number, [side, place]: readonly [Side, TcxPlace]): void {
    withShut((shut) => {
      const link = attachTcx(shut, interfaceIndex, place);
      this.#drop(path);
      this.#links.set(path, link);
      updateLink(link, this.#programs[side]);
      pinObject(link, path);
    });
  }

  /** Takes the link off its interface, whoever else still holds it. */
  #drop(path: string): void {
    const link = this.#links.get(path);
    this.#links.delete(path);
    rmSync(path, { force: true });
    if (link === undefined) return;
    detachLink(link);
    closeObject(link);
  }
}

/** Takes the links of an interface away that an earlier process pinned. */
export function dropLinks({ places, directory }: HookSetup, interfaceIndex: number): void {
  for (const [side] of places) {
    const path = linkPath(directory, interfaceIndex, side);
    const link = getPinned(path);
    if (link === null) continue;
    rmSync(path);
    detachLink(link);
    closeObject(link);
  }
}

function linkPath(directory: string, interfaceIndex: number, side: Side): string {
  return `${directory}/link_${interfaceIndex}_${side}`;
}
