// A node whose pods' links its own agent makes: its namespace, the real CNI plugin, namespaces of pods as a container runtime
// makes them. Which agent, and whom it follows, is for others to say (cni-bed.ts, api-bed.ts).
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import { ROUTER_SETTINGS, setSysctls } from '#network/sysctl.ts';
import { type AgentClient, connectAgent } from '#sandbox/agent-client.ts';
import { instanceName } from './cluster.ts';

const ROOT = join(import.meta.dirname, '../..');
/** The node's name in its cluster. */
export const NODE = 'node-a';
/** Its own addresses. */
export const NODE_ADDRESSES = ['192.0.2.10', 'fd00::10'] as const;

/** What the plugin did: its exit code, and what it printed, parsed (null: nothing). */
export type CniResult = { readonly exit: number; readonly output: Readonly<Record<string, unknown>> | null };

/** A call; what is left out is as a runtime has it. `pod`: its name in the namespace shop, and its uid. */
export type CniAsk = {
  readonly command: string;
  readonly container?: string;
  readonly netns?: string;
  readonly pod?: string;
  readonly uid?: string;
  readonly config?: Readonly<Record<string, unknown>>;
};

/** Builds the plugin where a source is newer; its path. */
export function cniPlugin(): string {
  execFileSync('sh', [join(ROOT, 'tools/build-cni.sh')], { stdio: ['ignore', 'ignore', 'inherit'] });
  return join(ROOT, 'build/cni/moat-cni');
}

/** A node's name and addresses. `uplink`: its addresses are a link's, which is for others to make; else they are on `lo`. */
export type Place = { readonly node: string; readonly addresses: readonly string[]; readonly uplink?: true };

export class NodeBed {
  readonly place: Place;
  /** In memory, as /run is on nodes. */
  readonly folder: string = mkdtempSync('/dev/shm/moat-cni-');
  readonly instance: string = instanceName();
  readonly prefix: string;
  readonly #netns: string[] = [];
  readonly #plugin: string = cniPlugin();
  #agent: ChildProcess | null = null;

  constructor(name: string, place: Place = { node: NODE, addresses: NODE_ADDRESSES }) {
    mountBpffs();
    this.place = place;
    this.prefix = `moattest-${name}-${process.pid}`;
    this.addNetns('node');
    setSysctls(this.netns('node'), ROUTER_SETTINGS);
    const own = place.uplink ? [] : place.addresses.map((each) => `addr add ${each} dev lo\n`);
    execFileSync('ip', ['-n', `${this.prefix}-node`, '-batch', '-'], { input: `link set lo up\n${own.join('')}` });
  }

  get agent(): ChildProcess {
    assert.ok(this.#agent, 'the agent was started');
    return this.#agent;
  }

  /** File of a namespace made here. */
  netns(name: string): string {
    return `/run/netns/${this.prefix}-${name}`;
  }

  /** A namespace, as a runtime makes one for a sandbox before it calls the CNI. */
  addNetns(name: string): string {
    execFileSync('ip', ['netns', 'add', `${this.prefix}-${name}`]);
    this.#netns.push(`${this.prefix}-${name}`);
    return this.netns(name);
  }

  /** Waits until the agent that was just started says that pods can be attached. */
  async serves(agent: ChildProcess): Promise<void> {
    this.runs(agent);
    for (const limit = performance.now() + 60_000; ; await pause(20)) {
      const status = await this.call({ command: 'STATUS' });
      if (status.exit === 0) return;
      assert.ok(performance.now() < limit && agent.exitCode === null, JSON.stringify(status));
    }
  }

  /** This is the node's agent from now on. */
  runs(agent: ChildProcess): void {
    this.#agent = agent;
  }

  async killAgent(): Promise<void> {
    const gone = once(this.agent, 'exit');
    this.agent.kill('SIGKILL');
    await gone;
  }

  /** Runs the plugin once. */
  async call(ask: CniAsk): Promise<CniResult> {
    const { promise, resolve } = Promise.withResolvers<CniResult>();
    const child = execFile(this.#plugin, { env: environmentOf(ask), encoding: 'utf8' }, (error, stdout) => {
      const exit = error === null ? 0 : Number(error.code ?? -1);
      resolve({ exit, output: stdout === '' ? null : JSON.parse(stdout) });
    });
    child.stdin?.end(JSON.stringify({ ...this.config, ...ask.config }));
    return await promise;
  }

  get config(): Readonly<Record<string, unknown>> {
    const [socket, spool] = [join(this.folder, 'agent.sock'), join(this.folder, 'cni/spool')];
    return { cniVersion: '1.1.0', name: 'pods', type: 'moat-cni', socket, spool };
  }

  /** ADD that must succeed; the addresses that it gave. */
  async add(container: string, netns: string, pod: string, uid = ''): Promise<readonly string[]> {
    const result = await this.call({ command: 'ADD', container, netns, pod, uid });
    assert.equal(result.exit, 0, JSON.stringify(result.output));
    const ips = result.output?.ips as readonly { readonly address: string }[];
    return ips.map((ip) => ip.address.split('/')[0] ?? '');
  }

  /** Runs one command of iproute2 in a namespace made here. */
  ip(name: string, command: string): string {
    return execFileSync('ip', ['-n', `${this.prefix}-${name}`, ...command.split(' ')], { encoding: 'utf8' });
  }

  /** What stands at pods' interfaces, as pins tell: `link` or `filter`, two for each. */
  hooks(): readonly string[] {
    const names = readdirSync(pinPath(this.instance, this.place.node)).filter((name) => name.endsWith('_pod'));
    return names.map((name) => name.split('_')[0] ?? '');
  }

  /** Attachments on the agent's disk, by file. */
  attachments(): readonly string[] {
    return readdirSync(join(this.folder, 'cni/attachments')).sort();
  }

  /** DELs that wait for an agent, by file. */
  spooled(): readonly string[] {
    return readdirSync(join(this.folder, 'cni/spool'));
  }

  /** Speaks to the agent's socket. */
  async client(
    applied: (revision: number) => void = () => undefined,
    problem: (message: string) => void = () => undefined,
  ): Promise<AgentClient> {
    const listener = { flows: () => undefined, applied, problem, gone: () => undefined };
    const client = await connectAgent(join(this.folder, 'agent.sock'), listener);
    assert.ok(client);
    return client;
  }

  /** Takes the hooks off every pod whose link is named so, as the agent itself would: it does not put them back. */
  async detachHooks(prefix = 'moat'): Promise<void> {
    const client = await this.client();
    const links = JSON.parse(this.ip('node', '-json link show')) as readonly { ifname: string; ifindex: number }[];
    await client.detach(links.filter(({ ifname }) => ifname.startsWith(prefix)).map(({ ifindex }) => ifindex));
    client.close();
  }

  /** The node's ends of pods' links: Moat's own, or those that others name so. */
  links(prefix = 'moat'): readonly string[] {
    const links = JSON.parse(this.ip('node', '-json link show')) as readonly { readonly ifname: string }[];
    return links.map(({ ifname }) => ifname).filter((name) => name.startsWith(prefix));
  }

  /** Waits until something holds; false where it does not in good time. */
  async soon(holds: () => boolean | Promise<boolean>, limitMs = 15_000): Promise<boolean> {
    for (const limit = performance.now() + limitMs; performance.now() < limit; await pause(20)) {
      if (await holds()) return true;
    }
    return false;
  }

  async destroy(): Promise<void> {
    if (this.#agent !== null && this.#agent.exitCode === null && this.#agent.signalCode === null)
      await this.killAgent();
    unpinDatapath(this.instance, this.place.node);
    for (const name of this.#netns) execFileSync('ip', ['netns', 'del', name]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function environmentOf({ command, container = '', netns = '', pod, uid = '' }: CniAsk): NodeJS.ProcessEnv {
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${pod};K8S_POD_INFRA_CONTAINER_ID=${container};K8S_POD_UID=${uid}`;
  const about = { CNI_CONTAINERID: container, CNI_NETNS: netns, CNI_IFNAME: 'eth0' };
  return { CNI_COMMAND: command, CNI_PATH: '/opt/cni/bin', ...about, ...(pod === undefined ? {} : { CNI_ARGS: args }) };
}
