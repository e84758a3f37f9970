// The `ip` commands that join a pod to its node: plain routes over a veth, no bridge. The gateway is no address of anybody's.
import { type Address, formatAddress } from '#net/address.ts';

import { GATEWAY } from '#network/pod-routes.ts';

type PodSide = { readonly device: string; readonly gatewayMac: string; readonly addresses: readonly Address[] };

/** Inside the pod: its addresses, and the ways out for the families that it speaks. */
export function podSideLines({ device, gatewayMac, addresses }: PodSide): readonly string[] {
  const families = ([4, 6] as const).filter((family) => addresses.some((address) => address.family === family));
  return [
    'link set lo up',
    `link set ${device} up`,
    ...addresses.map((address) => `addr add ${hostPrefix(address)} dev ${device} nodad`),
    ...families.flatMap((family) => gatewayLines(family, { device, mac: gatewayMac, addresses })),
  ];
}

type Gateway = { readonly device: string; readonly mac: string; readonly addresses: readonly Address[] };

/** Permanent neighbours: no ARP or NDP is needed, so none can be spoofed or lost. */
export function gatewayLines(family: 4 | 6, { device, mac, addresses }: Gateway): readonly string[] {
  const own = addresses.find((address) => address.family === family);
  const source = own === undefined ? '' : ` src ${formatAddress(own)}`;
  return [
    `neigh replace ${formatAddress(GATEWAY[family])} lladdr ${mac} dev ${device} nud permanent`,
    `route replace default via ${formatAddress(GATEWAY[family])} dev ${device} onlink${source}`,
  ];
}

type HostSide = {
  readonly device: string;
  readonly podMac: string;
  readonly addresses: readonly Address[];
  readonly nodeAddresses: readonly Address[];
};

/** On the node: from here on packets pass. `src` makes the node speak to its own pods from its own address, as a kubelet does. */
export function hostSideLines({ device, podMac, addresses, nodeAddresses }: HostSide): readonly string[] {
  const routes = addresses.flatMap((address) => {
    const own = nodeAddresses.find((candidate) => candidate.family === address.family);
    const source = own === undefined ? '' : ` src ${formatAddress(own)}`;
    return [
      `neigh replace ${formatAddress(address)} lladdr ${podMac} dev ${device} nud permanent`,
      `route replace ${hostPrefix(address)} dev ${device}${source}`,
    ];
  });
  return [`link set ${device} up`, ...routes];
}

/** The block of one address, as text. */
export function hostPrefix(address: Address): string {
  return `${formatAddress(address)}/${address.family === 4 ? 32 : 128}`;
}
