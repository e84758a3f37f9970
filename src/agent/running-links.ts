// The links of pods that run and were attached without Moat. What a namespace says of itself is believed only about itself:
// whose it is, the kubelet's cgroups tell.
import { formatAddress } from '#net/address.ts';
import { type FoundLink, findLinks } from '#network/found-links.ts';
import { type HiddenProcess, isStill, type PodNetns, podNamespaces } from '#network/pod-processes.ts';
import type { Pod } from '#policy/world.ts';

/** Why a pod has no link that can have hooks. `runs`: something of it was found. */
export type Unfit = { readonly why: string; readonly runs: boolean };

/** Looks for the link of each pod. */
export type FindRunning = (pods: readonly Pod[]) => ReadonlyMap<Pod, FoundLink | Unfit>;

export const findRunning: FindRunning = (pods) => {
  try {
    const uids = new Set(pods.flatMap(({ uid }) => uid ?? []));
    const namespaces = Map.groupBy(podNamespaces(uids), ({ uid }) => uid);
    return new Map(pods.map((pod) => [pod, linkOf(pod, namespaces.get(pod.uid ?? '') ?? [])]));
  } catch (error) {
    const why = `processes can't be looked at: ${messageOf(error)}`;
    return new Map(pods.map((pod) => [pod, { why, runs: true }]));
  }
};

function linkOf(pod: Pod, found: readonly (PodNetns | HiddenProcess)[]): FoundLink | Unfit {
  const hidden = found.flatMap((each) => ('why' in each ? [each.why] : []));
  const namespaces = found.flatMap((each) => ('id' in each ? [each] : []));
  if (namespaces.length === 0) {
    if (hidden[0] !== undefined) return { why: `a process of it can't be looked at: ${hidden[0]}`, runs: true };
    return { why: 'no process of it was found in a network namespace of its own', runs: false };
  }
  const all = namespaces.flatMap((netns) => {
    const links = lookInto(netns);
    return isStill(netns) ? links : [];
  });
  const links = all.filter((link) => typeof link !== 'string');
  const wanted = new Set(pod.addresses.map(formatAddress));
  const fitting = links.filter(({ addresses }) => addresses.some((address) => wanted.has(address)));
  // A pod that may change its addresses can't get rid of its policy by that.
  const [only, ...others] = fitting.length === 0 ? links : fitting;
  if (only !== undefined && others.length === 0) return only;
  const [reason] = all.filter((link) => typeof link === 'string');
  if (only === undefined) {
    return { why: reason ?? 'its network namespace has no interface', runs: reason !== undefined };
  }
  const names = [only, ...others].map(({ ifname }) => ifname).join(', ');
  return { why: `${others.length + 1} interfaces of it may be meant (${names})`, runs: true };
}

function lookInto({ path }: PodNetns): readonly (FoundLink | string)[] {
  try {
    return findLinks(path, (name) => name !== 'lo');
  } catch (error) {
    return [messageOf(error)];
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
