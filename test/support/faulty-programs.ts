// The kernel programs with a planted fault, built aside: what a test must notice.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

/** In a file of bpf/, this text becomes that. */
export type ProgramFault = { readonly file: string; readonly from: string; readonly to: string };

/** Builds the programs with the faults and hands the object's path to `use`; takes everything away afterwards. */
export function withFaultyPrograms<T>(faults: readonly ProgramFault[], use: (object: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'moat-faulty-'));
  try {
    cpSync(join(ROOT, 'bpf'), join(folder, 'bpf'), { recursive: true });
    mkdirSync(join(folder, 'tools'));
    cpSync(join(ROOT, 'tools/build-bpf.sh'), join(folder, 'tools/build-bpf.sh'));
    for (const { file, from, to } of faults) {
      const path = join(folder, 'bpf', file);
      const text = readFileSync(path, 'utf8');
      assert.ok(text.includes(from), `${file} no longer says: ${from}`);
      writeFileSync(path, text.replaceAll(from, to));
    }
    execFileSync('sh', [join(folder, 'tools/build-bpf.sh')], { stdio: ['ignore', 'ignore', 'pipe'] });
    return use(join(folder, 'build/bpf/moat.bpf.o'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
