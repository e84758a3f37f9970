// What a process has resident and may give back: files that it only reads, mostly code, most of which its start alone
// needed, and what malloc keeps for later.
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { SystemCallError } from './sockets.ts';

const libc = koffi.load('libc.so.6');
const trim = libc.func('int malloc_trim(size_t pad)');
const madvise = libc.func('int madvise(uintptr_t at, size_t size, int advice)');
/** Of a file's pages that nobody has written to: they are read from the page cache again where they are needed. */
const MADV_DONTNEED = 4;

type Mapping = { readonly at: bigint; readonly size: bigint };

/**
 * The mappings of /proc/PID/smaps that are a file's, may not be written, and have no page of their own: whatever is taken away
 * of them comes back as it was. A page that was written before it was protected (relocated addresses) is anonymous.
 */
export function fileMappings(smaps: string): readonly Mapping[] {
  return [...smaps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ [1-9]\d* +\/.*\n((?:[A-Z].*\n)+)/gm)].flatMap(
    ([, from, to, rest = '']) => {
      if (!/^Anonymous: +0 kB$/m.test(rest)) return [];
      const at = BigInt(`0x${from}`);
      return [{ at, size: BigInt(`0x${to}`) - at }];
    },
  );
}

/** Gives all of it back: what is needed again comes back by itself, from the page cache, for a microsecond a page. Throws SystemCallError. */
export function giveBack(): void {
  trim(0);
  for (const { at, size } of fileMappings(readFileSync('/proc/self/smaps', 'utf8'))) {
    if ((madvise(at, size, MADV_DONTNEED) as number) < 0) throw new SystemCallError('madvise', koffi.errno());
  }
}
