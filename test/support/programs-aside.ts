// The kernel programs, built aside from a changed copy of their sources.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

/** The object's path, until `remove`. */
export type ProgramsAside = { readonly object: string; readonly remove: () => void };

/** `edit` changes the copy of bpf/ in the folder that it is given. */
export function buildAside(edit: (bpf: string) => void): ProgramsAside {
  const folder = mkdtempSync(join(tmpdir(), 'moat-aside-'));
  const remove = (): void => rmSync(folder, { recursive: true });
  try {
    const bpf = join(folder, 'bpf');
    cpSync(join(ROOT, 'bpf'), bpf, { recursive: true });
    mkdirSync(join(folder, 'tools'));
    const build = join(folder, 'tools/build-bpf.sh');
    cpSync(join(ROOT, 'tools/build-bpf.sh'), build);
    edit(bpf);
    execFileSync('sh', [build], { stdio: ['ignore', 'ignore', 'pipe'] });
    return { object: join(folder, 'build/bpf/moat.bpf.o'), remove };
  } catch (cause) {
    remove();
    throw cause;
  }
}
