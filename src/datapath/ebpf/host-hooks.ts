// The hooks of the node's own clients, at the root of cgroup2: links, pinned so that they outlive the process.
import { closeSync, existsSync, openSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { HOST_KNOBS } from '#datapath/ebpf/encode/abi.gen.ts';
import {
  attachCgroup,
  type CgroupPlace,
  closeObject,
  detachLink,
  getPinned,
  linkCgroup,
  pinObject,
  updateLink,
} from '#kernel/bpf.ts';
import { cgroupRoot } from '#kernel/cgroup.ts';
import { type LoadedObject, loadObject, ObjectError } from '#kernel/object.ts';
import { netnsCookie } from '#kernel/sockets.ts';
import type { Maps } from './takeover.ts';

/** The programs, as the build leaves them. */
export const HOST_OBJECT: string = join(import.meta.dirname, '../../../build/bpf/host.bpf.o');

/** In the order in which they are put there: nothing is sent to a backend before its answers are told. */
const PLACES: readonly CgroupPlace[] = [
  ...(['getpeername4', 'getpeername6', 'recvmsg4', 'recvmsg6'] as const),
  ...(['sendmsg4', 'sendmsg6', 'connect4', 'connect6'] as const),
];

/** What sockets remember outlives the process with the tables. */
const MEMORY = 'socket_map';

const ABSENT =
  'no root of cgroup2 is mounted here: clients on the node itself, and pods on its network, reach no Service by this agent';

export type HostSetup = {
  /** The file of the programs that judge packets: those of sockets lie beside it. */
  readonly object: string;
  /** Where links are pinned, */
  readonly directory: string;
  /** and what sockets remember. */
  readonly tables: string;
  /** The tables that the programs look into. */
  readonly maps: Maps;
};

export class HostHooks {
  readonly #setup: HostSetup;
  readonly #links = new Map<CgroupPlace, number>();
  #object: LoadedObject | null = null;
  #complaint: string | null = null;

  constructor(setup: HostSetup) {
    this.#setup = setup;
  }

  /** What is wrong with them; null where nothing is. */
  get complaint(): string | null {
    return this.#complaint;
  }

  /**
   * Puts the hooks there, or gives those of an earlier process this one's programs. The calling thread must be in the node's network namespace.
   * What fails is a complaint, and is tried again by the next call.
   */
  attach(): void {
    if (this.#links.size === PLACES.length) return;
    try {
      const root = cgroupRoot();
      this.#complaint = root === null ? ABSENT : null;
      if (root !== null) this.#attachAll(root);
    } catch (error) {
      this.#complaint = complaintOf(error);
    }
  }

  /** Puts back what somebody took off or unpinned. `isPinned` says of a path of a pin whether there is one. */
  repair(isPinned: (path: string) => boolean): void {
    if (this.#links.size < PLACES.length) return;
    this.#complaint = null;
    try {
      for (const [place, link] of this.#links) if (linkCgroup(link) === 0n) this.#drop(place);
      if (this.#links.size < PLACES.length) this.#replace();
      for (const [place, link] of this.#links) {
        const path = linkPath(this.#setup.directory, place);
        if (!isPinned(path) && !existsSync(path)) pinObject(link, path);
      }
      const memory = this.#object?.maps.get(MEMORY);
      const path = `${this.#setup.tables}/${MEMORY}`;
      if (memory !== undefined && !existsSync(path)) pinObject(memory.fd, path);
    } catch (error) {
      this.#complaint = complaintOf(error);
    }
  }

  detach(): void {
    for (const place of this.#links.keys()) this.#drop(place);
    this.close();
  }

  /** Leaves the hooks to the kernel. */
  close(): void {
    for (const link of this.#links.values()) closeObject(link);
    this.#links.clear();
    this.#object?.close();
    this.#object = null;
  }

  #replace(): void {
    this.attach();
    this.#complaint ??= 'hooks of clients on the node itself were taken off; they are put back';
  }

  #attachAll(root: string): void {
    this.#object ??= this.#load();
    const folder = openSync(root, 'r');
    try {
      for (const place of PLACES) {
        if (this.#links.has(place)) continue;
        const program = programOf(this.#object, place);
        this.#links.set(place, this.#takeOver(place, program, root) ?? this.#create(place, program, folder));
      }
    } finally {
      closeSync(folder);
    }
  }

  #takeOver(place: CgroupPlace, program: number, root: string): number | null {
    const path = linkPath(this.#setup.directory, place);
    const link = getPinned(path);
    if (link === null) return null;
    if (linkCgroup(link) === statSync(root, { bigint: true }).ino) {
      updateLink(link, program);
      return link;
    }
    closeObject(link);
    rmSync(path, { force: true });
    return null;
  }

  #create(place: CgroupPlace, program: number, cgroup: number): number {
    const link = attachCgroup(program, cgroup, place);
    pinObject(link, linkPath(this.#setup.directory, place));
    return link;
  }

  #drop(place: CgroupPlace): void {
    const link = this.#links.get(place);
    this.#links.delete(place);
    rmSync(linkPath(this.#setup.directory, place), { force: true });
    if (link === undefined) return;
    detachLink(link);
    closeObject(link);
  }

  #load(): LoadedObject {
    const { object, tables, maps } = this.#setup;
    return loadHostPrograms(join(dirname(object), basename(HOST_OBJECT)), {
      cookie: netnsCookie(),
      pinPath: (map) => (map === MEMORY ? `${tables}/${MEMORY}` : null),
      reuse: new Map([...maps].map(([name, { fd }]) => [name, fd])),
    });
  }
}

/** Whom the programs are for, and what of their maps is another's or outlives them. */
type HostAsk = {
  readonly cookie: bigint;
  readonly pinPath?: (map: string) => string | null;
  readonly reuse?: ReadonlyMap<string, number>;
  readonly sizes?: ReadonlyMap<string, number>;
};

/** Loads the programs for the sockets of one network namespace. Throws ObjectError. */
export function loadHostPrograms(path: string, { cookie, pinPath = () => null, ...ask }: HostAsk): LoadedObject {
  return loadObject({
    path,
    programs: PLACES.map(nameOf),
    pinPath,
    ...{ sizes: ask.sizes ?? new Map(), reuse: ask.reuse ?? new Map() },
    knobs: (rodata) =>
      Buffer.from(rodata.buffer, rodata.byteOffset).writeBigUInt64LE(cookie, HOST_KNOBS.hostNetns.offset),
  });
}

/** Takes the hooks away that an earlier process left, last ones first: at once, where a link whose last pin goes ends a while later. */
export function dropHostHooks(directory: string): void {
  for (const place of PLACES.toReversed()) {
    const path = linkPath(directory, place);
    const link = getPinned(path);
    if (link === null) continue;
    rmSync(path);
    detachLink(link);
    closeObject(link);
  }
}

function complaintOf(error: unknown): string {
  const isOfKernel = error instanceof ObjectError || (error instanceof Error && 'code' in error);
  if (!isOfKernel) throw error;
  const log = error instanceof ObjectError && error.log !== '' ? `: ${error.log.split('\n').at(-1)}` : '';
  return `clients on the node itself, and pods on its network, may reach no Service by this agent: ${error.message}${log}`;
}

function programOf(object: LoadedObject, place: CgroupPlace): number {
  const program = object.programs.get(nameOf(place));
  if (program === undefined) throw new Error(`the kernel object has no program ${nameOf(place)}`);
  return program;
}

function nameOf(place: CgroupPlace): string {
  return `host_${place}`;
}

function linkPath(directory: string, place: CgroupPlace): string {
  return `${directory}/host_${place}`;
}
