// The bpf(2) system call: maps, programs, links and pins by file descriptor. Layouts are those of <linux/bpf.h>.
import { endianness } from 'node:os';
import koffi from 'koffi';
import { SystemCallError } from './sockets.ts';

// Map contents are laid out as the kernel programs see them.
if (endianness() !== 'LE') throw new Error('Moat runs on little-endian machines only');

const SYS_BPF = process.arch === 'x64' ? 321 : 280;
// The process's own, as libbpf has it: tests put one that fails before libc's.
const libc = koffi.load(null);
const syscall = libc.func('long syscall(long number, int command, void *attributes, uint32_t size)');
const closeFd = libc.func('int close(int fd)');

const COMMANDS = {
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_MAP_GET_NEXT_KEY: 4,
  BPF_PROG_LOAD: 5,
  BPF_OBJ_PIN: 6,
  BPF_OBJ_GET: 7,
  BPF_PROG_TEST_RUN: 10,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_PROG_QUERY: 16,
  BPF_MAP_LOOKUP_BATCH: 24,
  BPF_MAP_UPDATE_BATCH: 26,
  BPF_LINK_CREATE: 28,
  BPF_LINK_UPDATE: 29,
  BPF_LINK_DETACH: 34,
} as const;

type Command = keyof typeof COMMANDS;

/** A union bpf_attr being filled; keeps what it points to alive until the call is done. */
class Attributes {
  readonly bytes: Buffer = Buffer.alloc(128);
  readonly #kept: Uint8Array[] = [];

  u32(offset: number, value: number): this {
    this.bytes.writeUInt32LE(value, offset);
    return this;
  }

  u64(offset: number, value: bigint): this {
    this.bytes.writeBigUInt64LE(value, offset);
    return this;
  }

  pointer(offset: number, to: Uint8Array | null): this {
    if (to === null || to.length === 0) return this;
    this.#kept.push(to);
    return this.u64(offset, koffi.address(to));
  }
}

/** Calls bpf(2). Returns its result, or the errno's name where it is one of `expected`. */
function bpf(command: Command, attributes: Attributes, ...expected: readonly string[]): number | string {
  const result = syscall(SYS_BPF, COMMANDS[command], attributes.bytes, attributes.bytes.length) as number;
  if (result >= 0) return result;
  const error = new SystemCallError(command, koffi.errno());
  if (expected.includes(error.code)) return error.code;
  throw error;
}

/** A map and what the kernel reads and writes for one element, in bytes: it asks nobody how long a buffer is. */
export type MapHandle = { readonly fd: number; readonly keySize: number; readonly valueSize: number };

/** The sizes of a map that was opened by its pin. Not for per-CPU maps, whose values are one for each CPU. */
export function handleOf(fd: number): MapHandle {
  const { keySize, valueSize } = mapShape(fd);
  return { fd, keySize, valueSize };
}

function checkSize(bytes: Uint8Array, wanted: number, what: string): void {
  if (bytes.length !== wanted) throw new RangeError(`${what} of ${bytes.length} bytes, and the map has ${wanted}`);
}

function element(map: MapHandle, key: Uint8Array, value: Uint8Array | null): Attributes {
  checkSize(key, map.keySize, 'a key');
  if (value !== null) checkSize(value, map.valueSize, 'a value');
  return new Attributes().u32(0, map.fd).pointer(8, key).pointer(16, value);
}

/** Deletes one element; false where it was not there. */
export function deleteElement(map: MapHandle, key: Uint8Array): boolean {
  return bpf('BPF_MAP_DELETE_ELEM', element(map, key, null), 'ENOENT') !== 'ENOENT';
}

/** Reads one element into `value`; false where it is not there. */
export function lookupElement(map: MapHandle, key: Uint8Array, value: Uint8Array): boolean {
  return bpf('BPF_MAP_LOOKUP_ELEM', element(map, key, value), 'ENOENT') !== 'ENOENT';
}

/** Deletes the elements whose keys are such; those that are gone already are no error. */
export function deleteWhere(map: MapHandle, isSuch: (key: Uint8Array) => boolean): void {
  // Which one comes after an element is asked while that is there: otherwise the kernel starts over from the first.
  for (let key = nextKey(map, null); key !== null; ) {
    const next = nextKey(map, key);
    if (isSuch(key)) deleteElement(map, key);
    key = next;
  }
}

/** The key after `key` (null = the first), or null at the end. Deletion meanwhile may start over from the first. */
function nextKey(map: MapHandle, key: Uint8Array | null): Uint8Array | null {
  const next = Buffer.alloc(map.keySize);
  const attributes = new Attributes().u32(0, map.fd).pointer(8, key).pointer(16, next);
  return bpf('BPF_MAP_GET_NEXT_KEY', attributes, 'ENOENT') === 'ENOENT' ? null : next;
}

/** All keys of a map, as they stand. */
export function allKeys(map: MapHandle): readonly Uint8Array[] {
  const keys: Uint8Array[] = [];
  for (let key = nextKey(map, null); key !== null; key = nextKey(map, key)) keys.push(key);
  return keys;
}

/** Writes many elements: keys and values one after the other. */
export function updateBatch(map: MapHandle, keys: Uint8Array, values: Uint8Array, count: number): void {
  checkSize(keys, count * map.keySize, `${count} keys`);
  checkSize(values, count * map.valueSize, `${count} values`);
  if (count === 0) return;
  bpf('BPF_MAP_UPDATE_BATCH', new Attributes().pointer(16, keys).pointer(24, values).u32(32, count).u32(36, map.fd));
}

/** A bucket of a hash table has no more elements than that, or the kernel is at fault. */
const BATCH = 4096;

/**
 * Counts the elements of a hash table, some thousands with each step: whoever steps may let others go between. One that comes
 * or goes meanwhile may be counted or not.
 */
export function* countElements(map: MapHandle): Generator<number, number> {
  const [keys, values] = [Buffer.alloc(BATCH * map.keySize), Buffer.alloc(BATCH * map.valueSize)];
  let place: Uint8Array | null = null;
  for (let total = 0; ; ) {
    const next = Buffer.alloc(Math.max(4, map.keySize));
    const attributes: Attributes = new Attributes().pointer(0, place).pointer(8, next).pointer(16, keys);
    attributes.pointer(24, values).u32(32, BATCH).u32(36, map.fd);
    const isLast = bpf('BPF_MAP_LOOKUP_BATCH', attributes, 'ENOENT') === 'ENOENT';
    total += attributes.bytes.readUInt32LE(32);
    if (isLast) return total;
    place = next;
    yield total;
  }
}

/** Gives a map, program or link a name in the bpffs. */
export function pinObject(fd: number, path: string): void {
  bpf('BPF_OBJ_PIN', new Attributes().pointer(0, cString(path)).u32(8, fd));
}

/** Opens a pinned map, program or link; null where nothing is pinned there. */
export function getPinned(path: string): number | null {
  const fd = bpf('BPF_OBJ_GET', new Attributes().pointer(0, cString(path)), 'ENOENT');
  return typeof fd === 'number' ? fd : null;
}

const BPF_PROG_TYPE_SCHED_CLS = 3;
const MOVE_TO_R0 = 0xb7;
const EXIT = 0x95;
const LOAD_ATTEMPTS = 5;

/** Loads a tc program of two instructions that gives every packet the same verdict (TC_ACT_...). */
export function loadConstant(verdict: number): number {
  const instructions = Buffer.alloc(16);
  instructions.writeUInt8(MOVE_TO_R0, 0);
  instructions.writeInt32LE(verdict, 4);
  instructions.writeUInt8(EXIT, 8);
  const attributes = new Attributes().u32(0, BPF_PROG_TYPE_SCHED_CLS).u32(4, 2).pointer(8, instructions);
  attributes.pointer(16, cString('Dual BSD/GPL'));
  // The verifier gives up where a signal waits, as for libbpf, which tries as often.
  for (let attempt = 1; attempt < LOAD_ATTEMPTS; attempt++) {
    const fd = bpf('BPF_PROG_LOAD', attributes, 'EAGAIN');
    if (typeof fd === 'number') return fd;
  }
  return Number(bpf('BPF_PROG_LOAD', attributes));
}

/** Where a program stands on an interface. */
export type TcxPlace = 'ingress' | 'egress';

const TCX = { ingress: 46, egress: 47 } as const;
const BPF_F_BEFORE = 8;

/** Attaches a program by a tcx link, ahead of every other program there. Linux 6.6. */
export function attachTcx(program: number, interfaceIndex: number, place: TcxPlace): number {
  const attributes = new Attributes().u32(0, program).u32(4, interfaceIndex).u32(8, TCX[place]).u32(12, BPF_F_BEFORE);
  return Number(bpf('BPF_LINK_CREATE', attributes));
}

/** Where a program of sockets stands at a cgroup: enum bpf_attach_type. */
const CGROUP = {
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
} as const;

export type CgroupPlace = keyof typeof CGROUP;

/** Attaches a program by a link to a cgroup, beside those of others. `cgroup`: descriptor of its folder. */
export function attachCgroup(program: number, cgroup: number, place: CgroupPlace): number {
  return Number(bpf('BPF_LINK_CREATE', new Attributes().u32(0, program).u32(4, cgroup).u32(8, CGROUP[place])));
}

/** The cgroup that a link is on: the inode of its folder; 0n = the link was taken off. */
export function linkCgroup(fd: number): bigint {
  return objectInfo(fd).readBigUInt64LE(16);
}

/** Swaps a link's program: at no moment is there none. */
export function updateLink(link: number, program: number): void {
  bpf('BPF_LINK_UPDATE', new Attributes().u32(0, link).u32(4, program));
}

/** Takes a link off what it is on, whoever else holds it; one that is off already is no error. */
export function detachLink(link: number): void {
  bpf('BPF_LINK_DETACH', new Attributes().u32(0, link), 'ENOLINK', 'ENODEV');
}

/** The kernel lets so many programs stand at one place. */
const MAX_PROGRAMS = 64;

/** Every hook is asked for several times a second: room and question are made once. */
const queryIds: Buffer = Buffer.alloc(MAX_PROGRAMS * 4);
const query: Attributes = new Attributes().pointer(16, queryIds);

/** Ids of the programs at a place of an interface, first to last. */
export function queryTcx(interfaceIndex: number, place: TcxPlace): readonly number[] {
  // The kernel writes a revision behind what it is asked.
  query.u32(0, interfaceIndex).u32(4, TCX[place]).u32(24, MAX_PROGRAMS).u64(56, 0n);
  bpf('BPF_PROG_QUERY', query);
  return decodeIds(queryIds, query.bytes.readUInt32LE(24));
}

/** The first `count` ids. Throws RangeError where the kernel counts more than it was given room for. */
export function decodeIds(ids: Buffer, count: number): readonly number[] {
  if (count * 4 > ids.length) throw new RangeError(`${count} programs, and room for ${ids.length / 4}`);
  return Array.from({ length: count }, (_, index) => ids.readUInt32LE(index * 4));
}

function objectInfo(fd: number): Buffer {
  const info = Buffer.alloc(256);
  bpf('BPF_OBJ_GET_INFO_BY_FD', new Attributes().u32(0, fd).u32(4, info.length).pointer(8, info));
  return info;
}

/** The kernel's id of a program. */
export function programId(fd: number): number {
  return objectInfo(fd).readUInt32LE(4);
}

/** What two maps must have in common to be taken for each other; sizes are bytes. */
export type MapShape = {
  readonly kind: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
};

/** The shape of a map in the kernel. */
export function mapShape(fd: number): MapShape {
  const info = objectInfo(fd);
  return {
    ...{ kind: info.readUInt32LE(0), keySize: info.readUInt32LE(8), valueSize: info.readUInt32LE(12) },
    ...{ maxEntries: info.readUInt32LE(16), flags: info.readUInt32LE(20) },
  };
}

/** Numbers of a map's types: of the BTF that has them, and in it of the key's and the value's. 0 = not known. */
export function mapTypes(fd: number): { readonly btf: number; readonly key: number; readonly value: number } {
  const info = objectInfo(fd);
  return { btf: info.readUInt32LE(64), key: info.readUInt32LE(68), value: info.readUInt32LE(72) };
}

/** What a link is on: its program's id and, for tcx, its interface (0 = the interface is gone). */
export function linkTarget(fd: number): { readonly program: number; readonly interfaceIndex: number } {
  const info = objectInfo(fd);
  return { program: info.readUInt32LE(8), interfaceIndex: info.readUInt32LE(16) };
}

/** One frame for a program, and the fields of its struct __sk_buff. */
export type TestRun = {
  readonly frame: Uint8Array;
  readonly interfaceIndex: number;
  /** 0: made by the node itself. */
  readonly ingressIndex: number;
  readonly mark?: number;
  /** Bytes of payload in each packet that an aggregated one stands for. */
  readonly gsoSize?: number;
  readonly repeat?: number;
};

/** The program's return value, the frame after it, and nanoseconds per run. */
export type TestResult = { readonly returned: number; readonly frame: Uint8Array; readonly nanoseconds: number };

const SKB_SIZE = 192;

/** Runs a tc program on a frame. The interface must be in the namespace that this thread is in. */
export function testRun(program: number, run: TestRun): TestResult {
  const output = Buffer.alloc(run.frame.length + 256);
  const skb = Buffer.alloc(SKB_SIZE);
  skb.writeUInt32LE(run.mark ?? 0, 8);
  skb.writeUInt32LE(run.ingressIndex, 36);
  skb.writeUInt32LE(run.interfaceIndex, 40);
  skb.writeUInt32LE(run.gsoSize ?? 0, 176);
  const attributes = new Attributes()
    .u32(0, program)
    .u32(8, run.frame.length)
    .u32(12, output.length)
    .pointer(16, run.frame)
    .pointer(24, output)
    .u32(32, run.repeat ?? 1)
    .u32(40, SKB_SIZE)
    .pointer(48, skb);
  bpf('BPF_PROG_TEST_RUN', attributes);
  const { bytes } = attributes;
  const frame = output.subarray(0, bytes.readUInt32LE(12));
  return { returned: bytes.readInt32LE(4), frame, nanoseconds: bytes.readUInt32LE(36) };
}

/** Runs a program of type syscall once; returns its return value. */
export function runSyscall(program: number): number {
  const attributes = new Attributes().u32(0, program);
  bpf('BPF_PROG_TEST_RUN', attributes);
  return attributes.bytes.readInt32LE(4);
}

/** Closes a descriptor of this file. */
export function closeObject(fd: number): void {
  if ((closeFd(fd) as number) < 0) throw new SystemCallError('close', koffi.errno());
}

function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}
