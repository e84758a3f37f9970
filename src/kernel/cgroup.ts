// The root of cgroup2, where programs see the sockets of the whole machine.
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

const CGROUP2_MAGIC = 0x63677270;
/** Where a container finds its node's folders. */
const NODE_FOLDERS = '/host/';

/** What is mounted where, in the words of proc_pid_mountinfo(5), and the folder that a node's are in. */
type Seen = { readonly mounts?: string; readonly nodeFolders?: string };

/**
 * The folder of the node's root of cgroup2; null where none is mounted that this process sees. A container's own part of the tree
 * looks like a root there, but every cgroup except the machine's root has a type (cgroups(7)). A node that is a container itself has
 * only such a part, which is then what is mounted among the node's folders.
 */
export function cgroupRoot({ mounts = readMounts(), nodeFolders = NODE_FOLDERS }: Seen = {}): string | null {
  const folders = mounts.split('\n').flatMap(cgroupFolder).filter(isCgroup);
  const root = folders.find((folder) => !existsSync(join(folder, 'cgroup.type')));
  return root ?? folders.find((folder) => folder.startsWith(nodeFolders)) ?? null;
}

function readMounts(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8');
}

/** The fifth field is the mount point, the first one after the dash the file system's type. */
function cgroupFolder(line: string): readonly string[] {
  const [mount = '', kind = ''] = line.split(' - ');
  return kind.startsWith('cgroup2 ') ? [mount.split(' ')[4] ?? ''] : [];
}

/** Something else may be mounted over it. */
function isCgroup(folder: string): boolean {
  return existsSync(folder) && statfsSync(folder).type === CGROUP2_MAGIC;
}
