// Moat on the bench's two nodes: the real agents as processes, following a world that this process publishes.
import { readFileSync } from 'node:fs';
import { diffWorlds } from '#cluster/world/diff.ts';
import { formatAddress } from '#net/address.ts';
import { STANDARD_SEMANTICS } from '#policy/world.ts';
import { AgentProcess } from '#sandbox/agent-process.ts';
import { ClusterServer } from '#sandbox/cluster-server.ts';
import { claim, release, removeLeftovers } from '#sandbox/owner.ts';
import type { BenchNetwork } from './network.ts';
import type { BenchWorld } from './worlds.ts';

/** A million rules take two agents some minutes. */
const LIMIT_MS = 600_000;

export type RunningMoat = {
  /** Resident memory of the agents, the larger one's, in MB. */
  readonly memoryMb: () => Promise<number>;
  readonly down: () => Promise<void>;
};

/** Attaches Moat to a network whose pods are still down, under a world's policies. Resolves when they are in force. */
export async function startMoat(instance: string, net: BenchNetwork, { world }: BenchWorld): Promise<RunningMoat> {
  const paths = claim(instance);
  const cluster = new ClusterServer(paths.cluster, diffWorlds);
  await cluster.listen();
  cluster.publish(world);
  const hooks = {
    flows: () => undefined,
    restarted: () => Promise.reject(new Error('an agent ended while it was measured')),
    notice: (text: string) => process.stderr.write(`bench: ${text}\n`),
  };
  const agents = net.nodes.map(
    (node) => new AgentProcess({ instance, node, paths, semantics: STANDARD_SEMANTICS }, hooks),
  );
  const down = async (): Promise<void> => {
    await Promise.all(agents.map((agent) => agent.stop()));
    cluster.close();
    await removeLeftovers(instance);
    release(instance);
  };
  try {
    await Promise.all(agents.map((agent) => agent.start()));
    await Promise.all(agents.map((agent) => agent.reached(cluster.revision, LIMIT_MS)));
    for (const [index, agent] of agents.entries()) await agent.client.attach(attachRequests(net, index));
  } catch (error) {
    await down();
    throw error;
  }
  const memoryMb = (): Promise<number> => Promise.resolve(Math.max(...agents.map(({ pid }) => residentMb(pid))));
  return { memoryMb, down };
}

/** Asked of the kernel: an agent hangs up on those who are told of more connections than they can hear. */
function residentMb(pid: number | null): number {
  const kilobytes = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round((Number(kilobytes) * 1024) / 1e6);
}

function attachRequests(net: BenchNetwork, node: number): Parameters<AgentProcess['client']['attach']>[0] {
  return net.pods
    .filter((pod) => pod.node === net.nodes[node])
    .map(({ key, interfaceIndex, mac, addresses }) => {
      return { pod: key, interfaceIndex, mac, addresses: addresses.map(formatAddress) };
    });
}
