// The agent's process: `node main.ts OPTIONS`, OPTIONS a JSON object (AgentProcessOptions).
import { Compiler } from '#compile/compiler.ts';
import { openDatapath } from '#datapath/ebpf/open.ts';
import { enterNetns } from '#kernel/sockets.ts';
import { startAgent } from './agent.ts';
import { NodeState } from './node-state.ts';
import type { AgentProcessOptions } from './process-options.ts';

async function main(options: AgentProcessOptions): Promise<void> {
  // This thread alone, and the network alone: pins stay in the host's bpffs. Threads made later come along.
  enterNetns(options.netns);
  const { instance, node, semantics, clusterSocket, agentSocket } = options;
  const compiler = new Compiler({ semantics, isLocal: (pod) => pod.node === node });
  const state = new NodeState(node, compiler, openDatapath({ instance, node }));
  const agent = await startAgent({ node, clusterSocket, agentSocket, onFailure: fail }, state);
  const end = (): void => {
    agent.close();
    process.exit(0);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  // Its parent holds the other end: it is gone when this closes, however it ended.
  process.stdin.on('end', end).on('error', end).resume();
}

/** Every failure ends the process: the kernel goes on enforcing, and whoever supervises starts it afresh. */
function fail(error: unknown): void {
  console.error(error);
  process.exitCode = 1;
  setImmediate(() => process.exit(1));
}

main(JSON.parse(process.argv[2] ?? '{}') as AgentProcessOptions).catch(fail);
