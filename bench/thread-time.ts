// This thread's processor time, exactly: what Node tells of it moves in steps of the scheduler's tick, 4 ms.
import koffi from 'koffi';

const clockGetTime = koffi.load('libc.so.6').func('int clock_gettime(int clock, void *into)');
const CLOCK_THREAD_CPUTIME_ID = 3;

/** Nanoseconds. */
export function threadTimeNs(): number {
  const into = new BigInt64Array(2);
  if (clockGetTime(CLOCK_THREAD_CPUTIME_ID, into) !== 0) throw new Error('clock_gettime failed');
  return Number(into[0]) * 1e9 + Number(into[1]);
}
