// The two networks that are compared: a sandbox with Moat in it, and the same namespaces, links and routes without.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Address } from '#net/address.ts';
import { formatAddress, parseAddress } from '#net/address.ts';
import { podKey } from '#policy/world.ts';
import { netnsPath } from '#sandbox/names.ts';
import { SandboxNetwork } from '#sandbox/network.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';

/** One client and one server: `near` on one node, `far` on two. */
export type Pair = {
  readonly name: string;
  readonly client: string;
  readonly server: string;
  readonly address: string;
};

const NODES = ['n1', 'n2'] as const;
const PODS = [
  { name: 'client', node: 'n1' },
  { name: 'near', node: 'n1' },
  { name: 'far', node: 'n2' },
] as const;

/** `pair` as bench/traffic.c reads it. */
export function pairArgument(pair: Pair): string {
  return [pair.name, netnsPath(pair.client), netnsPath(pair.server), pair.address].join(',');
}

/** A sandbox where `policies` NetworkPolicies select the measured pods, the one that allows them the last by name. */
export async function startPolicyWorld(policies: number): Promise<{ sandbox: Sandbox; pairs: readonly Pair[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'moat-bench-'));
  try {
    writeFileSync(join(folder, 'bench.json'), JSON.stringify(manifests(policies)));
    const sandbox = await startSandbox({
      name: `b${policies}x${process.pid}`,
      paths: [folder],
      nodes: 2,
      watch: false,
    });
    return { sandbox, pairs: await pairsOf(sandbox, `moat-${policies}`) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function pairsOf(sandbox: Sandbox, name: string): Promise<readonly Pair[]> {
  const { pods } = await sandbox.status();
  const find = (pod: string): { netns: string; address: string } => {
    const found = pods.find((one) => one.name === `bench/${pod}`);
    if (found?.addresses[0] === undefined) throw new Error(`the sandbox has no pod bench/${pod}`);
    return { netns: found.netns, address: found.addresses[0] };
  };
  return (['near', 'far'] as const).map((end) => {
    const server = find(end);
    return { name: `${name}-${end}`, client: find('client').netns, server: server.netns, address: server.address };
  });
}

/** A second network of the same shape, without datapath: plain kernel routing. */
export async function startPlainWorld(): Promise<{ network: SandboxNetwork; pairs: readonly Pair[] }> {
  const network = new SandboxNetwork(`b0x${process.pid}`);
  await network.createWorld();
  const nodes = await network.createNodes(
    NODES.map((name, i) => ({ name, addresses: [address(`172.31.0.${i + 1}`)] })),
  );
  const specs = PODS.map((pod, i) => {
    const node = nodes.find((one) => one.name === pod.node);
    if (node === undefined) throw new Error(`no node ${pod.node}`);
    return { key: podKey('bench', pod.name), node, addresses: [address(`10.245.0.${i + 1}`)] };
  });
  const pods = await network.createPods(specs);
  await network.raisePods(pods);
  const [client, ...servers] = pods;
  if (client === undefined) throw new Error('no pods were made');
  const pairs = servers.map((server, i) => {
    const [own] = server.addresses;
    if (own === undefined) throw new Error('a pod without address was made');
    return {
      name: `plain-${PODS[i + 1]?.name}`,
      client: client.netns,
      server: server.netns,
      address: formatAddress(own),
    };
  });
  return { network, pairs };
}

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`${text} is no address`);
  return parsed;
}

type Manifest = Record<string, unknown>;

function manifests(policies: number): Manifest {
  const nodes = NODES.map((name) => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } }));
  const pods = PODS.map(({ name, node }) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'bench', labels: { app: name, group: 'bench' } },
    spec: { nodeName: node, containers: [{ name: 'main' }] },
  }));
  const others = Array.from({ length: Math.max(0, policies - 2) }, (_, i) => decoy(i));
  return {
    apiVersion: 'v1',
    kind: 'List',
    items: [...nodes, ...pods, ...(policies === 0 ? [] : [...others, ...own()])],
  };
}

/** A policy of the measured pods that never matches their traffic. */
function decoy(index: number): Manifest {
  const block = `10.${200 + Math.floor(index / 65536)}.${Math.floor(index / 256) % 256}.${index % 256}/32`;
  const peers = [{ ipBlock: { cidr: block } }, { podSelector: { matchLabels: { app: `decoy-${index}` } } }];
  const ports = [{ port: 1000 + (index % 100) }, { port: 20_000, endPort: 20_100, protocol: 'UDP' }];
  return policy(`decoy-${String(index).padStart(6, '0')}`, [{ from: peers, ports }], [{ to: peers, ports }]);
}

function own(): readonly Manifest[] {
  const peers = [{ podSelector: { matchLabels: { group: 'bench' } } }];
  const ports = [
    { port: 1024, endPort: 65_535 },
    { port: 1024, endPort: 65_535, protocol: 'UDP' },
  ];
  return [policy('deny-all', [], []), policy('own', [{ from: peers, ports }], [{ to: peers, ports }])];
}

function policy(name: string, ingress: readonly unknown[], egress: readonly unknown[]): Manifest {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'bench' },
    spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'], ingress, egress },
  };
}
