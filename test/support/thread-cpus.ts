// Which CPUs the calling thread may run on.
import koffi from 'koffi';
import { SystemCallError } from '#kernel/sockets.ts';

const libc = koffi.load('libc.so.6');
const getAffinity = libc.func('int sched_getaffinity(int thread, size_t size, uint8_t *mask)');
const setAffinity = libc.func('int sched_setaffinity(int thread, size_t size, const uint8_t *mask)');

/** Of the kernel's cpu_set_t; enough for 1024 CPUs. */
const MASK_BYTES = 128;

/** In rising order. Throws SystemCallError. */
export function threadCpus(): readonly number[] {
  const mask = Buffer.alloc(MASK_BYTES);
  if ((getAffinity(0, MASK_BYTES, mask) as number) < 0) throw new SystemCallError('sched_getaffinity', koffi.errno());
  return [...mask].flatMap((byte, index) =>
    [0, 1, 2, 3, 4, 5, 6, 7].flatMap((bit) => (byte & (1 << bit) ? index * 8 + bit : [])),
  );
}

/** Threads that it starts from now on may run there, too, and nowhere else. Throws SystemCallError. */
export function keepThreadOn(cpus: readonly number[]): void {
  const mask = Buffer.alloc(MASK_BYTES);
  for (const cpu of cpus) mask.writeUInt8(mask.readUInt8(cpu >> 3) | (1 << (cpu & 7)), cpu >> 3);
  if ((setAffinity(0, MASK_BYTES, mask) as number) < 0) throw new SystemCallError('sched_setaffinity', koffi.errno());
}
