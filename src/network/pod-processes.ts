// In which network namespaces the processes of pods are: the kubelet puts each pod's processes into a cgroup that has the
// pod's uid in its path, whatever runtime runs them, and no pod can leave it.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A namespace that a process of the pod is in. The path is that of the process: ask `isStill` once it was used. */
export type PodNetns = { readonly uid: string; readonly path: string; readonly id: string };

/** A process of the pod that can't be looked at. */
export type HiddenProcess = { readonly uid: string; readonly why: string };

/** A uid is a UUID, or of a static pod a hash. systemd's names of cgroups have _ for -. */
const POD_CGROUP = /(?:^|[/-])pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./]|$)/m;

/**
 * Namespaces of these pods, each once; not the one that this thread is in, which pods on the node's own network share. Processes
 * of others are only asked whose they are: what can't be looked at of one is no matter of another pod's. `proc`: for tests.
 */
export function podNamespaces(uids: ReadonlySet<string>, proc = '/proc'): readonly (PodNetns | HiddenProcess)[] {
  const found = new Map<string, PodNetns | HiddenProcess>();
  const own = readlinkSync('/proc/thread-self/ns/net');
  for (const pid of readdirSync(proc).filter((name) => /^\d+$/.test(name))) {
    const one = look(`${proc}/${pid}`, uids);
    if (one === null) continue;
    if (!('id' in one)) found.set(`${one.uid} ${one.why}`, one);
    else if (one.id !== own) found.set(`${one.uid} ${one.id}`, one);
  }
  return [...found.values()];
}

/** The process that the path names is still the same pod's, in the same namespace. */
export function isStill({ uid, path, id }: PodNetns): boolean {
  const now = look(path.slice(0, -'/ns/net'.length), new Set([uid]));
  return now !== null && 'id' in now && now.id === id;
}

/** Null where it is none of these pods', or has ended. */
function look(process: string, uids: ReadonlySet<string>): PodNetns | HiddenProcess | null {
  const uid = ownerOf(process);
  if (uid === null || !uids.has(uid)) return null;
  const path = `${process}/ns/net`;
  try {
    return { uid, path, id: readlinkSync(path) };
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return null;
    return { uid, why: error instanceof Error ? error.message : String(error) };
  }
}

/** Null where it is no pod's, has ended, or does not say: then its pod, if it has one, is not found, which is told. */
function ownerOf(process: string): string | null {
  try {
    // The one nearest to the root is the kubelet's: below it, a pod may make some of its own.
    return podOf(readFileSync(`${process}/cgroup`, 'utf8'));
  } catch {
    return null;
  }
}

/** The uid in what /proc says of a process's cgroups; null where there is none. */
export function podOf(cgroups: string): string | null {
  return POD_CGROUP.exec(cgroups)?.[1]?.replaceAll('_', '-') ?? null;
}
