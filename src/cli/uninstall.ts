// `moat uninstall`: takes away what this node's agent has left. The chart runs it on every node, with `run: uninstall`.
import type { Command } from 'commander';
import { type Removed, uninstallNode } from '#agent/uninstall.ts';
import { BpffsError } from '#kernel/bpffs.ts';
import { checkInstanceName, statePaths } from '#sandbox/names.ts';
import { CommandError } from './errors.ts';
import { outputOption, parseNode } from './options.ts';
import { print, printJson } from './output.ts';

type Options = {
  readonly node: string;
  readonly instance: string;
  readonly cniFolder: string;
  readonly cniPluginFolder: string;
  readonly cniConfig: string;
  readonly output: 'text' | 'json';
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  command
    .description(
      "Removes what this node's agent left: CNI plugin and configuration, pods' links, hooks, programs, tables. Its pods have no network then. Needs root, and that no agent runs.",
    )
    .requiredOption('--node <name>', "this node's name", parseNode)
    .option('--instance <name>', "the agent's", 'moat')
    .requiredOption('--cni-folder <path>', "the agent's")
    .option('--cni-plugin-folder <path>', "the agent's", '/opt/cni/bin')
    .option('--cni-config <path>', "the agent's", '/etc/cni/net.d/05-moat.conflist');
  outputOption(command, ['text', 'json']).action(async (options: Options) => {
    const removed = await uninstall(options);
    if (options.output === 'json') printJson(removed);
    else print(textOf(removed, options.node));
    done(0);
  });
}

async function uninstall(options: Options): Promise<Removed> {
  if (process.getuid?.() !== 0) throw new CommandError("an agent's traces are root's: run it with sudo");
  const { node, instance, cniFolder, cniPluginFolder: pluginFolder, cniConfig: config } = options;
  const paths = statePaths(checkInstanceName(instance));
  const agentSocket = paths.agent(node);
  try {
    return await uninstallNode({ instance, node, agentSocket, cniFolder, cniPlaces: { pluginFolder, config } });
  } catch (cause) {
    if (cause instanceof BpffsError) throw new CommandError(cause.message, { cause });
    throw cause;
  }
}

function textOf({ files, pods, open, pins }: Removed, node: string): string {
  const removed = [...files, ...(pins === null ? [] : [pins])].map((path) => `removed ${path}`);
  if (removed.length === 0) return `node ${node}: there was nothing of Moat`;
  const lost = pods.map(
    (pod) => `${pod} has no network any more: delete it, and another CNI gives the next one its own`,
  );
  const bare = open.map((pod) => `${pod} is judged by no policy any more: its network is another CNI's, and stays`);
  return [...removed, ...lost, ...bare].join('\n');
}
