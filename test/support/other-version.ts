// Another version of the project for tests of upgrades: its sources with other layouts, built in a folder of its own.
// Nothing here knows today's layouts: structs are found by their names, and get a field more at their beginning.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const COPIED = ['src', 'bpf', 'test', 'tools', 'package.json'] as const;
const LINKED = ['node_modules', '.moat'] as const;
/** Structs that outlive a process; all of them are read or written by user space, too. */
const MOVED = ['endpoint', 'state', 'ct_key', 'ct_value', 'set_slot'] as const;

export type OtherVersion = { readonly root: string; readonly remove: () => void };

/** The next version: every layout that outlives a process has changed, by so many words. */
export function makeNextVersion(words: 1 | 2 = 2): OtherVersion {
  return makeVersion(words, (abi) => abi);
}

/** A version whose connections have no field of a name that this one needs. */
export function makeForeignVersion(field: string): OtherVersion {
  return makeVersion(2, (abi) => `#define ${field} ${field}_of_another_version\n${abi}`);
}

function makeVersion(words: number, change: (abi: string) => string): OtherVersion {
  const root = mkdtempSync(join(tmpdir(), 'moat-version-'));
  for (const name of COPIED) cpSync(join(ROOT, name), join(root, name), { recursive: true });
  for (const name of LINKED) symlinkSync(join(ROOT, name), join(root, name));
  const header = join(root, 'bpf/abi.h');
  const raised = raiseVersion(readFileSync(header, 'utf8'), words);
  writeFileSync(header, change(MOVED.reduce((abi, struct) => moveFields(abi, struct, words), raised)));
  execFileSync('sh', ['tools/build-bpf.sh'], { cwd: root, stdio: 'pipe' });
  execFileSync(process.execPath, ['tools/gen-abi.ts'], { cwd: root, stdio: 'pipe' });
  return { root, remove: () => rmSync(root, { recursive: true, force: true }) };
}

function raiseVersion(abi: string, words: number): string {
  const raised = abi.replace(/(ABI_VERSION_CURRENT = )(\d+)/, (_, name: string, number: string) => {
    return `${name}${Number(number) + 1000 * words}`;
  });
  if (raised === abi) throw new Error('bpf/abi.h has no version');
  return raised;
}

/** More words at the beginning of a struct. In a key they are no field, but room. */
function moveFields(abi: string, struct: string, words: number): string {
  const name = struct.endsWith('_key') ? 'pad9' : 'of_another_version';
  const moved = abi
    .replace(new RegExp(`^struct ${struct} \\{\\n`, 'm'), (found) => `${found}\t__u64 ${name}[${words}];\n`)
    .replace(new RegExp(`^_Static_assert\\(sizeof\\(struct ${struct}\\)[^;]*;\\n`, 'm'), '');
  if (!moved.includes(`struct ${struct} {\n\t__u64 ${name}`)) throw new Error(`bpf/abi.h has no struct ${struct}`);
  return moved;
}
