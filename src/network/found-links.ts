// Links of pods that somebody else made: which interface of this node is the other end of a pod's. Both ends must say so.
import { type Interface, readInterface, readInterfaces } from '#kernel/interfaces.ts';
import { askNetnsNumber, readNetnsNumber } from '#kernel/route-messages.ts';
import { Rtnetlink } from '#kernel/rtnetlink.ts';
import { closeSocket, inNetns, openNetns } from '#kernel/sockets.ts';
import { type AddressKey, formatAddress } from '#net/address.ts';

/** Both ends of a pod's link, of the node that this thread is in. */
export type FoundLink = {
  /** The node's end. */
  readonly hostInterface: string;
  readonly hostIndex: number;
  /** The pod's end. */
  readonly ifname: string;
  readonly mac: string;
  readonly addresses: readonly AddressKey[];
};

/** A link that can't have hooks: what it lacks. */
export class FoundLinkError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FoundLinkError';
  }
}

/** The link of a pod's interface. Throws FoundLinkError where it has no end on this node, and what system calls throw. */
export function findLink(netns: string, ifname: string): FoundLink {
  const [found, ...others] = findLinks(netns, (name) => name === ifname);
  if (found === undefined || others.length > 0) throw new FoundLinkError(`there is no ${ifname} in ${netns}`);
  if (typeof found === 'string') throw new FoundLinkError(found);
  return found;
}

/** Those of a pod's interfaces whose names are wanted; of one that has no end on this node, why not. */
export function findLinks(netns: string, isWanted: (ifname: string) => boolean): readonly (FoundLink | string)[] {
  const file = openNetns(netns);
  try {
    const inside = inNetns(file, readInterfaces).filter(({ name }) => isWanted(name));
    return inside.map((link) => {
      const host = otherEnd(file, link);
      if (typeof host === 'string') return `${link.name} in ${netns} ${host}`;
      const addresses = link.addresses.map(formatAddress);
      return {
        ...{ hostInterface: host.name, hostIndex: host.index, ifname: link.name },
        ...{ mac: formatMac(link.mac), addresses },
      };
    });
  } finally {
    closeSocket(file);
  }
}

/** The node's end of a link inside an open namespace; else why it has none. What the pod's end says is believed where this one agrees. */
function otherEnd(netns: number, { kind, index, other }: Interface): Interface | string {
  if (kind !== 'veth')
    return `is no veth (${kind === '' ? 'hardware' : kind}): it has no end on this node to put hooks on`;
  const host = other === null ? null : readInterface(other.index);
  if (host?.kind !== 'veth' || host.other?.index !== index || host.other.netns !== numberOf(netns)) {
    return 'has its other end somewhere else than on this node';
  }
  return host;
}

/** Which number this namespace gives another one; -1 where it gives none. */
function numberOf(netns: number): number {
  const socket = new Rtnetlink();
  try {
    const [outcome] = socket.ask([askNetnsNumber(netns)]);
    return outcome?.told.flatMap((told) => readNetnsNumber(told) ?? [])[0] ?? -1;
  } finally {
    socket.close();
  }
}

function formatMac(mac: Uint8Array): string {
  return Buffer.from(mac).toString('hex').match(/../g)?.join(':') ?? '';
}
