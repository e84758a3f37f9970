// A node of which a test says itself what its cluster has: its agent follows a socket.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { type AgentProcessOptions, UNWATCHED } from '#agent/process-options.ts';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { buildWorld } from '#cluster/world/build.ts';
import { diffWorlds } from '#cluster/world/diff.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { type Node, type Pod, podKey, STANDARD_SEMANTICS, type World, type WorldEvent } from '#policy/world.ts';
import { AGENT_ENVIRONMENT, AGENT_FLAGS } from '#sandbox/agent-process.ts';
import { ClusterServer } from '#sandbox/cluster-server.ts';
import { NodeBed, type Place } from './node-bed.ts';
import { address } from './pod-bed.ts';

const AGENT = join(import.meta.dirname, '../../src/agent/main.ts');

export class CniBed extends NodeBed {
  readonly #cluster: ClusterServer<WorldEvent>;
  #world: World;

  constructor(name: string, blocks: readonly string[] = ['10.88.0.0/24', 'fd88::/64'], place?: Place) {
    super(name, place);
    this.#cluster = new ClusterServer(join(this.folder, 'cluster.sock'), diffWorlds);
    const shop = { name: 'shop', labels: { 'kubernetes.io/metadata.name': 'shop' } };
    this.#world = {
      namespaces: new Map([['shop', shop]]),
      nodes: new Map([nodeOf(this.place, blocks)]),
      pods: new Map(),
      policies: new Map(),
    };
  }

  async listen(): Promise<void> {
    await this.#cluster.listen();
    this.#cluster.publish(this.#world);
  }

  /** What the API says of nodes; it has this one's, too, from now on. */
  setNodes(...nodes: readonly ReturnType<typeof nodeOf>[]): void {
    this.#publish({ ...this.#world, nodes: new Map(nodes) });
  }

  /** Pods of the namespace shop on this node where none is named, as the API has them before their CNI has answered: without addresses. */
  setPods(
    pods: readonly {
      readonly name: string;
      readonly uid?: string;
      readonly addresses?: readonly string[];
      readonly node?: string;
    }[],
  ): void {
    const made = pods.map(({ name, uid, addresses = [], node = this.place.node }): Pod => {
      const key = podKey('shop', name);
      const workload = { kind: 'Pod', namespace: 'shop', name };
      const known = uid === undefined ? {} : { uid };
      return {
        ...{ key, namespace: 'shop', name, labels: { app: name }, node, addresses: addresses.map(address) },
        ...{ ports: [], hostNetwork: false, finished: false, workload, ...known },
      };
    });
    this.#publish({ ...this.#world, pods: new Map(made.map((pod) => [pod.key, pod])) });
  }

  /** NetworkPolicies of the namespace shop. */
  setPolicies(text: string): void {
    const built = buildWorld(parseManifest(text, 'policies.yaml').objects);
    assert.deepEqual(built.diagnostics, []);
    this.#publish({ ...this.#world, policies: built.world.policies });
  }

  #publish(world: World): void {
    this.#world = world;
    this.#cluster.publish(world);
  }

  /** Starts the agent, and waits until it says that pods can be attached. `cniPlaces`: where it puts plugin and configuration then. */
  async startAgent(
    network: AgentProcessOptions['network'] = null,
    cniPlaces?: AgentProcessOptions['cniPlaces'],
  ): Promise<void> {
    const options: AgentProcessOptions = {
      ...{ instance: this.instance, node: this.place.node, netns: this.netns('node'), semantics: STANDARD_SEMANTICS },
      ...{
        source: { kind: 'socket', path: join(this.folder, 'cluster.sock') },
        agentSocket: join(this.folder, 'agent.sock'),
      },
      cniFolder: join(this.folder, 'cni'),
      watched: UNWATCHED,
      ...{ network, cniPlaces },
    };
    await this.serves(
      spawn(process.execPath, [...AGENT_FLAGS, AGENT, JSON.stringify(options)], {
        stdio: ['pipe', 'inherit', 'inherit'],
        env: { ...process.env, ...AGENT_ENVIRONMENT },
      }),
    );
  }

  override async destroy(): Promise<void> {
    this.#cluster.close();
    await super.destroy();
  }
}

/** A node as the API has it. */
export function nodeOf({ node, addresses }: Place, blocks: readonly string[]): readonly [string, Node] {
  return [node, { name: node, labels: {}, addresses: addresses.map(address), podCidrs: blocks.map(cidr) }];
}

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  assert.ok(parsed, text);
  return parsed.cidr;
}
