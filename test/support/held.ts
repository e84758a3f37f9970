// What a process holds once its garbage is gone. What is resident says less: that moves by megabytes with what V8 and malloc
// keep for later, and grows for half an hour with code that has become worth compiling.
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import koffi from 'koffi';

/** In bytes. `data`: what JavaScript can reach, without compiled code. `native`: what malloc gave out, and buffers. */
export type Held = { readonly data: number; readonly code: number; readonly native: number };

const CODE: ReadonlySet<string> = new Set(['code_space', 'code_large_object_space', 'trusted_space']);

const FIELDS = 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split(' ');
const INFO = koffi.struct('mallinfo2', Object.fromEntries(FIELDS.map((name) => [name, 'size_t'])));
const mallinfo = koffi.load('libc.so.6').func('mallinfo2', INFO, []);
let collect: (() => void) | null = null;

/** Collects the garbage of this process, which holds it up for some ten milliseconds, and says what is left. */
export function held(): Held {
  if (collect === null) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
  let [data, code] = [0, 0];
  for (const { space_name, space_used_size } of getHeapSpaceStatistics()) {
    if (CODE.has(space_name)) code += space_used_size;
    else data += space_used_size;
  }
  const { uordblks, hblkhd } = mallinfo() as { readonly uordblks: number; readonly hblkhd: number };
  return { data, code, native: uordblks + hblkhd };
}
