// `moat observe`: flows as the kernel reports them, with the pods' names and the rule that decided, until Ctrl-C.
import { setTimeout as pause } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { FlowEvent } from '#agent/protocol.ts';
import { connectAgent } from '#sandbox/agent-client.ts';
import { type AgentSocketOptions, agentSocket, agentSocketOptions } from './agent-socket.ts';
import { CommandError } from './errors.ts';
import { type FlowFilter, isWanted, type Verdict } from './flow-filter.ts';
import { flowJson, lostJson } from './flow-json.ts';
import { flowText } from './flow-text.ts';
import { outputOption } from './options.ts';
import { print } from './output.ts';

type Options = AgentSocketOptions & {
  readonly namespace?: string;
  readonly pod?: string;
  readonly verdict?: Verdict;
  readonly limit: number;
  readonly output: 'text' | 'json';
};

const RETRY_MS = 200;

export function define(command: Command, done: (exitCode: number) => void): void {
  agentSocketOptions(command)
    .description('Flows of the pods of this machine, as they happen, until Ctrl-C; needs root.')
    .option('--follow', 'go on with what happens: always so, since nothing is stored yet')
    .option('-n, --namespace <name>', 'only flows from or to pods of this namespace')
    .option('--pod <namespace/name>', 'only flows from or to this pod', parsePod)
    .addOption(new Option('--verdict <verdict>', 'only these').choices(['forwarded', 'dropped', 'audit']))
    .addOption(new Option('--limit <count>', 'ends after so many').argParser(parseCount).default(Infinity, 'none'));
  outputOption(command, ['text', 'json']).action(async (options: Options) => {
    process.once('SIGINT', () => process.exit(130));
    await observe(options);
    done(0);
    process.exit(0);
  });
}

/** Goes on with the next agent where one ends. Throws CommandError where there is none at the start. */
async function observe(options: Options): Promise<void> {
  const socket = agentSocket(options);
  const out = new Output(options);
  for (let isFirst = true; ; isFirst = false) {
    const over = Promise.withResolvers<void>();
    const client = await connectAgent(socket, {
      flows: (events, lost) => out.take(events, lost),
      ...{ applied: () => undefined, problem: () => undefined, gone: over.resolve },
    });
    if (client === null) {
      if (isFirst) throw new CommandError(`no agent answers at ${socket}`);
      await pause(RETRY_MS);
      continue;
    }
    if (!isFirst) console.error('moat: flows are told again; what happened meanwhile is not known');
    // That it ended before it answered is the same as that it ends later.
    await client.subscribe().catch(() => undefined);
    await Promise.race([over.promise, out.full]);
    if (out.isFull) return client.close();
    console.error('moat: the agent ended; policy stays in force, and the next one is waited for');
  }
}

class Output {
  readonly #filter: FlowFilter;
  readonly #isJson: boolean;
  readonly #done = Promise.withResolvers<void>();
  #left: number;

  constructor({ namespace, pod, verdict, limit, output }: Options) {
    this.#filter = { namespace: namespace ?? null, pod: pod ?? null, verdict: verdict ?? null };
    this.#isJson = output === 'json';
    this.#left = limit;
  }

  /** Resolves once as many flows as were asked for are told. */
  get full(): Promise<void> {
    return this.#done.promise;
  }

  get isFull(): boolean {
    return this.#left <= 0;
  }

  take(events: readonly FlowEvent[], lost: number): void {
    // Both clocks at one moment: flows carry the one that does not jump.
    const clock = { dayMs: Date.now(), monotonicNs: process.hrtime.bigint() };
    for (const event of events.filter((each) => isWanted(this.#filter, each))) {
      if (this.isFull) break;
      this.#left--;
      print(this.#isJson ? flowJson(event, clock) : flowText(event, clock));
    }
    if (lost > 0 && !this.isFull) this.#tellLoss(lost, clock.dayMs);
    if (this.isFull) this.#done.resolve();
  }

  #tellLoss(lost: number, dayMs: number): void {
    if (this.#isJson) print(lostJson(lost, dayMs));
    else console.error(`moat: ${lost} flows were not told: there were too many`);
  }
}

function parsePod(text: string): string {
  if (/^[^/\s]+\/[^/\s]+$/.test(text)) return text;
  throw new InvalidArgumentError('Write the namespace and the name, as in shop/web.');
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Write a number from 1 on.');
}
