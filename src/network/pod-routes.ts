// What joins a pod to its node, as messages for the kernel: plain routes over a veth, no bridge. The gateway is no address
// of anybody's.
import type { Message } from '#kernel/netlink.ts';
import { addAddress, raiseLink, setNeighbour, setRoute } from '#kernel/route-messages.ts';
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';

/** Next hops that exist on every link and nowhere else: the same for every pod, whatever its addresses. */
export const GATEWAY: Readonly<Record<4 | 6, Address>> = {
  4: { family: 4, words: [0xa9fe_0101] },
  6: { family: 6, words: [0xfe80_0000, 0, 0, 1] },
};

const EVERYWHERE: Readonly<Record<4 | 6, Cidr>> = {
  4: { address: { family: 4, words: [0] }, length: 0 },
  6: { address: { family: 6, words: [0, 0, 0, 0] }, length: 0 },
};

/** A loopback interface has this index in every namespace. */
const LOOPBACK = 1;

/** `index`: of the link inside the pod. */
type PodSide = { readonly index: number; readonly gatewayMac: Uint8Array; readonly addresses: readonly Address[] };

/** Inside the pod: its addresses, and the ways out for the families that it speaks. */
export function podSide({ index, gatewayMac, addresses }: PodSide): readonly Message[] {
  const families = ([4, 6] as const).filter((family) => addresses.some((address) => address.family === family));
  return [
    raiseLink(LOOPBACK),
    raiseLink(index),
    ...addresses.map((address) => addAddress(index, address)),
    // Permanent neighbours: no ARP or NDP is needed, so none can be spoofed or lost.
    ...families.map((family) => setNeighbour(index, GATEWAY[family], gatewayMac)),
    ...families.map((family) => {
      const source = addresses.find((address) => address.family === family) ?? null;
      return setRoute({ index, destination: EVERYWHERE[family], gateway: GATEWAY[family], source });
    }),
  ];
}

/** `index`: of the node's end. */
type NodeSide = {
  readonly index: number;
  readonly podMac: Uint8Array;
  readonly addresses: readonly Address[];
  readonly nodeAddresses: readonly Address[];
};

/** On the node: from here on packets pass. The source makes the node speak to its own pods from its own address, as a kubelet does. */
export function nodeSide({ index, podMac, addresses, nodeAddresses }: NodeSide): readonly Message[] {
  return [
    raiseLink(index),
    ...addresses.flatMap((address) => {
      const source = nodeAddresses.find(({ family }) => family === address.family) ?? null;
      const destination = { address, length: address.words.length * 32 };
      return [setNeighbour(index, address, podMac), setRoute({ index, destination, gateway: null, source })];
    }),
  ];
}
