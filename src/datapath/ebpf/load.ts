// The kernel programs as one node loads them: which there are, which maps they share with those before them, their knobs.
import { KNOBS } from '#datapath/ebpf/encode/abi.gen.ts';
import { type LoadedObject, loadObject } from '#kernel/object.ts';

const PROGRAMS = ['from_pod', 'to_pod', 'sweep'] as const;

export type Program = (typeof PROGRAMS)[number];

/** Knobs by name (bpf/maps.h). Times are nanoseconds. */
export type Knobs = Readonly<Partial<Record<keyof typeof KNOBS, bigint>>>;

export type LoadAsk = {
  /** The object's file. */
  readonly path: string;
  /** By default those that a node runs. */
  readonly programs?: readonly string[];
  /** Where the shared maps are pinned, or will be. */
  readonly directory: string;
  readonly sizes?: Readonly<Record<string, number>>;
  readonly knobs?: Knobs;
};

/** Loads the programs; maps that are pinned already are taken over. Throws ObjectError. */
export function loadPrograms({ path, directory, programs = PROGRAMS, sizes = {}, knobs = {} }: LoadAsk): LoadedObject {
  return loadObject({
    path,
    programs,
    sizes: new Map(Object.entries(sizes)),
    pinPath: (map) => (isShared(map) ? `${directory}/${map}` : null),
    knobs: (rodata) => setKnobs(rodata, knobs),
  });
}

/** Maps that outlive the process; read-only data and the like belong to one load. */
export function isShared(map: string): boolean {
  return !map.includes('.') && map !== 'context_map';
}

function setKnobs(rodata: Uint8Array, knobs: Knobs): void {
  const into = new DataView(rodata.buffer, rodata.byteOffset, rodata.byteLength);
  for (const [name, value] of Object.entries(knobs)) {
    const { offset, size } = KNOBS[name as keyof typeof KNOBS];
    if (size === 8) into.setBigUint64(offset, value, true);
    else into.setUint32(offset, Number(value), true);
  }
}
