// `moat agent`: the node daemon in the foreground. It follows a cluster source, enforces policy on this node's pods, and
// serves whoever attaches pods. When it ends, the kernel goes on enforcing.
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { Agent } from '#agent/agent.ts';
import { runAgent } from '#agent/run.ts';
import { checkInstanceName, statePaths } from '#sandbox/names.ts';
import { CommandError } from './errors.ts';
import { type InputOptions, semanticsOf, semanticsOption } from './options.ts';

type Options = Pick<InputOptions, 'ipblockPods'> & {
  readonly node: string;
  readonly instance: string;
  readonly clusterSocket?: string;
  readonly socket?: string;
  readonly netns?: string;
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  command
    .description('The node daemon: enforces policy on the pods of one node. Runs until SIGTERM or Ctrl-C; needs root.')
    .requiredOption('--node <name>', "this node's name, as pods carry it in spec.nodeName", parseNode)
    .option('--instance <name>', 'whose pins and sockets: a sandbox has its own name here', 'moat')
    .option('--cluster-socket <path>', 'where the cluster source listens (default: /run/moat/INSTANCE/cluster.sock)')
    .option('--socket <path>', 'where this agent listens (default: /run/moat/INSTANCE/agent-NODE.sock)')
    .option('--netns <path>', "file of the network namespace that the node's interfaces are in (default: this one)");
  semanticsOption(command).action(async (options: Options) => {
    const agent = await start(options);
    const code = await interrupted();
    // What it has put in the kernel stays.
    agent.close();
    done(code);
    process.exit(code);
  });
}

async function start(options: Options): Promise<Agent> {
  const { node, instance, netns = null } = options;
  if (process.getuid?.() !== 0) {
    throw new CommandError('an agent puts programs into the kernel, which needs root: run it with sudo');
  }
  if (netns !== null && !existsSync(netns)) throw new CommandError(`--netns ${netns}: there is no such file`);
  const paths = statePaths(checkInstanceName(instance));
  const { clusterSocket = paths.cluster, socket: agentSocket = paths.agent(node) } = options;
  const semantics = semanticsOf(options);
  try {
    process.umask(0o077);
    mkdirSync(dirname(agentSocket), { recursive: true, mode: 0o700 });
    const agent = await runAgent({ instance, node, netns, semantics, clusterSocket, agentSocket });
    const source = existsSync(clusterSocket) ? '' : ', which nobody serves yet';
    console.error(
      `moat: agent of node ${node} listens on ${agentSocket}; its cluster source is ${clusterSocket}${source}`,
    );
    return agent;
  } catch (error) {
    return fail(options, error);
  }
}

function fail({ node }: Options, cause: unknown): never {
  const message = cause instanceof Error ? cause.message : String(cause);
  throw new CommandError(`the agent of node ${node} can't start: ${message}`, { cause });
}

/** The exit code of the signal that asks for the end: a supervisor's is no failure. */
async function interrupted(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  process.once('SIGTERM', () => resolve(0));
  process.once('SIGINT', () => resolve(130));
  return await promise;
}

/** Names of pins and sockets carry it. */
function parseNode(name: string): string {
  if (name.length <= 63 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name)) return name;
  throw new InvalidArgumentError('Use 1 to 63 lower-case letters, digits, "-" and ".".');
}
