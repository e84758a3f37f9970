// What is in the agent's image, put together in a folder: Node, iproute2, nft and the libraries that they and the agent load, the
// project's code with its types stripped, its kernel programs, and the CNI plugin. Nothing that builds, no shell.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { locate, makeFolders, needs, target } from './programs.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Loaded by name, while the agent runs (src/kernel). */
const LOADED = ['libbpf.so.1', 'libc.so.6'];
const BUILT = ['build/bpf/moat.bpf.o', 'build/bpf/host.bpf.o', 'build/cni/moat-cni'];
/** Of the packages, what only those read who build or learn them. */
const NOT_RUN = /\/(vendor|docs?|tests?|examples?|CHANGELOG\.md)(\/|$)|\.(d\.[cm]?ts|map|cc|hh|[chS]|asm)$/;
/** `moat` for people in a container that has no shell. */
const COMMAND = "#!/usr/bin/node\nawait import('/moat/src/main/moat.js');\n";

/** Makes the folder anew. Needs what `make setup` brings, and the CNI plugin built. */
export function makeRoot(root: string): void {
  makeFolders(root);
  mkdirSync(join(root, 'moat'));
  symlinkSync('/run', join(root, 'var/run'));
  const programs = {
    node: readFileSync(join(ROOT, '.moat/node'), 'utf8').trim(),
    ip: locate('ip'),
    nft: locate('nft'),
  };
  copyFileSync(programs.node, join(root, 'usr/bin/node'));
  execFileSync('strip', [join(root, 'usr/bin/node')]);
  for (const name of ['ip', 'nft'] as const) copyFileSync(programs[name], join(root, 'usr/sbin', name));
  const libraries = new Set([...Object.values(programs), ...LOADED.map(library)].flatMap(needs));
  for (const each of libraries) copyFileSync(each, target(root, each));
  for (const each of [programs.ip, programs.nft, ...libraries]) copyLicence(root, each);
  copyCode(root);
  copyPackages(root);
}

/** Where the dynamic linker finds a library. */
function library(name: string): string {
  const found = new RegExp(
    `^\\s*${name.replaceAll('.', '\\.')} .*x86-64.*=> (\\S+)$|^\\s*${name.replaceAll('.', '\\.')} .*AArch64.*=> (\\S+)$`,
    'm',
  );
  const [, x64, arm64] = found.exec(execFileSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' })) ?? [];
  const path = x64 ?? arm64;
  if (path === undefined) throw new Error(`${name} is not installed`);
  return path;
}

/** Debian's file of the package that brought a file, which may know it by its place before /usr had all. */
function copyLicence(root: string, path: string): void {
  const real = realpathSync(path);
  const { stdout } = spawnSync('dpkg', ['-S', real, real.replace(/^\/usr/, '')], { encoding: 'utf8' });
  const owner = stdout.split(':')[0];
  if (!owner) throw new Error(`no package of Debian has ${real}`);
  const file = `/usr/share/doc/${owner}/copyright`;
  mkdirSync(join(root, dirname(file)), { recursive: true });
  copyFileSync(file, join(root, file));
}

/** Compiled to JavaScript: the agent needs no compiler, and the memory that one takes. Lines stay where they are. */
function copyCode(root: string): void {
  const moat = join(root, 'moat');
  const sources = globSync('src/**/*.ts', { cwd: ROOT }).filter((path) => !/\.test\.ts$|\/conformance/.test(path));
  for (const path of sources) {
    const file = join(moat, path.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(file), { recursive: true });
    const code = stripTypeScriptTypes(readFileSync(join(ROOT, path), 'utf8'), { mode: 'strip' });
    writeFileSync(file, code.replaceAll(".ts'", ".js'"));
  }
  for (const path of [...BUILT, 'LICENSE']) {
    mkdirSync(dirname(join(moat, path)), { recursive: true });
    copyFileSync(join(ROOT, path), join(moat, path));
  }
  const { name, version, type, imports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  writeFileSync(join(moat, 'package.json'), JSON.stringify({ name, version, type, imports: { '#*': imports['#*'] } }));
  mkdirSync(join(moat, 'bin'));
  writeFileSync(join(moat, 'bin/moat'), COMMAND);
  chmodSync(join(moat, 'bin/moat'), 0o755);
  symlinkSync('/moat/bin/moat', join(root, 'usr/bin/moat'));
}

/** What package-lock.json names for running, as far as it is for this machine. */
function copyPackages(root: string): void {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as Lock;
  const wanted = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  for (const [path, { optional }] of wanted) {
    const from = join(ROOT, path);
    if (!existsSync(from) && optional === true) continue;
    cpSync(realpathSync(from), join(root, 'moat', path), {
      recursive: true,
      filter: (file) => !NOT_RUN.test(file.slice(realpathSync(from).length)),
    });
  }
}

type Lock = { readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>> };
