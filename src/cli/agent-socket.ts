// Which agent of this machine a command asks: by its socket, its node's name, or because there is no other.
import { readdirSync } from 'node:fs';
import type { Command } from 'commander';
import { checkInstanceName, statePaths } from '#sandbox/names.ts';
import { CommandError } from './errors.ts';

export type AgentSocketOptions = { readonly node?: string; readonly instance: string; readonly socket?: string };

export function agentSocketOptions(command: Command): Command {
  return command
    .option('--node <name>', "the agent's node; needed where several agents run on this machine")
    .option('--instance <name>', 'whose sockets: a sandbox has its own name here', 'moat')
    .option('--socket <path>', 'where the agent listens (default: /run/moat/INSTANCE/agent-NODE.sock)');
}

/** Throws CommandError where it is not clear. */
export function agentSocket({ node, instance, socket }: AgentSocketOptions): string {
  if (socket !== undefined) return socket;
  const paths = statePaths(checkInstanceName(instance));
  if (node !== undefined) return paths.agent(node);
  const nodes = nodesIn(paths.folder);
  const [only] = nodes;
  if (only === undefined)
    throw new CommandError(`no agent has a socket in ${paths.folder}: name it with --socket or --node`);
  if (nodes.length > 1)
    throw new CommandError(`several agents have sockets in ${paths.folder}: name one by --node (${nodes.join(', ')})`);
  return paths.agent(only);
}

function nodesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).flatMap((name) => /^agent-(.+)\.sock$/.exec(name)?.[1] ?? []);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return [];
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CommandError(`${why}: sockets of agents are root's alone: run it with sudo`, { cause });
  }
}
