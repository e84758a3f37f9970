// Memory shared with the kernel: mapped arrays, whose words are written in one store, and the ring of events.
import koffi from 'koffi';
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

/** An array map's elements (BPF_F_MMAPABLE), each rounded up to 8 bytes. */
export function mapArray(fd: number, valueSize: number, entries: number): SharedMemory {
  const size = Math.ceil((Math.ceil(valueSize / 8) * 8 * entries) / PAGE) * PAGE;
  return map(fd, size, 0, PROT_READ | PROT_WRITE);
}

const BUSY = 0x8000_0000;
const DISCARD = 0x4000_0000;
const HEADER = 8;

/** A BPF ring buffer, read without system calls. One reader only. */
export class Ring {
  readonly #consumer: SharedMemory;
  readonly #producer: SharedMemory;
  readonly #consumed: BigUint64Array;
  readonly #produced: BigUint64Array;
  readonly #data: Uint8Array;
  readonly #headers: Int32Array;
  readonly #mask: number;

  /** `size` is the map's max_entries: a power of two. */
  constructor(fd: number, size: number) {
    this.#consumer = map(fd, PAGE, 0, PROT_READ | PROT_WRITE);
    // The data pages stand twice in a row, so that no record is split.
    this.#producer = map(fd, PAGE + 2 * size, PAGE, PROT_READ);
    this.#consumed = new BigUint64Array(this.#consumer.bytes, 0, 1);
    this.#produced = new BigUint64Array(this.#producer.bytes, 0, 1);
    this.#data = new Uint8Array(this.#producer.bytes, PAGE);
    this.#headers = new Int32Array(this.#producer.bytes, PAGE);
    this.#mask = size - 1;
  }

  /** Gives each record to `take`, oldest first, until the ring is empty. The bytes are valid during the call only. */
  drain(take: (record: Uint8Array) => void): void {
    let at = Atomics.load(this.#consumed, 0);
    while (at < Atomics.load(this.#produced, 0)) {
      const offset = Number(at & BigInt(this.#mask));
      const header = Atomics.load(this.#headers, offset / 4) >>> 0;
      if (header & BUSY) return;
      const length = header & ~(BUSY | DISCARD);
      if (!(header & DISCARD)) take(this.#data.subarray(offset + HEADER, offset + HEADER + length));
      at += BigInt(Math.ceil((length + HEADER) / 8) * 8);
      Atomics.store(this.#consumed, 0, at);
    }
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
