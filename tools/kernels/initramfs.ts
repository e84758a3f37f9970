// The whole file system of a machine that runs the project's tests: this machine's Node and tools, the project, and the
// kernel's network modules. It is one archive, unpacked into memory when the kernel starts.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type Kernel, output } from './debian.ts';

/** Where the project stands in the guest. */
const PROJECT = '/moat';
const SOURCES = ['src', 'test', 'bpf', 'tools', 'examples', 'moat', 'package.json', 'build/bpf'];
/** What the tests call; the rest is busybox, whose shell would run its own `ip`. */
const TOOLS = ['/bin/sh', '/usr/sbin/ip', '/usr/sbin/tc', '/usr/sbin/bpftool', '/usr/bin/nsenter', '/usr/bin/unshare'];
const OPTIONAL_TOOLS = ['/usr/sbin/nft', '/usr/bin/setpriv', '/usr/sbin/conntrack'];
const FIREWALL = ['/usr/sbin/iptables', '/usr/sbin/ip6tables'];
const SCRIPTS = { 'init.sh': 'init', 'guest-clang.sh': 'bin/clang' };
const LIBRARIES = ['libbpf.so.1', 'libelf.so.1', 'libz.so.1'];
/** Of the kernel's modules; the last two are the port to the machine outside. A kernel that lacks one has it built in. */
const MODULES = [
  'kernel/net',
  'kernel/lib',
  'kernel/crypto',
  'kernel/drivers/net',
  'kernel/drivers/virtio',
  'kernel/drivers/char',
];
const APPLETS =
  'awk basename cat chmod cp cut date dirname dmesg env false find grep head id insmod kill ln ls mkdir mkfifo mktemp modprobe mount mv ps pwd readlink rm rmdir sed seq setsid sleep sort stat su tail tar test timeout touch tr true umount uname uniq wc xargs';

/** Writes the archive for one kernel and the tests to be run on it. */
export function writeInitramfs(kernel: Kernel, command: string, project: string, file: string): void {
  const root = `${file}.root`;
  rmSync(root, { recursive: true, force: true });
  for (const each of ['bin', 'sbin', 'proc', 'sys', 'dev', 'tmp', 'run', 'root', 'etc', 'var']) {
    mkdirSync(join(root, each), { recursive: true });
  }
  writePrograms(root);
  writeProject(root, project);
  writeModules(root, kernel);
  for (const [from, to] of Object.entries(SCRIPTS)) {
    cpSync(join(import.meta.dirname, from), join(root, to));
    chmodSync(join(root, to), 0o755);
  }
  writeFileSync(join(root, 'command'), command);
  pack(root, file);
  rmSync(root, { recursive: true });
}

function writePrograms(root: string): void {
  const tools = [...TOOLS, ...FIREWALL, ...OPTIONAL_TOOLS.filter((path) => existsSync(path))];
  const cached = output('ldconfig', ['-p']);
  const libraries = LIBRARIES.map((name) => {
    const path = cached.match(new RegExp(`=> (\\S*/${name.replaceAll('.', '\\.')})$`, 'm'))?.[1];
    if (path === undefined) throw new Error(`${name} is not installed`);
    return path;
  });
  const linked = [process.execPath, ...tools, ...libraries].flatMap((path) =>
    [...output('ldd', [path]).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? ''),
  );
  // iptables looks for its matches where its library really is.
  const library = linked.find((path) => path.includes('/libxtables.so'));
  if (library === undefined) throw new Error('iptables has no libxtables');
  const matches = join(dirname(realpathSync(library)), 'xtables');
  cpSync(matches, join(root, matches), { recursive: true });
  for (const path of new Set([...tools, ...libraries, ...linked])) copy(path, root);
  cpSync(process.execPath, join(root, 'bin/node'));
  cpSync('/bin/busybox', join(root, 'bin/busybox'));
  for (const name of APPLETS.split(' ')) symlinkSync('busybox', join(root, 'bin', name));
  // The kernel itself asks for modules there.
  symlinkSync('../bin/busybox', join(root, 'sbin/modprobe'));
  for (const path of ['/etc/ld.so.conf', '/etc/ld.so.conf.d']) cpSync(path, join(root, path), { recursive: true });
  // For `su nobody`, and for tests that become an unprivileged user.
  for (const path of ['/etc/passwd', '/etc/group']) cpSync(path, join(root, path));
  output('ldconfig', ['-r', root]);
}

function copy(path: string, root: string): void {
  mkdirSync(join(root, dirname(path)), { recursive: true });
  cpSync(realpathSync(path), join(root, path));
}

function writeProject(root: string, project: string): void {
  for (const path of SOURCES) cpSync(join(project, path), join(root, PROJECT, path), { recursive: true });
  const modules = join(project, 'node_modules');
  for (const name of runtimePackages(modules, project)) {
    cpSync(join(realpathSync(modules), name), join(root, PROJECT, 'node_modules', name), { recursive: true });
  }
  mkdirSync(join(root, PROJECT, '.moat'), { recursive: true });
  writeFileSync(join(root, PROJECT, '.moat/node'), '/bin/node\n');
}

/** What the sources import, and what that imports in turn; checkers and compilers stay behind. */
function runtimePackages(modules: string, project: string): ReadonlySet<string> {
  const found = new Set<string>();
  const visit = (names: readonly string[]): void => {
    for (const name of names) {
      if (found.has(name) || !existsSync(join(modules, name))) continue;
      found.add(name);
      visit(dependenciesOf(join(modules, name)));
    }
  };
  visit([...dependenciesOf(project), 'fast-check']);
  return found;
}

function dependenciesOf(folder: string): readonly string[] {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, object | undefined>;
  return Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
}

function writeModules(root: string, kernel: Kernel): void {
  const into = join(root, 'lib/modules', kernel.release);
  for (const path of MODULES.filter((each) => existsSync(join(kernel.modules, each)))) {
    cpSync(join(kernel.modules, path), join(into, path), {
      recursive: true,
      // Network cards stay behind, each in a folder of its own; what is virtual lies beside them.
      filter: (source) => !/\/drivers\/net\/(?!vxlan\b)[^/]+\//.test(source),
    });
  }
  for (const name of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo']) {
    if (existsSync(join(kernel.modules, name))) cpSync(join(kernel.modules, name), join(into, name));
  }
  const packed = globSync('**/*.ko.xz', { cwd: into }).map((path) => join(into, path));
  if (packed.length > 0) output('unxz', packed);
  output('busybox', ['depmod', '-b', root, kernel.release]);
}

function pack(root: string, file: string): void {
  const names = output('find', ['.'], root);
  const archive = openSync(file, 'w');
  try {
    execFileSync('cpio', ['--create', '--format=newc', '--quiet'], {
      cwd: root,
      input: names,
      stdio: ['pipe', archive, 'inherit'],
    });
  } finally {
    closeSync(archive);
  }
}
