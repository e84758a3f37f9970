// Loading of a compiled kernel object through libbpf: open, set sizes and knobs, load, hand out descriptors.
import koffi from 'koffi';
import type { MapShape } from './bpf.ts';
import { SystemCallError } from './sockets.ts';

const lib = koffi.load('libbpf.so.1');
const call = {
  setPrint: lib.func('void *libbpf_set_print(void *callback)'),
  open: lib.func('void *bpf_object__open_file(const char *path, void *options)'),
  load: lib.func('int bpf_object__load(void *object)'),
  close: lib.func('void bpf_object__close(void *object)'),
  findMap: lib.func('void *bpf_object__find_map_by_name(void *object, const char *name)'),
  nextMap: lib.func('void *bpf_object__next_map(void *object, void *map)'),
  mapName: lib.func('const char *bpf_map__name(void *map)'),
  mapFd: lib.func('int bpf_map__fd(void *map)'),
  mapKeySize: lib.func('uint32_t bpf_map__key_size(void *map)'),
  mapValueSize: lib.func('uint32_t bpf_map__value_size(void *map)'),
  mapMaxEntries: lib.func('uint32_t bpf_map__max_entries(void *map)'),
  mapSetMaxEntries: lib.func('int bpf_map__set_max_entries(void *map, uint32_t count)'),
  mapKind: lib.func('int bpf_map__type(void *map)'),
  mapFlags: lib.func('uint32_t bpf_map__map_flags(void *map)'),
  mapReuse: lib.func('int bpf_map__reuse_fd(void *map, int fd)'),
  mapSetPinPath: lib.func('int bpf_map__set_pin_path(void *map, const char *path)'),
  mapInitialValue: lib.func('void *bpf_map__initial_value(void *map, void *size)'),
  findProgram: lib.func('void *bpf_object__find_program_by_name(void *object, const char *name)'),
  programFd: lib.func('int bpf_program__fd(void *program)'),
  programSetLog: lib.func('int bpf_program__set_log_buf(void *program, void *buffer, size_t size)'),
};

/** A kernel object that could not be opened or loaded; `log` is the verifier's, where it spoke. */
export class ObjectError extends Error {
  readonly log: string;

  constructor(message: string, log: string, cause: unknown) {
    super(message, { cause });
    this.name = 'ObjectError';
    this.log = log;
  }
}

export type LoadedMap = {
  readonly fd: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
};

/** How to load. Maps whose name has a pin path are shared with whoever pinned them before, if they are alike. */
export type LoadOptions = {
  readonly path: string;
  readonly programs: readonly string[];
  readonly sizes: ReadonlyMap<string, number>;
  readonly pinPath: (map: string) => string | null;
  /** Maps that stand in for the object's own, by its names for them; their shapes may differ. */
  readonly reuse?: ReadonlyMap<string, number>;
  /** Bytes of the read-only data before load, changed in place. */
  readonly knobs: (rodata: Uint8Array) => void;
};

/** A loaded object; closing it closes its descriptors, not what is pinned or attached. */
export type LoadedObject = {
  readonly maps: ReadonlyMap<string, LoadedMap>;
  readonly programs: ReadonlyMap<string, number>;
  close(): void;
};

/** Bytes; taken up as far as the verifier writes. Kernels before 6.4 keep the beginning of a longer log, and say ENOSPC of it. */
const LOG_SIZE = 1 << 24;

/** The shapes of an object's maps as `loadObject` would make them. Throws ObjectError. */
export function readShapes(path: string, sizes: ReadonlyMap<string, number>): ReadonlyMap<string, MapShape> {
  const object = openObject(path);
  try {
    const shapes = [...eachMap(object)].map(([name, map]): readonly [string, MapShape] => {
      const shape = {
        ...{ kind: Number(call.mapKind(map)), flags: Number(call.mapFlags(map)) },
        ...{ keySize: Number(call.mapKeySize(map)), valueSize: Number(call.mapValueSize(map)) },
        maxEntries: sizes.get(name) ?? Number(call.mapMaxEntries(map)),
      };
      return [name, shape];
    });
    return new Map(shapes);
  } finally {
    call.close(object);
  }
}

function openObject(path: string): unknown {
  // libbpf writes to stderr by default; what it would say is in the error below.
  call.setPrint(null);
  const object: unknown = call.open(path, null);
  if (!object) throw new ObjectError(`${path} can't be opened`, '', systemError('bpf_object__open_file'));
  return object;
}

/** Opens and loads. Throws ObjectError with what the kernel said. */
export function loadObject(options: LoadOptions): LoadedObject {
  const object = openObject(options.path);
  const log = Buffer.alloc(LOG_SIZE);
  try {
    prepareMaps(object, options);
    const programs = options.programs.map((name) => [name, findProgram(object, name)] as const);
    for (const [, program] of programs) check('bpf_program__set_log_buf', call.programSetLog(program, log, LOG_SIZE));
    check('bpf_object__load', call.load(object));
    return {
      maps: describeMaps(object),
      programs: new Map(programs.map(([name, program]) => [name, check('bpf_program__fd', call.programFd(program))])),
      close: () => call.close(object),
    };
  } catch (cause) {
    call.close(object);
    const end = log.indexOf(0);
    throw new ObjectError(`${options.path} can't be loaded`, log.toString('utf8', 0, Math.max(end, 0)).trim(), cause);
  }
}

function prepareMaps(object: unknown, options: LoadOptions): void {
  for (const [name, map] of eachMap(object)) {
    const size = options.sizes.get(name);
    if (size !== undefined) check('bpf_map__set_max_entries', call.mapSetMaxEntries(map, size));
    const path = options.pinPath(name);
    if (path !== null) check('bpf_map__set_pin_path', call.mapSetPinPath(map, path));
    const other = options.reuse?.get(name);
    if (other !== undefined) check('bpf_map__reuse_fd', call.mapReuse(map, other));
    if (name.endsWith('.rodata')) setKnobs(map, options.knobs);
  }
}

function setKnobs(map: unknown, knobs: (rodata: Uint8Array) => void): void {
  const size = Buffer.alloc(8);
  const at: unknown = call.mapInitialValue(map, size);
  if (!at) throw systemError('bpf_map__initial_value');
  knobs(new Uint8Array(koffi.view(at, Number(size.readBigUInt64LE()))));
}

function* eachMap(object: unknown): Generator<readonly [string, unknown]> {
  for (let map: unknown = call.nextMap(object, null); map; map = call.nextMap(object, map)) {
    yield [String(call.mapName(map)), map];
  }
}

function describeMaps(object: unknown): ReadonlyMap<string, LoadedMap> {
  const found = new Map<string, LoadedMap>();
  for (const [name, map] of eachMap(object)) {
    found.set(name, {
      fd: check('bpf_map__fd', call.mapFd(map)),
      keySize: Number(call.mapKeySize(map)),
      valueSize: Number(call.mapValueSize(map)),
      maxEntries: Number(call.mapMaxEntries(map)),
    });
  }
  return found;
}

function findProgram(object: unknown, name: string): unknown {
  const program: unknown = call.findProgram(object, name);
  if (!program) throw systemError('bpf_object__find_program_by_name');
  return program;
}

/** libbpf returns -errno. */
function check(name: string, result: unknown): number {
  if (typeof result === 'number' && result >= 0) return result;
  throw new SystemCallError(name, typeof result === 'number' ? -result : koffi.errno());
}

function systemError(name: string): SystemCallError {
  return new SystemCallError(name, koffi.errno());
}
