// The BPF file system that pins live in: it must be the host's own, or pins vanish with the process that made them.
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { dirname } from 'node:path';
import koffi from 'koffi';
import { strangeFolder } from './own-folder.ts';
import { SystemCallError } from './sockets.ts';

const BPFFS = '/sys/fs/bpf';
const BPF_FS_MAGIC = 0xcafe4a11;
const LOCK_EXCLUSIVE = 2;
const LOCK_NOW = 4;
const libc = koffi.load('libc.so.6');
const flock = libc.func('int flock(int fd, int operation)');
const mount = libc.func('int mount(const char *source, const char *target, const char *kind, ulong flags, void *data)');

/** There is no bpffs that outlives this process. One message, fit for people. */
export class BpffsError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BpffsError';
  }
}

/**
 * The directory of a node's pins, made if need be, readable by root alone. Throws BpffsError where there is no bpffs of
 * the host, or where somebody else made a directory there before: many machines let everybody write to the bpffs.
 */
export function pinDirectory(instance: string, node: string): string {
  mountBpffs();
  const path = pinPath(instance, node);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  for (let each = path; each !== BPFFS; each = dirname(each)) {
    const strange = strangeFolder(each);
    if (strange !== null) throw new BpffsError(`${strange}: remove it, and start again`);
  }
  return path;
}

/** Where a node's pins are, or would be. */
export function pinPath(instance: string, node: string): string {
  return `${BPFFS}/moat/${safeName(instance)}/${safeName(node)}`;
}

/**
 * Makes this process the only writer of a node's tables, until the descriptor is closed or the process ends, however
 * it ends. Throws BpffsError where another process is.
 */
export function lockPins(directory: string): number {
  const fd = openSync(directory, 'r');
  if ((flock(fd, LOCK_EXCLUSIVE | LOCK_NOW) as number) === 0) return fd;
  const cause = new SystemCallError('flock', koffi.errno());
  const holder = lockHolder(fd);
  closeSync(fd);
  const who = holder === null ? 'another process' : `another process (${holder})`;
  throw new BpffsError(`${who} runs the datapath of ${directory}: end it first`, { cause });
}

/** proc_locks(5): the number and name of the process that holds the lock on a file; null where this one can't see it. */
function lockHolder(fd: number): string | null {
  const { dev, ino } = fstatSync(fd);
  const device = [(dev >>> 8) & 0xfff, (dev & 0xff) | ((dev >>> 12) & 0xfff00)];
  const file = [...device.map((part) => part.toString(16).padStart(2, '0')), ino].join(':');
  const lines = readFileSync('/proc/locks', 'utf8').split('\n');
  const held = lines.map((line) => line.trim().split(/\s+/)).find((field) => field[1] === 'FLOCK' && field[5] === file);
  const name = `/proc/${held?.[4]}/comm`;
  return held !== undefined && existsSync(name) ? `${held[4]}, ${readFileSync(name, 'utf8').trim()}` : null;
}

/** Removes a node's pins: maps, programs and links go with their last holder. */
export function removePins(instance: string, node: string): void {
  checkHostBpffs();
  const directory = `${BPFFS}/moat/${safeName(instance)}`;
  rmSync(`${directory}/${safeName(node)}`, { recursive: true, force: true });
  if (existsSync(directory) && readdirSync(directory).length === 0) rmdirSync(directory);
  // The last node takes the instance's own directory along.
  if (existsSync(directory) && readdirSync(directory).length === 0) rmdirSync(directory);
}

/** Removes the pins of all nodes of an instance; returns whether there were any. Hooks without a pin or a holder end. */
export function removeInstancePins(instance: string): boolean {
  const directory = `${BPFFS}/moat/${safeName(instance)}`;
  if (!isBpffs() || !existsSync(directory)) return false;
  rmSync(directory, { recursive: true, force: true });
  return true;
}

/**
 * Makes sure of the host's bpffs: mounted where the machine has none, in the host's own mount namespace. Throws BpffsError
 * elsewhere, and where only this mount namespace sees the one that is there: a pin in it is gone with the namespace, and
 * traffic passes.
 */
export function mountBpffs(): void {
  if (
    !isBpffs() &&
    !isBareFolder() &&
    isHostNamespace() &&
    (mount('bpf', BPFFS, 'bpf', 0, 'mode=0700') as number) < 0
  ) {
    const cause = new SystemCallError('mount', koffi.errno());
    throw new BpffsError(`the BPF file system can't be mounted on ${BPFFS}`, { cause });
  }
  checkHostBpffs();
}

function checkHostBpffs(): void {
  if (!isBpffs()) {
    throw new BpffsError(`${BPFFS} is not a BPF file system: run \`mount -t bpf bpf ${BPFFS}\` on the host`);
  }
  if (!isHostPath(BPFFS)) {
    throw new BpffsError(
      `${BPFFS} is private to this mount namespace: bind the host's own (\`nsenter --net\` keeps it)`,
    );
  }
}

function isBpffs(): boolean {
  return statfsSync(BPFFS).type === BPF_FS_MAGIC;
}

/** The host's folder is mounted there, as a container gets it, and no bpffs is on it: one over it would be the container's own. */
function isBareFolder(): boolean {
  return mountsOf('self').some(({ path, root }) => path === BPFFS && root === '/fs/bpf');
}

/** True where process 1 has this path's file system mounted too, at whatever path. */
function isHostPath(path: string): boolean {
  const mine = mountsOf('self').findLast((mount) => mount.path === path);
  return mine !== undefined && mountsOf('1').some((mount) => mount.device === mine.device);
}

/** True where process 1 sees the very mounts that this one sees: a copy of a namespace has mounts of other numbers. */
function isHostNamespace(): boolean {
  return mountsOf('self')[0]?.id === mountsOf('1')[0]?.id;
}

/** `root`: what of its file system is mounted. */
type Mount = { readonly id: string; readonly device: string; readonly root: string; readonly path: string };

/**
 * proc_pid_mountinfo(5): the first field is the mount's number, the third the device, the fourth the root, the fifth the mount point. Later
 * mounts cover earlier ones.
 */
function mountsOf(process: string): readonly Mount[] {
  const lines = readFileSync(`/proc/${process}/mountinfo`, 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const fields = line.split(' ');
    return { id: fields[0] ?? '', device: fields[2] ?? '', root: fields[3] ?? '', path: fields[4] ?? '' };
  });
}

/** Pin names: what the bpffs takes (no dots), and never a path. */
function safeName(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(name)) throw new BpffsError(`"${name}" can't be part of a pin's path`);
  return name.replaceAll('.', '_');
}
