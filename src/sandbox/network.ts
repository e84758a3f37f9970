// The sandbox's network: nodes, pods and the outside world as namespaces, joined by plain routing (no NAT, no bridge).
import type { Address } from '#net/address.ts';
import { POD_SETTINGS, ROUTER_SETTINGS, setSysctls } from '#network/sysctl.ts';
import type { PodKey } from '#policy/world.ts';
import { WORLD_ADDRESSES } from './addresses.ts';
import { ipBatch, ipJson, ipRemove } from './ip.ts';
import * as names from './names.ts';
import { gatewayLines, hostPrefix, hostSideLines, podSideLines } from './pod-lines.ts';

/** A node's namespace. */
export type NodeNetns = {
  readonly name: string;
  readonly netns: string;
  readonly index: number;
  readonly addresses: readonly Address[];
};

/** A pod's namespace and the node's end of its link. */
export type PodNetns = {
  readonly key: PodKey;
  readonly netns: string;
  readonly node: NodeNetns;
  readonly index: number;
  /** Index of the node's end, inside the node. */
  readonly interfaceIndex: number;
  readonly mac: string;
  /** The first is the primary one. */
  readonly addresses: readonly Address[];
};

/** What a pod needs of the network. */
export type PodSpec = { readonly key: PodKey; readonly node: NodeNetns; readonly addresses: readonly Address[] };

/** Next hops that exist on the links between the fabric and nodes, and nowhere else. */
const NODE_HOP = { 4: '169.254.2.2', 6: 'fe80::2' } as const;
/** Interface indexes are chosen, not asked for; a fresh namespace has given out none of these. */
const FIRST_POD_INTERFACE = 1000;

/** Makes and removes the namespaces of one instance. Numbers of pods are never used twice. */
export class SandboxNetwork {
  readonly #instance: string;
  readonly #world: string;
  #nodes = 0;
  #pods = 0;

  constructor(instance: string) {
    this.#instance = instance;
    this.#world = names.worldNetns(instance);
  }

  get world(): string {
    return this.#world;
  }

  /** Makes the outside world and the fabric (one namespace). First of all. */
  async createWorld(): Promise<void> {
    await ipBatch(null, [`netns add ${this.#world}`]);
    setSysctls(names.netnsPath(this.#world), ROUTER_SETTINGS);
    await ipBatch(this.#world, ['link set lo up', ...WORLD_ADDRESSES.map((text) => `addr add ${host(text)} dev lo`)]);
  }

  /** Adds an address to the outside world. Pods and nodes reach it by their default routes. */
  async addExternal(addresses: readonly Address[]): Promise<void> {
    const lines = addresses.map((address) => `addr replace ${hostPrefix(address)} dev lo nodad`);
    await ipBatch(this.#world, lines);
  }

  async removeExternal(addresses: readonly Address[]): Promise<void> {
    await ipRemove(
      this.#world,
      addresses.map((address) => `addr del ${hostPrefix(address)} dev lo`),
    );
  }

  /** Makes nodes, each with a link to the fabric. */
  async createNodes(
    specs: readonly { readonly name: string; readonly addresses: readonly Address[] }[],
  ): Promise<readonly NodeNetns[]> {
    const nodes = specs.map((spec): NodeNetns => {
      const index = this.#nodes++;
      return { ...spec, index, netns: names.nodeNetns(this.#instance, spec.name) };
    });
    await ipBatch(
      null,
      nodes.map((node) => `netns add ${node.netns}`),
    );
    for (const node of nodes) setSysctls(names.netnsPath(node.netns), ROUTER_SETTINGS);
    await ipBatch(
      null,
      nodes.map((node) => uplinkLine(node, this.#world)),
    );
    for (const node of nodes) await ipBatch(node.netns, nodeLines(node));
    await ipBatch(
      this.#world,
      nodes.flatMap((node) => fabricLines(node)),
    );
    return nodes;
  }

  /** Removes a node; its pods are gone already. */
  async removeNode(node: NodeNetns): Promise<void> {
    await ipRemove(this.#world, [`link del ${names.fabricInterface(node.index)}`]);
    await ipRemove(null, [`netns del ${node.netns}`]);
  }

  /** Makes pods; the node's end of each link stays down, so nothing can pass before the datapath is attached. */
  async createPods(specs: readonly PodSpec[]): Promise<readonly PodNetns[]> {
    const pods = specs.map((spec): PodNetns => {
      const index = this.#pods++;
      return {
        ...spec,
        index,
        netns: names.podNetns(this.#instance, index),
        interfaceIndex: FIRST_POD_INTERFACE + index,
        mac: names.hardwareAddress('pod', index),
      };
    });
    await ipBatch(
      null,
      pods.map((pod) => `netns add ${pod.netns}`),
    );
    // Before the links: an interface takes its settings from the defaults of the moment it is made.
    for (const pod of pods) setSysctls(names.netnsPath(pod.netns), POD_SETTINGS);
    await ipBatch(null, pods.map(podLinkLine));
    await inParallel(pods, 4, (pod) => ipBatch(pod.netns, podLines(pod)));
    return pods;
  }

  /** Lets traffic in and out of pods: links up, routes on the node and in the fabric. */
  async raisePods(pods: readonly PodNetns[]): Promise<void> {
    for (const [node, here] of byNode(pods)) await ipBatch(node.netns, here.flatMap(podRouteLines));
    await ipBatch(
      this.#world,
      pods.flatMap((pod) => pod.addresses.map((address) => fabricRoute(address, pod.node))),
    );
  }

  /** Takes pods off the network: after this nothing passes, so their hooks may go. */
  async lowerPods(pods: readonly PodNetns[]): Promise<void> {
    for (const [node, here] of byNode(pods)) {
      await ipRemove(
        node.netns,
        here.map((pod) => `link set ${names.hostInterface(pod.index)} down`),
      );
    }
  }

  /** Removes pods. Their links go first: deleting a namespace frees them only later, and in its own time. */
  async removePods(pods: readonly PodNetns[]): Promise<void> {
    await ipRemove(
      this.#world,
      pods.flatMap((pod) => pod.addresses.map((address) => `route del ${hostPrefix(address)}`)),
    );
    for (const [node, here] of byNode(pods)) {
      await ipRemove(
        node.netns,
        here.map((pod) => `link del ${names.hostInterface(pod.index)}`),
      );
    }
    await ipRemove(
      null,
      pods.map((pod) => `netns del ${pod.netns}`),
    );
  }

  /** Removes every namespace of this instance, whoever made it, and says which. */
  async destroy(): Promise<readonly string[]> {
    const found = await listNetns(this.#instance);
    await ipRemove(
      null,
      found.map((netns) => `netns del ${netns}`),
    );
    return found;
  }
}

/** The namespaces of an instance that exist now. */
export async function listNetns(instance: string): Promise<readonly string[]> {
  const listed = await ipJson(null, ['netns', 'list']);
  const all = Array.isArray(listed) ? listed : [];
  const found = all.map((item: { readonly name?: unknown }) => String(item.name));
  return found.filter((name) => name.startsWith(names.netnsPrefix(instance)));
}

function uplinkLine(node: NodeNetns, world: string): string {
  const uplink = `${names.UPLINK_INTERFACE} netns ${node.netns} address ${names.hardwareAddress('uplink', node.index)}`;
  const fabric = `${names.fabricInterface(node.index)} address ${names.hardwareAddress('fabric', node.index)}`;
  return `link add ${uplink} type veth peer name ${fabric} netns ${world}`;
}

function nodeLines(node: NodeNetns): readonly string[] {
  const device = names.UPLINK_INTERFACE;
  const mac = names.hardwareAddress('fabric', node.index);
  return [
    'link set lo up',
    `link set ${device} up`,
    ...node.addresses.map((address) => `addr add ${hostPrefix(address)} dev ${device} nodad`),
    // Both families, whatever the node's own: its pods may speak either.
    ...gatewayLines(4, { device, mac, addresses: node.addresses }),
    ...gatewayLines(6, { device, mac, addresses: node.addresses }),
  ];
}

function fabricLines(node: NodeNetns): readonly string[] {
  const device = names.fabricInterface(node.index);
  const mac = names.hardwareAddress('uplink', node.index);
  return [
    `link set ${device} up`,
    `neigh replace ${NODE_HOP[4]} lladdr ${mac} dev ${device} nud permanent`,
    `neigh replace ${NODE_HOP[6]} lladdr ${mac} dev ${device} nud permanent`,
    ...node.addresses.map((address) => fabricRoute(address, node)),
  ];
}

function fabricRoute(address: Address, node: NodeNetns): string {
  const device = names.fabricInterface(node.index);
  return `route replace ${hostPrefix(address)} via ${NODE_HOP[address.family]} dev ${device} onlink`;
}

function podLinkLine(pod: PodNetns): string {
  const device = `${names.hostInterface(pod.index)} index ${pod.interfaceIndex} netns ${pod.node.netns}`;
  const gateway = names.hardwareAddress('gateway', pod.index);
  const inside = `name ${names.POD_INTERFACE} address ${pod.mac} netns ${pod.netns}`;
  return `link add ${device} address ${gateway} type veth peer ${inside}`;
}

function podLines(pod: PodNetns): readonly string[] {
  const gatewayMac = names.hardwareAddress('gateway', pod.index);
  return podSideLines({ device: names.POD_INTERFACE, gatewayMac, addresses: pod.addresses });
}

function podRouteLines(pod: PodNetns): readonly string[] {
  const device = names.hostInterface(pod.index);
  return hostSideLines({ device, podMac: pod.mac, addresses: pod.addresses, nodeAddresses: pod.node.addresses });
}

function host(text: string): string {
  return `${text}/${text.includes(':') ? 128 : 32}`;
}

function byNode(pods: readonly PodNetns[]): ReadonlyMap<NodeNetns, readonly PodNetns[]> {
  return Map.groupBy(pods, (pod) => pod.node);
}

async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const waiting = items.values();
  const worker = async (): Promise<void> => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
