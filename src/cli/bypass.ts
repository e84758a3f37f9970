// `moat bypass`: for a time, what policy denies this node's pods passes, told and counted: the way out when policy itself is
// what has gone wrong.
import { userInfo } from 'node:os';
import { type Command, Option } from 'commander';
import { timeText } from '#agent/bypass.ts';
import { connectAgent } from '#sandbox/agent-client.ts';
import { type AgentSocketOptions, agentSocket, agentSocketOptions } from './agent-socket.ts';
import { parseDuration } from './duration.ts';
import { CommandError } from './errors.ts';
import { outputOption } from './options.ts';
import { print, printJson } from './output.ts';

type Options = AgentSocketOptions & {
  readonly for?: number;
  readonly off?: true;
  readonly output: 'text' | 'json';
};

const SILENT = {
  ...{ flows: () => undefined, applied: () => undefined, problem: () => undefined, gone: () => undefined },
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  const time = new Option('--for <time>', 'how long from now on, up to a day, as 10m').argParser(parseDuration);
  agentSocketOptions(command)
    .description(
      "Lets pass what policy denies the pods of this agent's node, for a time: told, counted, and ended by the kernel itself. Needs root.",
    )
    .addOption(time.conflicts('off'))
    .option('--off', 'ends it now');
  outputOption(command, ['text', 'json']).action(async (options: Options) => {
    const leftMs = await bypass(options);
    if (options.output === 'json') printJson({ leftMs });
    else print(textOf(leftMs));
    done(0);
  });
}

/** Throws CommandError where nobody answers, or it is not said for how long. */
async function bypass(options: Options): Promise<number> {
  const { off = false, for: forMs = 0 } = options;
  if (!off && forMs === 0) throw new CommandError('say for how long: --for 10m; or end it: --off');
  const socket = agentSocket(options);
  const client = await connectAgent(socket, SILENT);
  if (client === null) {
    throw new CommandError(
      `no agent answers at ${socket}; what it put in the kernel goes on, a bypass until its time is over`,
    );
  }
  try {
    return (await client.bypass({ forMs, by: whoAsks() })).leftMs;
  } finally {
    client.close();
  }
}

/** Root is nobody in particular: sudo knows more. */
function whoAsks(): string {
  return process.env.SUDO_USER ?? userInfo().username;
}

function textOf(leftMs: number): string {
  if (leftMs === 0) return 'Policy is enforced.';
  return `What policy denies this node's pods passes for ${timeText(leftMs)}; moat bypass --off ends it, moat observe --verdict audit shows it.`;
}
