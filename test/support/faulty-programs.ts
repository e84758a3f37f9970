// The kernel programs with a planted fault, built aside: what a test must notice.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildAside } from './programs-aside.ts';

/** In a file of bpf/, this text becomes that. */
export type ProgramFault = { readonly file: string; readonly from: string; readonly to: string };

/** Builds the programs with the faults and hands the object's path to `use`; takes everything away afterwards. */
export function withFaultyPrograms<T>(faults: readonly ProgramFault[], use: (object: string) => T): T {
  const { object, remove } = buildAside((bpf) => {
    for (const { file, from, to } of faults) {
      const path = join(bpf, file);
      const text = readFileSync(path, 'utf8');
      assert.ok(text.includes(from), `${file} no longer says: ${from}`);
      writeFileSync(path, text.replaceAll(from, to));
    }
  });
  try {
    return use(object);
  } finally {
    remove();
  }
}
