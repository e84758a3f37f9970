// Which routes, tunnel ends and pods' MTU follow from a cluster's nodes and this node's links. Pure.
import { hash } from 'node:crypto';
import { type Address, formatAddress } from '#net/address.ts';
import { type Cidr, cidrContains, hostCidr, maskAddress } from '#net/cidr.ts';
import { trustedBlocks } from './trusted-blocks.ts';

/** A node as its API object has it: its internal addresses, and the blocks that its pods get addresses from. */
export type ClusterNode = {
  readonly name: string;
  readonly addresses: readonly Address[];
  readonly podCidrs: readonly Cidr[];
};

/** An address of this node on one of its links that are up, loopback apart; `length` of its subnet's prefix. */
export type Subnet = {
  readonly index: number;
  readonly mtu: number;
  readonly address: Address;
  readonly length: number;
};

/** `auto`: directly where the other node is in a subnet of this one, else by the tunnel; `vxlan`: always by the tunnel. */
export type RouteMode = 'auto' | 'vxlan';

/** `index` null: by the tunnel. `fromPods`: for what pods send alone. */
export type PlannedRoute = {
  readonly destination: Cidr;
  readonly index: number | null;
  readonly gateway: Address;
  readonly source: Address | null;
  readonly fromPods: boolean;
};

/** Another node's end: frames to `mac` go to `address`; each gateway is that MAC's. */
export type TunnelEnd = {
  readonly mac: Uint8Array;
  readonly address: Address;
  readonly gateways: readonly Address[];
};

/** This node's end of the tunnel, and the others'. */
export type Tunnel = {
  readonly local: Address;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly ends: readonly TunnelEnd[];
};

export type NodePlan = {
  readonly routes: readonly PlannedRoute[];
  /** Null where this node has no address yet. */
  readonly tunnel: Tunnel | null;
  /** What a pod's link may carry; null where no link of this node is known. */
  readonly mtu: number | null;
  /** What can't be routed, and why. */
  readonly problems: readonly string[];
};

/** What VXLAN puts around a packet: Ethernet, VXLAN, UDP and IP headers. */
const OVERHEAD: Readonly<Record<4 | 6, number>> = { 4: 14 + 8 + 8 + 20, 6: 14 + 8 + 8 + 40 };

export type PlanInput = {
  readonly self: ClusterNode;
  /** Every node of the cluster, this one too or not. */
  readonly nodes: Iterable<ClusterNode>;
  readonly subnets: readonly Subnet[];
  readonly mode: RouteMode;
};

export function planNode({ self, nodes, subnets, mode }: PlanInput): NodePlan {
  const problems: string[] = [];
  const others = [...nodes].filter(({ name }) => name !== self.name).sort((a, b) => (a.name < b.name ? -1 : 1));
  const blocks = trustedBlocks([self, ...others], problems);
  const local = self.addresses.find(({ family }) => family === 4) ?? self.addresses[0];
  const routes: PlannedRoute[] = [];
  const ends: TunnelEnd[] = [];
  for (const { name, addresses } of others) {
    const own = blocks.get(name) ?? [];
    if (own.length === 0) continue;
    const direct = mode === 'vxlan' ? null : directRoutes(self, own, directEnds(addresses, subnets));
    const address = addresses.find(({ family }) => family === local?.family);
    if (direct !== null) routes.push(...direct);
    else if (address !== undefined) {
      routes.push(...tunnelRoutes(self, own, addresses));
      // A block's first address is no pod's.
      ends.push({ mac: macOf(name), address, gateways: own.map(({ address: first }) => first) });
    } else
      problems.push(
        `pods of node ${name} can't be reached: it has no InternalIP of IPv${local?.family ?? 4}, as this node has`,
      );
  }
  const uplinkMtu = mtuOf(self, subnets);
  const tunnelMtu = uplinkMtu === null ? null : uplinkMtu - OVERHEAD[local?.family ?? 4];
  return {
    routes,
    tunnel: local === undefined || tunnelMtu === null ? null : { local, mac: macOf(self.name), mtu: tunnelMtu, ends },
    mtu: ends.length > 0 ? tunnelMtu : uplinkMtu,
    problems,
  };
}

/** Null where a block's family is not spoken directly. */
function directRoutes(
  self: ClusterNode,
  blocks: readonly Cidr[],
  ends: ReturnType<typeof directEnds>,
): readonly PlannedRoute[] | null {
  const routes = blocks.flatMap((destination) => {
    const end = ends.get(destination.address.family);
    return end === undefined ? [] : { destination, ...end, source: sourceOf(self, destination), fromPods: false };
  });
  return routes.length === blocks.length ? routes : null;
}

function tunnelRoutes(
  self: ClusterNode,
  blocks: readonly Cidr[],
  addresses: readonly Address[],
): readonly PlannedRoute[] {
  const toPods = blocks.map((destination) => {
    const source = sourceOf(self, destination);
    return { destination, index: null, gateway: destination.address, source, fromPods: false };
  });
  // Whatever is between the nodes need not know pods' addresses, nor let them through.
  const toNode = addresses.flatMap((address) => {
    const block = blocks.find((each) => each.address.family === address.family);
    if (block === undefined) return [];
    return { destination: hostCidr(address), index: null, gateway: block.address, source: null, fromPods: true };
  });
  return [...toPods, ...toNode];
}

/** The hardware address of a node's end of the tunnel: everybody knows it by the node's name. */
export function macOf(node: string): Uint8Array {
  const bytes = hash('sha256', `moat tunnel ${node}`, 'buffer');
  // Locally administered.
  return Uint8Array.of(0x0a, ...bytes.subarray(0, 5));
}

/** Where each family's packets for a node go that is in a subnet of this one. */
function directEnds(
  addresses: readonly Address[],
  subnets: readonly Subnet[],
): ReadonlyMap<4 | 6, { readonly index: number; readonly gateway: Address }> {
  const found = addresses.flatMap((gateway) => {
    const subnet = subnets.find(({ address, length }) =>
      cidrContains({ address: maskAddress(address, length), length }, gateway),
    );
    return subnet === undefined ? [] : [[gateway.family, { index: subnet.index, gateway }] as const];
  });
  // The first address of a family counts.
  return new Map(found.reverse());
}

/** What pods' packets get through this node: links with its addresses, or any where the node has them elsewhere (on `lo`). */
function mtuOf(self: ClusterNode, subnets: readonly Subnet[]): number | null {
  const own = new Set<string>(self.addresses.map(formatAddress));
  const uplinks = subnets.filter(({ address }) => own.has(formatAddress(address)));
  const smallest = Math.min(...(uplinks.length > 0 ? uplinks : subnets).map(({ mtu }) => mtu));
  return Number.isFinite(smallest) ? smallest : null;
}

/** What this node speaks from to pods elsewhere: its internal address, by which they know it. */
function sourceOf({ addresses }: ClusterNode, { address }: Cidr): Address | null {
  return addresses.find(({ family }) => family === address.family) ?? null;
}
