// The measured pods' links and routes, the same for whoever judges their packets: a client and two servers, one of
// them on the client's node. Without a datapath this is plain kernel routing.
import { type Address, formatAddress } from '#net/address.ts';
import type { Pod } from '#policy/world.ts';
import { netnsPath } from '#sandbox/names.ts';
import { type NodeNetns, type PodNetns, SandboxNetwork } from '#sandbox/network.ts';
import { address, NODE } from './load.ts';

/** One client and one server: `near` on one node, `far` on two. */
export type Pair = {
  readonly name: string;
  readonly client: string;
  readonly server: string;
  readonly address: string;
};

export type End = 'near' | 'far';

type NodeSpec = { readonly name: string; readonly addresses: readonly Address[] };

/** The client's node, and the other one. */
export const NODES: readonly [NodeSpec, NodeSpec] = [
  { name: NODE, addresses: [address(0xac1f_0001)] },
  { name: 'second', addresses: [address(0xac1f_0002)] },
];

/** Namespaces, links and routes; pods' links are down until `raise`. */
export class BenchNetwork {
  readonly #network: SandboxNetwork;
  readonly nodes: readonly NodeNetns[];
  readonly pods: readonly PodNetns[];

  private constructor(network: SandboxNetwork, nodes: readonly NodeNetns[], pods: readonly PodNetns[]) {
    this.#network = network;
    this.nodes = nodes;
    this.pods = pods;
  }

  /** Makes the network of a client, a server on its node and a server on the other node. */
  static async make(instance: string, measured: readonly Pod[]): Promise<BenchNetwork> {
    const network = new SandboxNetwork(instance);
    await network.destroy();
    await network.createWorld();
    const nodes = await network.createNodes(NODES);
    const specs = measured.map(({ key, addresses, node }) => {
      const place = nodes.find(({ name }) => name === node);
      if (place === undefined) throw new Error(`the bench has no node ${node}`);
      return { key, addresses, node: place };
    });
    return new BenchNetwork(network, nodes, await network.createPods(specs));
  }

  /** The namespace of everything that is outside the two nodes. */
  get world(): string {
    return this.#network.world;
  }

  get network(): SandboxNetwork {
    return this.#network;
  }

  async raise(): Promise<void> {
    await this.#network.raisePods(this.pods);
  }

  /** The pair of the client and one of the servers, under this name. */
  pair(name: string, end: End): Pair {
    const [client, near, far] = this.pods;
    const server = end === 'near' ? near : far;
    if (client === undefined || server === undefined) throw new Error('the bench measures three pods');
    const [own] = server.addresses;
    if (own === undefined) throw new Error(`${server.key} has no address`);
    return { name, client: client.netns, server: server.netns, address: formatAddress(own) };
  }

  async destroy(): Promise<void> {
    await this.#network.destroy();
  }
}

/** `pair` as bench/traffic.c reads it. */
export function pairArgument(pair: Pair): string {
  return [pair.name, netnsPath(pair.client), netnsPath(pair.server), pair.address].join(',');
}
