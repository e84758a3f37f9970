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

export type Field = { readonly offset: number; readonly size: number };

/** A type's name and its scalars: `leg[1].epoch` → where it stands, in bytes. Padding (`pad`, `pad2`) is left out. */
export type Layout = { readonly name: string; readonly fields: ReadonlyMap<string, Field> };

type Type = {
  readonly name: string;
  readonly kind: number;
  readonly count: number;
  readonly sizeOrType: number;
  readonly bytes: DataView;
};

/** The layouts of a map's keys and values; null where it was made without types. */
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

function layoutOf(btf: unknown, id: number): Layout {
  return { name: resolved(btf, id).type.name, fields: new Map(scalars(btf, id, { name: '', offset: 0 })) };
}

type Place = { readonly name: string; readonly offset: number };

function scalars(btf: unknown, id: number, place: Place): readonly (readonly [string, Field])[] {
  const { type, id: at } = resolved(btf, id);
  if (type.kind === KIND.struct || type.kind === KIND.union) return members(btf, type, place);
  if (type.kind !== KIND.array) return [[place.name, { offset: place.offset, size: sizeOf(btf, at) }]];
  const [element, count] = [type.bytes.getUint32(HEAD, true), type.bytes.getUint32(HEAD + 8, true)];
  const size = sizeOf(btf, element);
  return Array.from({ length: count }, (_, index) => index).flatMap((index) =>
    scalars(btf, element, { name: `${place.name}[${index}]`, offset: place.offset + index * size }),
  );
}

function members(btf: unknown, type: Type, place: Place): readonly (readonly [string, Field])[] {
  return Array.from({ length: type.count }, (_, index) => HEAD * (index + 1)).flatMap((at) => {
    const name = String(call.nameByOffset(btf, type.bytes.getUint32(at, true)));
    if (/^pad\d*$/.test(name)) return [];
    const path = place.name === '' || name === '' ? `${place.name}${name}` : `${place.name}.${name}`;
    // In bits; of these structs none has fields smaller than a byte.
    const offset = place.offset + type.bytes.getUint32(at + 8, true) / 8;
    return scalars(btf, type.bytes.getUint32(at + 4, true), { name: path, offset });
  });
}

/** A type behind its aliases. */
function resolved(btf: unknown, id: number): { readonly type: Type; readonly id: number } {
  const type = readType(btf, id);
  return ALIASES.includes(type.kind) ? resolved(btf, type.sizeOrType) : { type, id };
}

function readType(btf: unknown, id: number): Type {
  const at: unknown = call.typeById(btf, id);
  if (!at) throw new Error(`the kernel's types have no number ${id}`);
  const head = new DataView(koffi.view(at, HEAD));
  const info = head.getUint32(4, true);
  const [kind, count] = [(info >>> 24) & 0x1f, info & 0xffff];
  const parts = kind === KIND.struct || kind === KIND.union ? count : kind === KIND.array ? 1 : 0;
  return {
    ...{ name: String(call.nameByOffset(btf, head.getUint32(0, true))), kind, count },
    ...{ sizeOrType: head.getUint32(8, true), bytes: new DataView(koffi.view(at, HEAD * (1 + parts))) },
  };
}

function sizeOf(btf: unknown, id: number): number {
  return Number(call.resolveSize(btf, id));
}
