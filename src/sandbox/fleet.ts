// Nodes and pods of a sandbox, as they are now; brought from one world to the next.

import type { AttachRequest, FlowEvent } from '#agent/protocol.ts';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { isEndpoint, type Pod, type PodKey, type Semantics, type World } from '#policy/world.ts';
import { AgentProcess } from './agent-process.ts';
import { SandboxError } from './error.ts';
import { nodeNetns, type StatePaths } from './names.ts';
import type { NodeNetns, PodNetns, SandboxNetwork } from './network.ts';
import { PATIENCE } from './patience.ts';

export type FleetSetup = {
  readonly instance: string;
  readonly paths: StatePaths;
  readonly network: SandboxNetwork;
  readonly semantics: Semantics;
  readonly flows: (node: string, events: readonly FlowEvent[], lost: number) => void;
  readonly notice: (text: string) => void;
};

type FleetNode = { readonly netns: NodeNetns; readonly agent: AgentProcess };

const APPLY_LIMIT_MS = 20_000 * PATIENCE;

/** Owns the nodes' agents and knows every namespace that is up. */
export class Fleet {
  readonly #setup: FleetSetup;
  readonly #nodes: Map<string, FleetNode> = new Map();
  readonly #pods: Map<PodKey, PodNetns> = new Map();

  constructor(setup: FleetSetup) {
    this.#setup = setup;
  }

  get pods(): ReadonlyMap<PodKey, PodNetns> {
    return this.#pods;
  }

  get nodes(): ReadonlyMap<string, FleetNode> {
    return this.#nodes;
  }

  /** Takes away what the new world lacks or has elsewhere. Before it is published: its addresses may be others' by then. */
  async removeGone(world: World): Promise<void> {
    const stays = (node: FleetNode): boolean => {
      const wanted = world.nodes.get(node.netns.name);
      return wanted !== undefined && sameAddresses(wanted.addresses, node.netns.addresses);
    };
    const nodes = [...this.#nodes.values()].filter((node) => !stays(node));
    const pods = [...this.#pods.values()].filter((pod) => {
      const wanted = world.pods.get(pod.key);
      return nodes.some((node) => node.netns === pod.node) || wanted === undefined || !samePlace(pod, wanted);
    });
    await this.#removePods(pods);
    for (const node of nodes) await this.#removeNode(node);
  }

  /** Makes nodes that the world has and the fleet lacks, each with its agent. */
  async addNodes(world: World): Promise<void> {
    const specs = [...world.nodes.values()].filter((node) => !this.#nodes.has(node.name));
    for (const spec of specs) nodeNetns(this.#setup.instance, spec.name);
    const made = await this.#setup.network.createNodes(specs);
    const nodes = made.map((netns): FleetNode => ({ netns, agent: this.#agent(netns) }));
    for (const node of nodes) this.#nodes.set(node.netns.name, node);
    await Promise.all(nodes.map((node) => node.agent.start()));
  }

  /** Waits until every node enforces the revision. Returns each node's own time for it, in milliseconds. */
  async reached(revision: number): Promise<Readonly<Record<string, number>>> {
    const nodes = [...this.#nodes];
    await Promise.all(nodes.map(([, node]) => node.agent.reached(revision, APPLY_LIMIT_MS)));
    return Object.fromEntries(nodes.map(([name, node]) => [name, node.agent.applyMs]));
  }

  /** Makes pods that the world has and the fleet lacks. Their links go up once their policy is in force. */
  async addPods(world: World): Promise<void> {
    const missing = [...world.pods.values()].filter((pod) => isEndpoint(pod) && !this.#pods.has(pod.key));
    if (missing.length === 0) return;
    const specs = missing.map((pod) => ({ key: pod.key, addresses: pod.addresses, node: this.#nodeOf(pod) }));
    const pods = await this.#setup.network.createPods(specs);
    for (const pod of pods) this.#pods.set(pod.key, pod);
    const byNode = Map.groupBy(pods, (pod) => pod.node.name);
    await Promise.all([...byNode].map(([node, here]) => this.#agentOf(node).client.attach(here.map(attachRequest))));
    await this.#setup.network.raisePods(pods);
  }

  /** Takes the hooks off every pod that is up. */
  async detachHooks(): Promise<void> {
    for (const pod of this.#pods.values()) await this.#agentOf(pod.node.name).client.detach([pod.interfaceIndex]);
  }

  /** Ends every agent. Namespaces are removed by the network, pins by whoever made them. */
  async stop(): Promise<void> {
    await Promise.all([...this.#nodes.values()].map((node) => node.agent.stop()));
    this.#nodes.clear();
    this.#pods.clear();
  }

  #agent(netns: NodeNetns): AgentProcess {
    const { instance, paths, semantics, flows, notice } = this.#setup;
    return new AgentProcess(
      { instance, node: netns, paths, semantics },
      {
        notice,
        flows: (events, lost) => flows(netns.name, events, lost),
        restarted: async (client) => {
          const here = [...this.#pods.values()].filter((pod) => pod.node === netns);
          await client.attach(here.map(attachRequest));
        },
      },
    );
  }

  async #removePods(pods: readonly PodNetns[]): Promise<void> {
    if (pods.length === 0) return;
    await this.#setup.network.lowerPods(pods);
    for (const [node, here] of Map.groupBy(pods, (pod) => pod.node.name)) {
      const agent = this.#agentOf(node);
      // One that is away finds its interfaces gone when it comes back.
      if (agent.alive) await agent.client.detach(here.map((pod) => pod.interfaceIndex));
    }
    await this.#setup.network.removePods(pods);
    for (const pod of pods) this.#pods.delete(pod.key);
  }

  async #removeNode(node: FleetNode): Promise<void> {
    await node.agent.stop();
    await this.#setup.network.removeNode(node.netns);
    unpinDatapath(this.#setup.instance, node.netns.name);
    this.#nodes.delete(node.netns.name);
  }

  #nodeOf(pod: Pod): NodeNetns {
    const node = this.#nodes.get(pod.node);
    if (node !== undefined) return node.netns;
    throw new SandboxError(
      'no-node',
      `the pod ${pod.key} is on node '${pod.node}', which does not exist`,
      'report this',
    );
  }

  #agentOf(node: string): AgentProcess {
    const found = this.#nodes.get(node);
    if (found !== undefined) return found.agent;
    throw new SandboxError('no-node', `there is no node '${node}'`, "'status' lists the nodes");
  }
}

function attachRequest(pod: PodNetns): AttachRequest {
  const { key, interfaceIndex, mac, addresses } = pod;
  return { pod: key, interfaceIndex, mac, addresses: addresses.map(formatAddress) };
}

function samePlace(pod: PodNetns, wanted: Pod): boolean {
  return isEndpoint(wanted) && wanted.node === pod.node.name && sameAddresses(wanted.addresses, pod.addresses);
}

function sameAddresses(a: readonly Address[], b: readonly Address[]): boolean {
  return a.map(formatAddress).join() === b.map(formatAddress).join();
}
