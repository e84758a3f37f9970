// The agent's process as tests kill it: `agent.ts JSON` (KilledAgent). The real one's parts, with tables of other sizes.
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { startAgent } from '#agent/agent.ts';
import type { NodeState } from '#agent/node-state.ts';
import { ClusterSource } from '#agent/source.ts';
import { Compiler } from '#compile/compiler.ts';
import type { AttachMode } from '#datapath/ebpf/hooks.ts';
import { openDatapath } from '#datapath/ebpf/open.ts';
import { enterNetns } from '#kernel/sockets.ts';
import { STANDARD_SEMANTICS } from '#policy/world.ts';
import { held } from '../held.ts';
import { quietObserver } from '../observer.ts';
import { HaltingState } from './halting-state.ts';

/** What the process is told. `sizes`: entries per map; they tell a test's maps from everybody else's. */
export type KilledAgent = {
  readonly instance: string;
  readonly node: string;
  readonly netns: string;
  /** Where the cluster source and the agent have their sockets. */
  readonly folder: string;
  /** Where the agent has its own, if not there. */
  readonly agentFolder?: string;
  readonly sizes: Readonly<Record<string, number>>;
  /** Whether it serves the node's own clients. */
  readonly hostClients?: boolean;
  /** How it attaches its hooks, if not as the kernel does best. */
  readonly attach?: AttachMode;
};

/** The sockets of a cluster source and an agent. */
export function socketsOf({ folder, agentFolder = folder }: Pick<KilledAgent, 'folder' | 'agentFolder'>): {
  readonly clusterSocket: string;
  readonly agentSocket: string;
} {
  return { clusterSocket: join(folder, 'cluster.sock'), agentSocket: join(agentFolder, 'agent.sock') };
}

if (import.meta.main) {
  const options = JSON.parse(process.argv[2] ?? '{}') as KilledAgent;
  const { instance, node, netns, sizes, attach, hostClients = false } = options;
  const { clusterSocket, agentSocket } = socketsOf(options);
  enterNetns(netns);
  const makeState = (): NodeState => {
    const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (pod) => pod.node === node });
    return new HaltingState(
      options.folder,
      node,
      compiler,
      openDatapath({ instance, node, sizes, hostClients, ...(attach === undefined ? {} : { attach }) }),
    );
  };
  await startAgent({
    node,
    agentSocket,
    cniFolder: null,
    cniConfig: null,
    makeNetwork: null,
    observer: quietObserver(),
    makeState,
    makeSource: (follower) => new ClusterSource(clusterSocket, follower),
  });
  // For the agents after this one.
  flushCompileCache();
  process.on('message', () => process.send?.(held()));
  // Its parent holds the other end.
  process.stdin.on('end', () => process.exit(0)).resume();
}
