// The cgroups of the cluster: one of its name in each hierarchy, one below it for each machine. Every process of the cluster is
// in them, so they say what is the cluster's, whoever started it and whatever became of that one.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { NAME } from './places.ts';

const MOUNT = '/sys/fs/cgroup';
const CGROUP2_MAGIC = 0x63677270;
/** What a kubelet and a container runtime use, of cgroup v1. */
export const HIERARCHIES: readonly string[] = [
  ...['cpu', 'cpuacct', 'cpuset', 'memory', 'devices', 'freezer', 'blkio', 'pids', 'systemd'],
];
const END_LIMIT_MS = 30_000;

/** Throws where this computer's cgroups are not those that the machines are made with. */
export function requireCgroups(): void {
  const missing = HIERARCHIES.filter((name) => !existsSync(join(MOUNT, name, 'cgroup.procs')));
  if (missing.length === 0) return;
  const kind = statfsSync(MOUNT).type === CGROUP2_MAGIC ? 'this computer has cgroup v2 alone' : 'cgroup v1 lacks them';
  throw new Error(`machines are made with cgroup v1's ${missing.join(', ')}; ${kind}`);
}

/** Makes the cgroups of a machine, in which nothing runs yet. */
export function makeCgroups(machine: string): void {
  for (const hierarchy of HIERARCHIES) {
    const path = join(MOUNT, hierarchy, NAME, machine);
    mkdirSync(path, { recursive: true });
    if (hierarchy === 'cpuset') for (const each of [join(path, '..'), path]) inheritCpus(each);
  }
}

/** In sh: this process joins a machine's cgroups, with all that it will start. */
export function joining(machine: string): string {
  const files = HIERARCHIES.map((hierarchy) => join(MOUNT, hierarchy, NAME, machine, 'cgroup.procs'));
  return `for each in ${files.join(' ')}; do echo $$ >$each || exit 1; done;`;
}

/** cpuset(7): nothing runs in one that was given no CPU and no memory. */
function inheritCpus(path: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    writeFileSync(join(path, file), readFileSync(join(path, '..', file)));
  }
}

/** Numbers of the cluster's processes. */
export function processes(): readonly number[] {
  const found = new Set<number>();
  for (const folder of folders()) {
    for (const line of readText(join(folder, 'cgroup.procs')).split('\n')) if (line !== '') found.add(Number(line));
  }
  return [...found];
}

/** Ends every process of the cluster, and removes its cgroups. Returns how many processes there were. */
export async function removeCgroups(): Promise<number> {
  const first = processes();
  for (const end = performance.now() + END_LIMIT_MS; ; await pause(50)) {
    const left = processes();
    if (left.length === 0) break;
    if (performance.now() > end) throw new Error(`processes that do not end: ${left.join(' ')}`);
    for (const pid of left) kill(pid);
  }
  // A namespace's last process is gone before it is collected.
  for (const end = performance.now() + END_LIMIT_MS; folders().length > 0; await pause(20)) {
    for (const folder of folders().toReversed()) removeFolder(folder, performance.now() > end);
  }
  return first.length;
}

/** The cluster's cgroups in all hierarchies, each before those below it. */
function folders(): readonly string[] {
  const tops = HIERARCHIES.map((hierarchy) => join(MOUNT, hierarchy, NAME));
  return tops.filter((top) => existsSync(top)).flatMap(below);
}

function below(folder: string): readonly string[] {
  const entries = existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : [];
  return [folder, ...entries.filter((each) => each.isDirectory()).flatMap((each) => below(join(folder, each.name)))];
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function removeFolder(folder: string, last: boolean): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT' && (code !== 'EBUSY' || last)) throw error;
  }
}

/** Empty where the cgroup has just gone. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
