// Memory shared with the kernel: mapped arrays, whose words are written in one store, and the ring of events.
import koffi from 'koffi';
import { mapShape } from './bpf.ts';
import { RingReader } from './ring.ts';
import { SystemCallError } from './sockets.ts';

const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *at, size_t size, int protection, int flags, int fd, int64_t offset)');
const munmap = libc.func('int munmap(void *at, size_t size)');
const syscall = libc.func('long syscall(long number, int command, unsigned int flags, int cpu)');

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const PAGE = 4096;
const SYS_MEMBARRIER = process.arch === 'x64' ? 324 : 283;
const MEMBARRIER_GLOBAL = 1;

/** A piece of shared memory. Using `bytes` after `close` is a fault of the program: drop every reference first. */
export type SharedMemory = { readonly bytes: ArrayBuffer; close(): void };

function map(fd: number, size: number, offset: number, protection: number): SharedMemory {
  const at: unknown = mmap(null, size, protection, MAP_SHARED, fd, offset);
  // MAP_FAILED is all ones.
  if (typeof at !== 'bigint' || at === 0xffff_ffff_ffff_ffffn || at === -1n) {
    throw new SystemCallError('mmap', koffi.errno());
  }
  return {
    bytes: koffi.view(at, size),
    close: () => {
      if ((munmap(at, size) as number) < 0) throw new SystemCallError('munmap', koffi.errno());
    },
  };
}

/** An array map's elements (BPF_F_MMAPABLE), each rounded up to 8 bytes. Throws RangeError where the map has others. */
export function mapArray(fd: number, valueSize: number, entries: number): SharedMemory {
  const shape = mapShape(fd);
  if (shape.valueSize !== valueSize || shape.maxEntries !== entries) {
    const has = `${shape.maxEntries} elements of ${shape.valueSize} bytes`;
    throw new RangeError(`the map has ${has}, not ${entries} of ${valueSize}`);
  }
  const size = Math.ceil((Math.ceil(valueSize / 8) * 8 * entries) / PAGE) * PAGE;
  return map(fd, size, 0, PROT_READ | PROT_WRITE);
}

/** A BPF ring buffer, read without system calls. One reader only. */
export class Ring {
  readonly #consumer: SharedMemory;
  readonly #producer: SharedMemory;
  readonly #reader: RingReader;

  /** `size` is the map's max_entries: a power of two. */
  constructor(fd: number, size: number) {
    this.#consumer = map(fd, PAGE, 0, PROT_READ | PROT_WRITE);
    // The data pages stand twice in a row, so that no record is split.
    this.#producer = map(fd, PAGE + 2 * size, PAGE, PROT_READ);
    const { bytes } = this.#producer;
    this.#reader = new RingReader(this.#consumer.bytes, bytes, new Uint8Array(bytes, PAGE), size);
  }

  /** As RingReader.drain(). */
  drain(take: (record: Uint8Array) => void): void {
    this.#reader.drain(take);
  }

  close(): void {
    this.#consumer.close();
    this.#producer.close();
  }
}

/** Waits, on a thread of the pool, until no program of the moment of the call is still running. */
export async function gracePeriod(): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  syscall.async(SYS_MEMBARRIER, MEMBARRIER_GLOBAL, 0, 0, (error: Error | null, result: number) =>
    error === null ? resolve(result) : reject(error),
  );
  if ((await promise) < 0) throw new Error('membarrier failed');
}

/** The same, holding up this thread: for when nothing is left to reuse. */
export function gracePeriodNow(): void {
  if ((syscall(SYS_MEMBARRIER, MEMBARRIER_GLOBAL, 0, 0) as number) < 0) {
    throw new SystemCallError('membarrier', koffi.errno());
  }
}
