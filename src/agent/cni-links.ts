// Links of attachments as they are found: those that other plugins made when a pod is attached, and all of them when a
// runtime asks whether everything is still there. Throws CniError, with the code that a runtime is to be told.
import { statSync } from 'node:fs';
import { readInterface } from '#kernel/interfaces.ts';
import { interfaceIndex } from '#kernel/sockets.ts';
import type { AddressKey } from '#net/address.ts';
import type { Attachment, AttachmentId } from '#network/attachments.ts';
import { type FoundLink, FoundLinkError, findLink } from '#network/found-links.ts';
import { ipJson } from '#network/ip.ts';
import { podKey } from '#policy/world.ts';
import { type Check, CniError } from './cni-call.ts';
import type { AttachRequest } from './protocol.ts';

export function attachRequest({ pod, mac, addresses, adoptUntilMs }: Attachment, index: number): AttachRequest {
  const adopted = adoptUntilMs === undefined ? {} : { adoptUntilMs };
  return { pod: podKey(pod.namespace, pod.name), interfaceIndex: index, mac, addresses, ...adopted };
}

/** The index of the node's end; 0 where it is gone. What others made may be renamed; no index is used twice. */
export function hostIndex({ hostInterface, foreignIndex }: Attachment): number {
  if (foreignIndex === undefined) return interfaceIndex(hostInterface);
  return readInterface(foreignIndex) === null ? 0 : foreignIndex;
}

/** A pod on the node's own network would be given away as one of its links. */
export function checkNetns(path: string): void {
  const [theirs, own] = [path, '/proc/thread-self/ns/net'].map((file) => statSync(file, { throwIfNoEntry: false }));
  if (theirs === undefined) throw new CniError('environment', `CNI_NETNS: there is no ${path}`);
  if (theirs.ino === own?.ino && theirs.dev === own.dev) {
    throw new CniError('environment', `CNI_NETNS: ${path} is the node's own`);
  }
}

/** The link that a plugin before this one made: it is there, on both ends, and has the addresses that were told. */
export function findWhole(netns: string, ifname: string, addresses: readonly AddressKey[]): FoundLink {
  const link = find(netns, ifname, 'link');
  const missing = addresses.filter((each) => !link.addresses.includes(each));
  if (missing.length === 0) return link;
  throw new CniError('link', `${ifname} in ${netns} lacks ${missing.join(', ')}, which prevResult has`);
}

/** Whether the link of an attachment is as ADD left it. */
export async function checkLink(
  id: AttachmentId,
  attachment: Attachment,
  { netns, expected }: Pick<Check, 'netns' | 'expected'>,
): Promise<void> {
  const { hostInterface, ifname, addresses, foreignIndex } = attachment;
  // Others' addresses may have any length.
  const shown = (prefix: string): string => (foreignIndex === undefined ? prefix : (prefix.split('/')[0] ?? ''));
  const wanted = addresses.map((address) => shown(`${address}/${address.includes(':') ? 128 : 32}`));
  const strange = expected?.filter((prefix) => !wanted.includes(shown(prefix))) ?? [];
  if (strange.length > 0) throw new CniError('check', `${id} does not have ${strange.join(', ')}`);
  if (hostIndex(attachment) === 0) throw new CniError('check', `${hostInterface} of ${id} is gone`);
  const inside = new Set((await addressesInside(netns, ifname)).map(shown));
  const missing = wanted.filter((prefix) => !inside.has(prefix));
  if (missing.length > 0) throw new CniError('check', `${ifname} in ${netns} lacks ${missing.join(', ')}`);
  if (foreignIndex !== undefined && find(netns, ifname, 'check').hostIndex !== foreignIndex) {
    throw new CniError('check', `${ifname} in ${netns} is not the other end of ${hostInterface}`);
  }
}

function find(netns: string, ifname: string, code: 'link' | 'check'): FoundLink {
  try {
    return findLink(netns, ifname);
  } catch (error) {
    if (error instanceof FoundLinkError) throw new CniError(code, error.message);
    throw error;
  }
}

type IpAddress = { readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[] };

async function addressesInside(netns: string, ifname: string): Promise<readonly string[]> {
  try {
    const found = (await ipJson(netns, ['address', 'show', 'dev', ifname, 'up'])) as readonly IpAddress[];
    const infos = found.flatMap(({ addr_info }) => addr_info ?? []);
    return infos.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  } catch (error) {
    throw new CniError('check', `${ifname} in ${netns} can't be looked at`, error);
  }
}
