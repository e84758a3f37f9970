// Hooks on interfaces: tcx links, first in the chain, pinned so that they outlive the process.
import { readdirSync, unlinkSync } from 'node:fs';
import type { TcxPlace } from '#kernel/bpf.ts';
import {
  attachTcx,
  closeObject,
  getPinned,
  linkTarget,
  pinObject,
  programId,
  queryTcx,
  updateLink,
} from '#kernel/bpf.ts';

import { SystemCallError } from '#kernel/sockets.ts';

/** The two programs: for what a pod sends (ingress of the host's side), and what it is sent. */
export type HookPrograms = { readonly from: number; readonly to: number };

/** Whether a hook still stands, and first. */
export type HookHealth = 'first' | 'behind' | 'absent';

const PLACES: readonly (readonly ['from' | 'to', TcxPlace])[] = [
  ['to', 'egress'],
  ['from', 'ingress'],
];

export class Hooks {
  readonly #programs: HookPrograms;
  readonly #directory: string;
  readonly #links = new Map<string, number>();

  constructor(programs: HookPrograms, directory: string) {
    this.#programs = programs;
    this.#directory = directory;
  }

  /** Puts both hooks on an interface, or gives those that an earlier process left there this one's programs. */
  attach(interfaceIndex: number): void {
    for (const [side, place] of PLACES) {
      const path = this.#path(interfaceIndex, side);
      if (this.#links.has(path)) continue;
      this.#links.set(
        path,
        this.#takeOver(path, interfaceIndex, side) ?? this.#create(path, interfaceIndex, [side, place]),
      );
    }
  }

  detach(interfaceIndex: number): void {
    for (const [side] of PLACES) {
      const path = this.#path(interfaceIndex, side);
      const link = this.#links.get(path);
      if (link === undefined) continue;
      this.#links.delete(path);
      unlinkSync(path);
      closeObject(link);
    }
  }

  /** Pins of an earlier process on interfaces that are gone. Those on interfaces that still are deny by their tables. */
  forgetGone(): void {
    for (const name of readdirSync(this.#directory)) {
      const path = `${this.#directory}/${name}`;
      if (!name.startsWith('link_') || this.#links.has(path)) continue;
      const link = getPinned(path);
      if (link === null) continue;
      if (linkTarget(link).interfaceIndex === 0) unlinkSync(path);
      else updateLink(link, this.#programs[name.endsWith('from_pod') ? 'from' : 'to']);
      closeObject(link);
    }
  }

  /** Where the hooks of an interface stand among the programs there; the worse of the two. */
  health(interfaceIndex: number): HookHealth {
    const found = PLACES.map(([side, place]) => this.#place(interfaceIndex, side, place));
    return found.find((each) => each === 'absent') ?? found.find((each) => each === 'behind') ?? 'first';
  }

  /** True where no other program is on the interface: a packet may then skip it. */
  isAlone(interfaceIndex: number): boolean {
    return PLACES.every(([, place]) => programsAt(interfaceIndex, place).length === 1);
  }

  #place(interfaceIndex: number, side: 'from' | 'to', place: TcxPlace): HookHealth {
    const at = programsAt(interfaceIndex, place).indexOf(programId(this.#programs[side]));
    return at < 0 ? 'absent' : at === 0 ? 'first' : 'behind';
  }

  close(): void {
    for (const link of this.#links.values()) closeObject(link);
    this.#links.clear();
  }

  #takeOver(path: string, interfaceIndex: number, side: 'from' | 'to'): number | null {
    const link = getPinned(path);
    if (link === null) return null;
    if (linkTarget(link).interfaceIndex === interfaceIndex) {
      updateLink(link, this.#programs[side]);
      return link;
    }
    // The interface that it was on is gone; another has its number now.
    closeObject(link);
    unlinkSync(path);
    return null;
  }

  #create(path: string, interfaceIndex: number, [side, place]: readonly ['from' | 'to', TcxPlace]): number {
    const link = attachTcx(this.#programs[side], interfaceIndex, place);
    pinObject(link, path);
    return link;
  }

  #path(interfaceIndex: number, side: 'from' | 'to'): string {
    return `${this.#directory}/link_${interfaceIndex}_${side}_pod`;
  }
}

/** Of an interface that is gone: none. */
function programsAt(interfaceIndex: number, place: TcxPlace): readonly number[] {
  try {
    return queryTcx(interfaceIndex, place);
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENODEV') return [];
    throw error;
  }
}
