// `moat status`: what an agent of this machine knows of itself; with --wait, once all that it knows is in force.
import { setTimeout as pause } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { timeText } from '#agent/bypass.ts';
import type { AgentStatus } from '#agent/protocol.ts';
import { type AgentClient, connectAgent } from '#sandbox/agent-client.ts';
import { type AgentSocketOptions, agentSocket, agentSocketOptions } from './agent-socket.ts';
import { parseDuration } from './duration.ts';
import { CommandError } from './errors.ts';
import { outputOption } from './options.ts';
import { print, printJson } from './output.ts';

type Options = AgentSocketOptions & {
  readonly wait?: true;
  readonly timeout: number;
  readonly output: 'text' | 'json';
};

const LOOK_EVERY_MS = 100;

export function define(command: Command, done: (exitCode: number) => void): void {
  const timeout = new Option('--timeout <time>', 'how long --wait waits')
    .argParser(parseDuration)
    .default(60_000, '60s');
  agentSocketOptions(command)
    .description('What an agent of this machine knows of itself; needs root.')
    .option('--wait', 'until all that the agent knows of the cluster is in force')
    .addOption(timeout);
  outputOption(command, ['text', 'json']).action(async (options: Options) => {
    const socket = agentSocket(options);
    const status = options.wait ? await waitFor(socket, options.timeout) : await ask(socket);
    if (options.output === 'json') printJson(status);
    else print(statusText(status));
    done(0);
  });
}

async function ask(socket: string): Promise<AgentStatus> {
  const status = await statusAt(socket);
  if (status === null) throw new CommandError(`no agent answers at ${socket}; what it put in the kernel goes on`);
  return status;
}

/** Throws CommandError with what is missing yet. */
async function waitFor(socket: string, timeoutMs: number): Promise<AgentStatus> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const status = await statusAt(socket);
    if (status !== null && missing(status) === null) return status;
    if (performance.now() >= endMs) {
      const why = status === null ? `no agent answers at ${socket}` : missing(status);
      throw new CommandError(`not all is in force after ${timeoutMs / 1000} s: ${why}`);
    }
    await pause(LOOK_EVERY_MS);
  }
}

/** Null where nobody listens, or whoever did ended meanwhile. */
async function statusAt(socket: string): Promise<AgentStatus | null> {
  let isGone = false;
  const gone = (): void => {
    isGone = true;
  };
  const silent = { flows: () => undefined, applied: () => undefined, problem: () => undefined, gone };
  const client: AgentClient | null = await connectAgent(socket, silent);
  if (client === null) return null;
  try {
    return await client.status();
  } catch (error) {
    if (isGone) return null;
    throw error;
  } finally {
    client.close();
  }
}

/** What keeps all that is known from being in force; null = nothing. */
function missing({ ready, known, revision, source, problem }: AgentStatus): string | null {
  if (problem !== null) return problem;
  if (source !== null) return source;
  if (ready) return null;
  return known === 0 ? 'the cluster is not known yet' : `revision ${revision} is in force, and ${known} is known`;
}

function statusText(status: AgentStatus): string {
  const { node, pid, revision, known, endpoints, audited, bypassMs, policies, rules, findings, memoryMb } = status;
  const wrong = missing(status);
  const lines = [
    ...(bypassMs === 0
      ? []
      : [['BYPASS', `on for ${timeText(bypassMs)} more: what policy denies this node's pods passes`]]),
    ['node', `${node} (process ${pid}, ${memoryMb} MB)`],
    ['ready', wrong === null ? 'yes: all that is known is in force' : `no: ${wrong}`],
    ...(audited === 0 ? [] : [['audited', auditedText(audited, endpoints)]]),
    ['revision', revision === known ? String(revision) : `${revision} of ${known}`],
    ['policies', `${policies} known, ${rules} rules in force for ${endpoints} addresses of this node's pods`],
    ['dropped', droppedText(status)],
    ...findings.map((finding) => ['finding', finding]),
  ];
  return lines.map(([name = '', text = '']) => `${name.padEnd(9)} ${text}`).join('\n');
}

function auditedText(audited: number, endpoints: number): string {
  return `what policy denies passes, for ${audited} of ${endpoints} addresses of this node's pods; moat observe --verdict audit shows it`;
}

function droppedText({ drops, lostEvents, evictedFlows }: AgentStatus): string {
  const counts = Object.entries(drops).map(([reason, count]) => `${reason} ${count}`);
  const packets = counts.length === 0 ? 'no packet yet' : counts.join(', ');
  const more = [
    ...(lostEvents > 0 ? [`${lostEvents} events lost`] : []),
    ...(evictedFlows > 0 ? [`${evictedFlows} flows gave way`] : []),
  ];
  return [packets, ...more].join('; ');
}
