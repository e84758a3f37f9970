// What a node's agent leaves behind, taken away for good. Pods lose the links that were made for them before their policy
// goes, so that none is open in between: without a link nothing passes.
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { lockPins, pinPath } from '#kernel/bpffs.ts';
import { type Attachment, Attachments, attachmentId } from '#network/attachments.ts';
import { PodLinks } from '#network/pod-links.ts';
import { removePodNetwork } from '#network/pod-network.ts';
import { type CniPlaces, removeCni } from './cni-install.ts';

export type Traces = {
  readonly instance: string;
  readonly node: string;
  readonly agentSocket: string;
  readonly cniFolder: string;
  readonly cniPlaces: CniPlaces;
};

/** What was there, and is not any more. */
export type Removed = {
  readonly files: readonly string[];
  /** `namespace/name` of pods that have no network now. */
  readonly pods: readonly string[];
  /** `namespace/name` of pods whose network is another CNI's, and whom no policy judges now. */
  readonly open: readonly string[];
  /** The folder of hooks, programs and tables; null where there was none. */
  readonly pins: string | null;
};

/**
 * Removes the plugin and its configuration, the links of pods, routes and what else the network between nodes took, hooks, programs, tables and state. The calling thread must be
 * in the node's network namespace. Throws BpffsError where an agent still runs: nothing is removed then.
 */
export async function uninstallNode({ instance, node, agentSocket, cniFolder, cniPlaces }: Traces): Promise<Removed> {
  const directory = pinPath(instance, node);
  const pins = existsSync(directory) ? directory : null;
  // Held until the process ends: no agent starts meanwhile.
  if (pins !== null) lockPins(pins);
  const files = removeCni(cniPlaces);
  const found = existsSync(cniFolder) ? await removeLinks(cniFolder) : [];
  await removePodNetwork();
  if (pins !== null) unpinDatapath(instance, node);
  const state = [cniFolder, agentSocket].filter((path) => existsSync(path));
  for (const path of state) rmSync(path, { recursive: true });
  const folder = dirname(agentSocket);
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
  return { files: [...files, ...state], ...namesOf(found), pins };
}

/** Links that others made stay. Returns what was attached. */
async function removeLinks(cniFolder: string): Promise<readonly Attachment[]> {
  const attachments = new Attachments(join(cniFolder, 'attachments'));
  const links = new PodLinks();
  const found = attachments.inOrder;
  for (const { containerId, ifname, hostInterface, foreignIndex } of found) {
    if (foreignIndex === undefined) await links.remove(hostInterface);
    attachments.remove(attachmentId(containerId, ifname));
  }
  return found;
}

function namesOf(attachments: readonly Attachment[]): Pick<Removed, 'pods' | 'open'> {
  const named = (isForeign: boolean): readonly string[] =>
    attachments
      .filter(({ foreignIndex }) => (foreignIndex !== undefined) === isForeign)
      .map(({ pod }) => `${pod.namespace}/${pod.name}`);
  return { pods: named(false), open: named(true) };
}
