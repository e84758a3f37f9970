// An agent as a process runs it: in its network namespace, on its node's datapath, until closed.
import { Compiler } from '#compile/compiler.ts';
import { openDatapath } from '#datapath/ebpf/open.ts';
import { enterNetns } from '#kernel/sockets.ts';
import { type Agent, startAgent } from './agent.ts';
import { NodeState } from './node-state.ts';
import type { AgentProcessOptions } from './process-options.ts';
import { startOnReadyCode } from './ready-code.ts';

/** Resolves when it serves; the process may have started over before (ready-code.ts). Throws where it can't; what fails later it mends by a fresh start of its own. */
export async function runAgent(options: AgentProcessOptions): Promise<Agent> {
  startOnReadyCode();
  const { instance, node, netns, semantics, clusterSocket, agentSocket } = options;
  // This thread alone, and the network alone: pins stay in the host's bpffs. Threads made later come along.
  if (netns !== null) enterNetns(netns);
  const makeState = (): NodeState => {
    const compiler = new Compiler({ semantics, isLocal: (pod) => pod.node === node });
    return new NodeState(node, compiler, openDatapath({ instance, node }));
  };
  return await startAgent({ node, clusterSocket, agentSocket, makeState });
}
