// A node of a real API server: `moat agent` as a user starts it, pods that are made by the API and attached by the CNI plugin.
// This process is in the node's namespace from the start on, and so is what it starts.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { enterNetns } from '#kernel/sockets.ts';
import { fieldsOf } from '#policy/fields.ts';
import { ControlPlane, EVERYTHING, OF_SERVICES } from './control-plane.ts';
import { type CniResult, NODE, NODE_ADDRESSES, NodeBed } from './node-bed.ts';
import { WatchGate } from './watch-gate.ts';

const ROOT = join(import.meta.dirname, '../..');
const POLICIES = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies';
const PODS = '/api/v1/namespaces/shop/pods';

/** What the API is told of a pod; its label `app` is its name, and its node this one, where nothing else is said. */
export type PodSpec = {
  readonly app?: string;
  readonly node?: string;
  readonly annotations?: Readonly<Record<string, string>>;
};

export class ApiBed {
  readonly node: NodeBed;
  readonly plane: ControlPlane;
  readonly gate: WatchGate;

  readonly #options: readonly string[];

  private constructor(node: NodeBed, plane: ControlPlane, gate: WatchGate, options: readonly string[]) {
    this.#options = options;
    this.node = node;
    this.plane = plane;
    this.gate = gate;
  }

  /** `options`: what the agent is started with besides. A cluster of this node and another one that nobody runs, with the namespace shop. */
  static async start(name: string, options: readonly string[] = []): Promise<ApiBed> {
    const node = new NodeBed(name);
    enterNetns(node.netns('node'));
    const plane = await ControlPlane.start(['agent']);
    const bed = new ApiBed(node, plane, await WatchGate.open(plane), options);
    await plane.allow('agent', [...EVERYTHING, ...OF_SERVICES]);
    await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } });
    await bed.#makeNode(NODE, ['10.90.0.0/24', 'fd90::/64'], NODE_ADDRESSES);
    await bed.#makeNode('node-b', ['10.90.1.0/24', 'fd90:0:0:1::/64'], ['192.0.2.11', 'fd00::11']);
    return bed;
  }

  async #makeNode(name: string, podCIDRs: readonly string[], addresses: readonly string[]): Promise<void> {
    await this.plane.do('POST', '/api/v1/nodes', { metadata: { name }, spec: { podCIDR: podCIDRs[0], podCIDRs } });
    const internal = addresses.map((address) => ({ type: 'InternalIP', address }));
    await this.plane.do('PATCH', `/api/v1/nodes/${name}/status`, { status: { addresses: internal } });
  }

  /** Starts the agent, behind the gate. `by`: a command that starts what it is given. */
  spawnAgent(options: readonly string[] = this.#options, by: readonly string[] = []): ChildProcess {
    const { folder, instance } = this.node;
    const own = ['--node', NODE, '--instance', instance, '--socket', join(folder, 'agent.sock')];
    const kubeconfig = this.plane.kubeconfig('agent', this.gate.port);
    const args = ['agent', ...own, '--kubeconfig', kubeconfig, '--cni-folder', join(folder, 'cni'), ...options];
    const [command = './moat', ...rest] = [...by, './moat', ...args];
    const agent = spawn(command, rest, { cwd: ROOT, stdio: ['ignore', 'ignore', 'ignore'] });
    this.node.runs(agent);
    return agent;
  }

  /** Starts the agent, and waits until it says that pods can be attached. */
  async startAgent(options: readonly string[] = this.#options): Promise<void> {
    await this.node.serves(this.spawnAgent(options));
  }

  /** As the scheduler leaves it: on a node, with no address yet. Its uid. */
  async makePod(name: string, { app = name, node = NODE, annotations = {} }: PodSpec = {}): Promise<string> {
    const spec = { nodeName: node, containers: [{ name: 'c', image: 'none' }] };
    const made = await this.plane.do('POST', PODS, { metadata: { name, labels: { app }, annotations }, spec });
    return String(fieldsOf(fieldsOf(made).metadata).uid);
  }

  async deletePod(name: string): Promise<void> {
    await this.plane.do('DELETE', `${PODS}/${name}?gracePeriodSeconds=0`);
  }

  /** As a kubelet writes them, once the CNI has answered. */
  async setAddresses(name: string, addresses: readonly string[]): Promise<void> {
    const podIPs = addresses.map((ip) => ({ ip }));
    await this.plane.do('PATCH', `${PODS}/${name}/status`, {
      status: { phase: 'Running', podIP: addresses[0], podIPs },
    });
  }

  async addressesOf(name: string): Promise<unknown> {
    return fieldsOf(fieldsOf(await this.plane.do('GET', `${PODS}/${name}`)).status).podIPs;
  }

  async uidOf(name: string): Promise<string> {
    return String(fieldsOf(fieldsOf(await this.plane.do('GET', `${PODS}/${name}`)).metadata).uid);
  }

  /** Does it, and waits until the agent has heard of it. */
  async known(act: () => Promise<unknown>): Promise<void> {
    const heard: number[] = [];
    const client = await this.node.client((revision) => void heard.push(revision));
    const before = await client.subscribe();
    await act();
    assert.ok(await this.node.soon(() => (heard.at(-1) ?? 0) > before));
    client.close();
  }

  /** A namespace that stands for a pod of the other node; its addresses. */
  addFar(name: string, host: number): readonly string[] {
    const [v4, v6] = [`10.90.1.${host}`, `fd90:0:0:1::${host}`];
    this.node.addNetns(name);
    const netns = `${this.node.prefix}-${name}`;
    this.node.ip('node', `link add ${name} type veth peer name eth0 netns ${netns}`);
    for (const command of ['addr add 10.90.1.1/24 dev', 'addr add fd90:0:0:1::1/64 nodad dev', 'link set up dev']) {
      this.node.ip('node', `${command} ${name}`);
    }
    for (const command of [
      ...[`addr add ${v4}/24 dev eth0`, `addr add ${v6}/64 nodad dev eth0`, 'link set up dev eth0'],
      ...['route add default via 10.90.1.1', 'route add default via fd90:0:0:1::1'],
    ]) {
      this.node.ip(name, command);
    }
    return [v4, v6];
  }

  async makePolicy(name: string, spec: unknown): Promise<void> {
    await this.plane.do('POST', POLICIES, { metadata: { name }, spec });
  }

  async changePolicy(name: string, spec: unknown): Promise<void> {
    await this.plane.do('PATCH', `${POLICIES}/${name}`, { spec });
  }

  async deletePolicy(name: string): Promise<void> {
    await this.plane.do('DELETE', `${POLICIES}/${name}`);
  }

  /** ADD of a pod's first sandbox. */
  async call(name: string, uid: string, container = `c-${name}`): Promise<CniResult> {
    return await this.node.call({ command: 'ADD', container, netns: this.node.netns(name), pod: name, uid });
  }

  /** Makes a pod and its namespace, and has it attached; its addresses. */
  async run(name: string, spec: PodSpec = {}): Promise<readonly string[]> {
    this.node.addNetns(name);
    return await this.node.add(`c-${name}`, this.node.netns(name), name, await this.makePod(name, spec));
  }

  async destroy(): Promise<void> {
    await this.node.destroy();
    this.gate.close();
    await this.plane.close();
  }
}

/** What lets only pods with this label `app` in; null: nobody. */
export function ingressFrom(to: string, from: string | null): object {
  const ingress = from === null ? [] : [{ from: [{ podSelector: { matchLabels: { app: from } } }] }];
  return { podSelector: { matchLabels: { app: to } }, policyTypes: ['Ingress'], ingress };
}

/** What lets a pod out to pods with this label `app` alone. */
export function egressTo(from: string, to: string): object {
  const egress = [{ to: [{ podSelector: { matchLabels: { app: to } } }] }];
  return { podSelector: { matchLabels: { app: from } }, policyTypes: ['Egress'], egress };
}

/** The error of a call that failed. */
export function errorOf({ exit, output }: CniResult): { readonly code: unknown; readonly text: string } {
  assert.equal(exit, 1, JSON.stringify(output));
  return { code: output?.code, text: `${String(output?.msg)} ${String(output?.details)}` };
}
