// The kernel programs as one node loads them: which there are, which maps they share with those before them, their knobs.
import { KNOBS, QUEUE } from '#datapath/ebpf/encode/abi.gen.ts';
import type { MapShape } from '#kernel/bpf.ts';
import { type LoadedObject, loadObject, readShapes } from '#kernel/object.ts';

const PROGRAMS = ['from_pod', 'to_pod', 'from_node', 'sweep', 'carry_services', 'carry'] as const;

export type Program = (typeof PROGRAMS)[number];

/** Knobs by name (bpf/maps.h): numbers, times in nanoseconds, or the bytes of an array. */
export type Knobs = Readonly<Partial<Record<keyof typeof KNOBS, bigint | Uint8Array>>>;

export type LoadAsk = {
  /** The object's file. */
  readonly path: string;
  /** By default those that a node runs. */
  readonly programs?: readonly string[];
  /** Where the shared maps are pinned, or will be. */
  readonly directory: string;
  readonly sizes?: Readonly<Record<string, number>>;
  readonly knobs?: Knobs;
  /** Maps that stand in for those of the object with these names. */
  readonly reuse?: ReadonlyMap<string, number>;
};

/** Loads the programs; maps that are pinned already are taken over. Throws ObjectError. */
export function loadPrograms({ programs = PROGRAMS, sizes = {}, knobs = {}, ...ask }: LoadAsk): LoadedObject {
  return loadObject({
    path: ask.path,
    programs,
    sizes: withQueues(sizes),
    pinPath: (map) => (isShared(map) ? `${ask.directory}/${map}` : null),
    knobs: (rodata) => setKnobs(rodata, knobs),
    ...(ask.reuse === undefined ? {} : { reuse: ask.reuse }),
  });
}

/** The shapes that the shared maps of an object will have. Throws ObjectError. */
export function sharedShapes({ path, sizes = {} }: Pick<LoadAsk, 'path' | 'sizes'>): ReadonlyMap<string, MapShape> {
  return new Map([...readShapes(path, withQueues(sizes))].filter(([name]) => isShared(name)));
}

/** The queues have room for every flow of `ct_map`, and two parts begun for each of 4096 interfaces (bpf/queue.h). */
function withQueues(sizes: Readonly<Record<string, number>>): ReadonlyMap<string, number> {
  const { ct_map: flows } = sizes;
  const queues = flows === undefined ? {} : { queue_map: Math.ceil(flows / QUEUE.PART) + 8192 };
  return new Map(Object.entries({ ...queues, ...sizes }));
}

/** Maps that outlive the process; read-only data and the like belong to one load. */
export function isShared(map: string): boolean {
  return !map.includes('.') && !map.startsWith('earlier_') && map !== 'context_map';
}

function setKnobs(rodata: Uint8Array, knobs: Knobs): void {
  const into = new DataView(rodata.buffer, rodata.byteOffset, rodata.byteLength);
  for (const [name, value] of Object.entries(knobs)) {
    const { offset, size } = KNOBS[name as keyof typeof KNOBS];
    if (typeof value !== 'bigint') rodata.set(value.subarray(0, size), offset);
    else if (size === 8) into.setBigUint64(offset, value, true);
    else into.setUint32(offset, Number(value), true);
  }
}
