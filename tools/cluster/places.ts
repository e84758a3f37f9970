// What the cluster is called wherever it leaves something, and where its parts lie.
import { join } from 'node:path';

export const ROOT: string = join(import.meta.dirname, '../..');
const MOAT: string = join(ROOT, '.moat');

/** Folder, cgroups and interface of the one cluster that a computer has. */
export const NAME = 'moat-cluster';
/** Whose pins: no name that one would give to a sandbox, whose end removes the pins of its name. */
export const INSTANCE = 'moatcluster';
/** All files of the cluster, below the names of its machines. */
export const STATE: string = `/var/lib/${NAME}`;
/** Where a machine sees its own folder of STATE. */
export const INSIDE = '/mnt';

/** Programs of Kubernetes, and those of Debian that are unpacked here, so that this computer's own are left alone. */
export const KUBERNETES: string = join(MOAT, 'kubernetes/bin');
export const HELM: string = join(KUBERNETES, 'helm');
export const DEBIAN: string = join(MOAT, 'cluster/debian');
export const PAUSE: string = join(ROOT, 'build/cluster/pause');

/** Logs of the last cluster that did not come up. */
export const LOGS: string = join(MOAT, 'cluster/logs');

/** What whoever made the cluster uses it by. */
export const KUBECONFIG: string = join(MOAT, 'kubeconfig');
export const KUBECTL: string = join(MOAT, 'bin/kubectl');

export const CONTROL = 'control';
export const API_PORT = 6443;
export const POD_BLOCKS: readonly string[] = ['10.244.0.0/16', 'fd00:10:244::/56'];
export const SERVICE_BLOCKS: readonly string[] = ['10.96.0.0/16', 'fd00:10:96::/112'];
/** Where pods ask for names. */
export const DNS_ADDRESS = '10.96.0.10';

/** Addresses of the machine with this number: the control plane is 1, this computer 254. Blocks for tests of networks. */
export function addressesOf(number: number): { readonly 4: string; readonly 6: string } {
  return { 4: `198.18.0.${number}`, 6: `fd00:198:18::${number.toString(16)}` };
}
