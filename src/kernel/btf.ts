// The types of maps as the kernel keeps them (BTF), read through libbpf: where each field of another version's struct stands.
import koffi from 'koffi';
import { mapTypes } from './bpf.ts';
import { SystemCallError } from './sockets.ts';

const lib = koffi.load('libbpf.so.1');
const call = {
  load: lib.func('void *btf__load_from_kernel_by_id(uint32_t id)'),
  typeById: lib.func('void *btf__type_by_id(void *btf, uint32_t id)'),
  resolveSize: lib.func('int64_t btf__resolve_size(void *btf, uint32_t id)'),
  nameByOffset: lib.func('const char *btf__name_by_offset(void *btf, uint32_t offset)'),
  free: lib.func('void btf__free(void *btf)'),
};

/** Kinds of types in <linux/btf.h>. */
const KIND = { array: 3, struct: 4, union: 5, typedef: 8, volatile: 9, const: 10, restrict: 11, typeTag: 18 } as const;
const ALIASES: readonly number[] = [KIND.typedef, KIND.volatile, KIND.const, KIND.restrict, KIND.typeTag];
/** struct btf_type; members of a struct follow, each of as many bytes. */
const HEAD = 12;
/** So many structs, arrays and scalars in all, and so deep, no table has: what needs more goes round, or is not ours. */
const MAX_PARTS = 8192;
const MAX_DEPTH = 32;

export type Field = { readonly offset: number; readonly size: number };

/** A type's name and its scalars: `leg[1].epoch` → where it stands, in bytes. Padding (`pad`, `pad2`) is left out. */
export type Layout = { readonly name: string; readonly fields: ReadonlyMap<string, Field> };

/** Types that can't be the layout of a table, or that the kernel gave no whole account of. */
export class BtfError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BtfError';
  }
}

type Type = {
  readonly name: string;
  readonly kind: number;
  readonly count: number;
  /** Its members' offsets hold sizes in bits, too. */
  readonly bitfields: boolean;
  readonly sizeOrType: number;
  readonly bytes: DataView;
};

/** The layouts of a map's keys and values; null where it was made without types. Throws BtfError. */
export function mapLayouts(fd: number): { readonly key: Layout; readonly value: Layout } | null {
  const types = mapTypes(fd);
  if (types.btf === 0 || types.key === 0 || types.value === 0) return null;
  const btf: unknown = call.load(types.btf);
  if (!btf) throw new SystemCallError('btf__load_from_kernel_by_id', koffi.errno());
  try {
    return { key: layoutOf(btf, types.key), value: layoutOf(btf, types.value) };
  } finally {
    call.free(btf);
  }
}

/** The layout of a type of libbpf's `struct btf`. Throws BtfError. */
export function layoutOf(btf: unknown, id: number): Layout {
  const fields = new Map<string, Field>();
  collect(btf, id, { name: '', offset: 0, depth: 0, fields, parts: { count: 0 } });
  return { name: resolved(btf, id).type.name, fields };
}

type Place = {
  readonly name: string;
  readonly offset: number;
  readonly depth: number;
  readonly fields: Map<string, Field>;
  /** Everything met so far. */
  readonly parts: { count: number };
};

/** Puts the scalars of a type that stands at this place among the fields. */
function collect(btf: unknown, id: number, place: Place): void {
  if (place.depth > MAX_DEPTH) throw new BtfError(`types are nested more than ${MAX_DEPTH} deep`);
  const { type, id: at } = resolved(btf, id);
  if (++place.parts.count > MAX_PARTS) throw new BtfError(`a type has more than ${MAX_PARTS} parts`);
  if (type.kind === KIND.struct || type.kind === KIND.union) collectMembers(btf, type, place);
  else if (type.kind === KIND.array) collectElements(btf, type, place);
  else place.fields.set(place.name, { offset: place.offset, size: sizeOf(btf, at) });
}

function collectElements(btf: unknown, type: Type, place: Place): void {
  const [element, count] = [type.bytes.getUint32(HEAD, true), type.bytes.getUint32(HEAD + 8, true)];
  if (count > MAX_PARTS) throw new BtfError(`an array has ${count} elements`);
  const size = sizeOf(btf, element);
  for (let index = 0; index < count; index++) {
    const [name, offset] = [`${place.name}[${index}]`, place.offset + index * size];
    collect(btf, element, { ...place, name, offset, depth: place.depth + 1 });
  }
}

function collectMembers(btf: unknown, type: Type, place: Place): void {
  for (let at = HEAD; at <= HEAD * type.count; at += HEAD) {
    const name = nameAt(btf, type.bytes.getUint32(at, true));
    if (/^pad\d*$/.test(name)) continue;
    const path = place.name === '' || name === '' ? `${place.name}${name}` : `${place.name}.${name}`;
    const bits = type.bytes.getUint32(at + 8, true);
    // Of these structs none has fields smaller than a byte.
    if (bits % 8 !== 0 || (type.bitfields && bits >>> 24 !== 0)) throw new BtfError(`${path} is a field of bits`);
    const offset = place.offset + bits / 8;
    collect(btf, type.bytes.getUint32(at + 4, true), { ...place, name: path, offset, depth: place.depth + 1 });
  }
}

/** A type behind its aliases. */
function resolved(btf: unknown, id: number): { readonly type: Type; readonly id: number } {
  let at = id;
  for (let step = 0; step <= MAX_DEPTH; step++) {
    const type = readType(btf, at);
    if (!ALIASES.includes(type.kind)) return { type, id: at };
    at = type.sizeOrType;
  }
  throw new BtfError(`type ${id} is an alias of an alias, and no end`);
}

function readType(btf: unknown, id: number): Type {
  const at: unknown = call.typeById(btf, id);
  if (!at) throw new BtfError(`the kernel's types have no number ${id}`);
  const head = new DataView(koffi.view(at, HEAD));
  const info = head.getUint32(4, true);
  const [kind, count] = [(info >>> 24) & 0x1f, info & 0xffff];
  const parts = kind === KIND.struct || kind === KIND.union ? count : kind === KIND.array ? 1 : 0;
  return {
    ...{ name: nameAt(btf, head.getUint32(0, true)), kind, count, bitfields: info >>> 31 === 1 },
    // libbpf has seen to it, when it took these types in, that so much is there.
    ...{ sizeOrType: head.getUint32(8, true), bytes: new DataView(koffi.view(at, HEAD * (1 + parts))) },
  };
}

function nameAt(btf: unknown, offset: number): string {
  const name: unknown = call.nameByOffset(btf, offset);
  if (typeof name !== 'string') throw new BtfError(`the kernel's types have no name at ${offset}`);
  return name;
}

function sizeOf(btf: unknown, id: number): number {
  const size = Number(call.resolveSize(btf, id));
  if (size < 0) throw new BtfError(`type ${id} has no size`);
  return size;
}
