// The cluster as a whole: brought up step by step, taken down whoever brought it up.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { mountBpffs, removeInstancePins } from '#kernel/bpffs.ts';
import { connectAgent } from '#sandbox/agent-client.ts';
import { BRIDGE_FILE, bridgeConfig } from './bridge.ts';
import { removeCgroups, requireCgroups } from './cgroups.ts';
import { run, until } from './commands.ts';
import { certify, connect, connectComputer, SERVER, startControlPlane } from './control-plane.ts';
import { DNS_DEPLOYMENT, dnsObjects } from './dns.ts';
import { makeImages } from './images.ts';
import { Machine } from './machine.ts';
import { startNode } from './node.ts';
import {
  addressesOf,
  CONTROL,
  HELM,
  INSIDE,
  INSTANCE,
  KUBECONFIG,
  KUBECTL,
  LOGS,
  NAME,
  PAUSE,
  ROOT,
  STATE,
} from './places.ts';

/** The names of so many nodes, in the order of names: at most nine. */
export function nodeNames(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `node-${index + 1}`);
}

/** Of a cluster, where nobody asks for more. */
export const NODES: readonly string[] = nodeNames(2);
const READY_LIMIT_MS = 180_000;
const GONE_LIMIT_MS = 20_000;
const SILENT = { flows: () => undefined, applied: () => undefined, problem: () => undefined, gone: () => undefined };

/** Of each node, by its name. */
type Blocks = ReadonlyMap<string, readonly string[]>;

/** Says what is done, one line of at most 80 columns each. */
export type Say = (text: string) => void;

/** Who makes pods' links: Moat, by the chart; or the reference bridge plugin, where nothing of Moat is installed yet, nor names. */
export type Network = 'moat' | 'bridge';

export type Wanted = {
  /** By default Moat. */
  readonly network?: Network;
  /** By default `NODES`. */
  readonly names?: readonly string[];
  /** At nodes that have no network yet. */
  readonly look?: (nodes: readonly Machine[]) => Promise<void>;
};

/** Brings the cluster up. Resolves when pods can be put on its nodes. Throws where anything of a cluster is there. */
export async function up(say: Say, { network = 'moat', names = NODES, look }: Wanted = {}): Promise<void> {
  requireCgroups();
  mountBpffs();
  say('images from static programs');
  const images = await prepare();
  say('a machine for the control plane, and one for each node');
  const control = await Machine.create(CONTROL);
  await connectComputer(control);
  const nodes: Machine[] = [];
  for (const [index, name] of names.entries()) {
    const node = await Machine.create(name);
    await connect(control, node, numberOf(index));
    nodes.push(node);
  }
  const authority = await certify(control);
  writeFileSync(KUBECONFIG, authority.kubeconfig('admin', SERVER), { mode: 0o600 });
  mkdirSync(dirname(KUBECTL), { recursive: true });
  rmSync(KUBECTL, { force: true });
  symlinkSync('../kubernetes/bin/kubectl', KUBECTL);
  say('etcd, API server, controller manager, scheduler');
  await startControlPlane(control, kubectl);
  say('containerd and kubelet of each node');
  await Promise.all(nodes.map((node, index) => startNode(node, numberOf(index), { authority, images })));
  const blocks = await until('nodes with a block of addresses', READY_LIMIT_MS, () => blocksOf(nodes));
  await look?.(nodes);
  await addRoutes(control, blocks);
  if (network === 'bridge') {
    say('the bridge plugin');
    for (const node of nodes) await addBridge(node, blocks);
    await until('nodes that are ready', READY_LIMIT_MS, () => areReady(nodes));
  } else {
    say('the chart');
    await installChart();
    await apply(dnsObjects());
    await until('nodes that are ready', READY_LIMIT_MS, () => areReady(nodes));
    for (const node of nodes) await until(`the agent of ${node.name}`, READY_LIMIT_MS, () => agentReady(node));
    say('names');
    await kubectl(['-n', 'kube-system', 'rollout', 'status', DNS_DEPLOYMENT, `--timeout=${READY_LIMIT_MS / 1000}s`]);
  }
  // The control plane's doing, without which no pod is taken.
  await until('the default account', READY_LIMIT_MS, () => kubectl(['get', 'serviceaccount', 'default']));
}

/** Takes down whatever of a cluster is there. Returns how many processes were. Throws where the kernel keeps a network of it. */
export async function down(): Promise<number> {
  const count = await removeCgroups();
  const kept = await interfaceStays();
  if (kept) execFileSync('ip', ['link', 'del', NAME]);
  // Last: while an interface lives, its hooks keep it closed.
  removeInstancePins(INSTANCE);
  for (const path of [STATE, KUBECONFIG, KUBECTL]) rmSync(path, { recursive: true, force: true });
  if (kept)
    throw new Error("all is removed, but the kernel keeps the control plane's network: connections are open in it");
  return count;
}

/** This computer's interface goes with the network at its other end, which the kernel takes away in its own time. */
async function interfaceStays(): Promise<boolean> {
  for (const end = performance.now() + GONE_LIMIT_MS; existsSync(`/sys/class/net/${NAME}`); await pause(50)) {
    if (performance.now() > end) return true;
  }
  return false;
}

/** Copies the logs of all daemons to where the cluster's end leaves them; the folder. */
export function keepLogs(): string {
  rmSync(LOGS, { recursive: true, force: true });
  for (const machine of existsSync(STATE) ? readdirSync(STATE) : []) {
    const logs = join(STATE, machine, 'log');
    if (existsSync(logs)) cpSync(logs, join(LOGS, machine), { recursive: true });
  }
  return LOGS;
}

/** As deploy/helm/moat/values.yaml has them. */
type ChartValues = Readonly<Record<string, unknown>> & { readonly cni?: Readonly<Record<string, unknown>> };

/** Installs the chart, or changes what it was installed with. */
export async function installChart({ cni, ...values }: ChartValues = {}): Promise<void> {
  const { hostname, port } = new URL(SERVER);
  const own = {
    kubernetes: { host: hostname, port: Number(port) },
    cni: { binFolder: `${INSIDE}/cni/bin`, configFolder: `${INSIDE}/cni/net.d`, ...cni },
    instance: INSTANCE,
    // Nobody else does.
    services: 'moat',
    ...values,
  };
  const chart = join(ROOT, 'deploy/helm/moat');
  await helm(
    ['upgrade', '--install', '--namespace', 'kube-system', 'moat', chart, '--values', '-'],
    JSON.stringify(own),
  );
}

/** Runs Helm as the cluster's administrator. */
export async function helm(args: readonly string[], input = ''): Promise<string> {
  const folders = ['CACHE', 'CONFIG', 'DATA'].map((each) => `HELM_${each}_HOME=${join(STATE, 'helm')}`);
  return await run('env', [...folders, HELM, '--kubeconfig', KUBECONFIG, ...args], input, `helm ${args[0]}`);
}

/** Makes objects, or changes them. */
export async function apply(objects: readonly unknown[]): Promise<void> {
  await kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
}

/** Runs kubectl as the cluster's administrator. */
export async function kubectl(args: readonly string[], input = ''): Promise<string> {
  return await run(KUBECTL, ['--kubeconfig', KUBECONFIG, '--cache-dir', join(STATE, 'kubectl'), ...args], input);
}

/** Builds what the cluster runs of this checkout; the archives of its images. */
async function prepare(): Promise<readonly string[]> {
  await run('sh', [join(ROOT, 'tools/build-cni.sh')]);
  mkdirSync(dirname(PAUSE), { recursive: true });
  await run('clang', ['-O2', '-static', '-Wall', '-Werror', '-o', PAUSE, join(import.meta.dirname, 'pause.c')]);
  return await makeImages(join(STATE, 'images'));
}

function numberOf(index: number): number {
  return index + 2;
}

/** The pods' blocks of each node, in the order of names; null until all have some. */
async function blocksOf(nodes: readonly Machine[]): Promise<Blocks | null> {
  const blocks = (await nodeList()).map(({ metadata, spec }) => [metadata.name, spec.podCIDRs ?? []] as const);
  return blocks.length === nodes.length && blocks.every(([, each]) => each.length > 0) ? new Map(blocks) : null;
}

/** Null until all nodes take pods. */
async function areReady(nodes: readonly Machine[]): Promise<true | null> {
  const ready = (await nodeList()).filter(({ status }) =>
    status.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True'),
  );
  return ready.length === nodes.length ? true : null;
}

async function nodeList(): Promise<NodeList['items']> {
  return (JSON.parse(await kubectl(['get', 'nodes', '-o', 'json'])) as NodeList).items;
}

type NodeList = {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly spec: { readonly podCIDRs?: readonly string[] };
    readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
  }[];
};

/** Direct routes to the pods of the other nodes, for a machine without an agent: the control plane's, and those of a bridge. */
async function addRoutes(machine: Machine, blocks: Blocks): Promise<void> {
  const lines = [...blocks].flatMap(([name, each], index) => {
    const via = addressesOf(numberOf(index));
    const others = name === machine.name ? [] : each;
    return others.map((block) => `route replace ${block} via ${via[block.includes(':') ? 6 : 4]}\n`);
  });
  await machine.run('ip', ['-batch', '-'], lines.join(''));
}

/** The network of a node by the reference plugins alone, as somebody has it before Moat comes beside it. */
async function addBridge(node: Machine, blocks: Blocks): Promise<void> {
  await addRoutes(node, blocks);
  writeFileSync(join(node.folder, 'cni/net.d', BRIDGE_FILE), bridgeConfig(blocks.get(node.name) ?? []));
}

/** Where a node's agent listens, as this computer sees it. */
export function agentSocket({ folder, name }: Machine): string {
  return join(folder, 'run/moat', INSTANCE, `agent-${name}.sock`);
}

/** Throws with what a node's agent lacks. */
export async function agentReady(node: Machine): Promise<true> {
  const client = await connectAgent(agentSocket(node), SILENT);
  if (client === null) throw new Error('it does not answer');
  const status = await client.status();
  client.close();
  if (!status.ready) throw new Error(status.problem ?? status.source ?? 'not ready');
  return true;
}
