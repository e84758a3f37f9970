// Debian's kernels, from the mirror that this machine's own apt uses. apt is run with lists of its own, so that nothing of
// the machine's package state changes.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A kernel to be tried: the newest of `series` ('' = of any) among the suites. */
export type Wanted = { readonly name: string; readonly series: string; readonly suites: readonly string[] };

/** An unpacked kernel. */
export type Kernel = { readonly release: string; readonly image: string; readonly modules: string };

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** The flavour for virtual machines: the same sources, fewer drivers. */
const FLAVOUR = 'cloud-amd64';

/** Runs a program for its output. Throws with what it said on standard error. */
export function output(program: string, args: readonly string[], cwd?: string): string {
  return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 28 });
}

function mirror(): string {
  const lines = output('apt-get', ['indextargets', '--format', '$(REPO_URI) $(LABEL)', 'Created-By: Packages']);
  const uri = lines.match(/^(\S+) Debian$/m)?.[1];
  if (uri === undefined) throw new Error('apt knows no Debian mirror: kernels are taken from the one that it uses');
  return uri;
}

/** apt with its state in `folder`. */
class Apt {
  readonly #options: readonly string[];

  constructor(folder: string, suites: readonly string[]) {
    for (const each of ['lists/partial', 'archives/partial']) mkdirSync(join(folder, each), { recursive: true });
    const list = join(folder, 'sources.list');
    const uri = mirror();
    writeFileSync(list, suites.map((suite) => `deb [signed-by=${KEYRING}] ${uri} ${suite} main\n`).join(''));
    const settings = {
      'Dir::Etc::sourcelist': list,
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State': folder,
      'Dir::State::status': '/dev/null',
      'Dir::Cache': folder,
      'Acquire::Languages': 'none',
      'APT::Sandbox::User': 'root',
    };
    this.#options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  }

  update(): void {
    output('apt-get', [...this.#options, 'update']);
  }

  search(pattern: string): readonly string[] {
    const lines = output('apt-cache', [...this.#options, 'search', '--names-only', pattern]);
    return [...lines.matchAll(/^(\S+) - /gm)].map((match) => match[1] ?? '');
  }

  /** What a kernel's package is made of: newer ones are split into image and modules. */
  parts(name: string): readonly string[] {
    const lines = output('apt-cache', [...this.#options, 'depends', name]);
    return [name, ...[...lines.matchAll(/Depends: (linux-(?:binary|modules)-\S+)/g)].map((match) => match[1] ?? '')];
  }

  download(names: readonly string[], into: string): void {
    output('apt-get', [...this.#options, 'download', ...names], into);
  }
}

function newest(names: readonly string[], series: string): string {
  const versions = names.filter((name) => name.startsWith(`linux-image-${series}`) && !name.includes('unsigned'));
  const sorted = versions.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const last = sorted.at(-1);
  if (last === undefined) throw new Error(`Debian's mirror has no kernel ${series}*-${FLAVOUR}`);
  return last;
}

/** Fetches and unpacks a kernel below `store`, once. */
export function fetchKernel(wanted: Wanted, store: string): Kernel {
  const folder = join(store, wanted.name);
  const unpacked = join(folder, 'root');
  if (!existsSync(unpacked)) {
    const apt = new Apt(folder, wanted.suites);
    apt.update();
    const image = newest(apt.search(`^linux-image-[0-9].*-${FLAVOUR}$`), wanted.series);
    apt.download(apt.parts(image), folder);
    unpack(folder, unpacked);
  }
  return findKernel(unpacked);
}

/** All or nothing: an unpacked folder under its final name is whole. */
function unpack(folder: string, into: string): void {
  const half = `${into}.half`;
  rmSync(half, { recursive: true, force: true });
  const packages = readdirSync(folder).filter((name) => name.endsWith('.deb'));
  for (const name of packages) output('dpkg-deb', ['-x', join(folder, name), half]);
  for (const name of packages) rmSync(join(folder, name));
  for (const name of ['lists', 'archives', 'pkgcache.bin', 'srcpkgcache.bin']) {
    rmSync(join(folder, name), { recursive: true, force: true });
  }
  output('mv', [half, into]);
}

function findKernel(root: string): Kernel {
  const parent = ['lib/modules', 'usr/lib/modules'].map((path) => join(root, path)).find((path) => existsSync(path));
  const release = parent === undefined ? undefined : readdirSync(parent)[0];
  if (parent === undefined || release === undefined) throw new Error(`${root} has no kernel modules`);
  const modules = join(parent, release);
  const image = [join(root, 'boot', `vmlinuz-${release}`), join(modules, 'vmlinuz')].find((path) => existsSync(path));
  if (image === undefined) throw new Error(`${root} has no kernel image`);
  return { release, image, modules };
}
