// Links of pods whose namespaces are somebody else's: made with the node's end down, raised, and taken away for good.
import { createHash } from 'node:crypto';
import { askLink, makeVeth, readLinkRecord, removeLink } from '#kernel/route-messages.ts';
import { Rtnetlink } from '#kernel/rtnetlink.ts';
import { closeSocket, inNetns, interfaceIndex, openNetns, SystemCallError } from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import { nodeSide, podSide } from './pod-routes.ts';
import { POD_SETTINGS, writeSettings } from './sysctl.ts';

export type PodLink = {
  /** The node's end. */
  readonly hostInterface: string;
  /** File of the pod's namespace, and the link's name in it. */
  readonly netns: string;
  readonly ifname: string;
  readonly mac: string;
  readonly hostMac: string;
  readonly addresses: readonly Address[];
  /** Of both ends, in bytes; null: the kernel's. */
  readonly mtu: number | null;
};

/** Names and hardware addresses of an attachment's link: the same whenever they are asked for, others for every other. */
export function linkNames(id: string): Pick<PodLink, 'hostInterface' | 'mac' | 'hostMac'> {
  const hash = createHash('sha256').update(id).digest('hex');
  const bytes = (hash.slice(0, 10).match(/../g) ?? []).join(':');
  // Locally administered. A name of an interface has 15 characters at most.
  return { hostInterface: `moat${hash.slice(0, 11)}`, mac: `02:${bytes}`, hostMac: `06:${bytes}` };
}

/** Makes links of the node whose namespace this process is in. Refusals of the kernel are SystemCallErrors. */
export class PodLinks {
  readonly #node: Rtnetlink = new Rtnetlink();

  /**
   * Makes the link, and everything inside the pod. The node's end is down: nothing passes. Returns the index of that end.
   * Throws for example where the pod has an interface of this name.
   */
  create(link: PodLink): number {
    const netns = openNetns(link.netns);
    try {
      const inside = inNetns(netns, () => {
        // Before the link: an interface takes its settings from the defaults of the moment it is made.
        writeSettings(POD_SETTINGS);
        return new Rtnetlink();
      });
      try {
        return this.#create(link, netns, inside);
      } finally {
        inside.close();
      }
    } finally {
      closeSocket(netns);
    }
  }

  #create({ hostInterface, ifname, mac, hostMac, addresses, mtu }: PodLink, netns: number, inside: Rtnetlink): number {
    const peer = { name: ifname, mac: macBytes(mac), netns };
    const veth = makeVeth({ name: hostInterface, mac: macBytes(hostMac), mtu, peer });
    const [made, found] = this.#node.ask([veth, askLink(hostInterface)]);
    if (made?.errno !== 0) throw new SystemCallError(`the link ${hostInterface}`, made?.errno ?? 0);
    const [link] = found?.told.flatMap((told) => readLinkRecord(told) ?? []) ?? [];
    if (!link?.other) throw new SystemCallError(`the link ${hostInterface}`, found?.errno ?? 0);
    const { index } = link.other;
    inside.change(`${ifname} inside the pod`, podSide({ index, gatewayMac: macBytes(hostMac), addresses }));
    return link.index;
  }

  /** Lets traffic in and out: the node's end goes up. */
  raise(index: number, { hostInterface, mac, addresses }: PodLink, nodeAddresses: readonly Address[]): void {
    const messages = nodeSide({ index, podMac: macBytes(mac), addresses, nodeAddresses });
    this.#node.change(`${hostInterface} on the node`, messages);
  }

  /** Takes the link away, where it is there. The kernel takes its time, which is another thread's. */
  async remove(hostInterface: string): Promise<void> {
    const index = interfaceIndex(hostInterface);
    if (index === 0) return;
    const socket = new Rtnetlink();
    try {
      await socket.changeAside(`the end of ${hostInterface}`, removeLink(index));
    } catch (error) {
      // It may have gone with its namespace meanwhile.
      if (!(error instanceof SystemCallError) || interfaceIndex(hostInterface) !== 0) throw error;
    } finally {
      socket.close();
    }
  }
}

function macBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}
