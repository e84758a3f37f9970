// One life of an agent that is going to be killed: started, connected to, told of its pods; what it uses, what it said.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { FlowEvent } from '#agent/protocol.ts';
import { type AgentClient, connectAgent } from '#sandbox/agent-client.ts';
import { AGENT_ENVIRONMENT, AGENT_FLAGS } from '#sandbox/agent-process.ts';
import type { Held } from '../held.ts';
import { type KilledAgent, socketsOf } from './agent.ts';
import { OPEN_PORT } from './slots.ts';

const UP_LIMIT_MS = 30_000;
/** So many of the last drops are kept. */
const DROPS = 64;

/** What an agent is started in: a command before its own, variables, and the root of other sources. */
export type Surroundings = {
  readonly root?: string;
  readonly prefix?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
};

/** Of a pod that the node tore down without asking; of what was asked for. */
const EXPECTED = /can't be put back: \w+: no such device$|^the bypass of policy /;

export class AgentLife {
  readonly #options: KilledAgent;
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  readonly #problems: string[] = [];
  readonly #drops: string[] = [];
  /** By the monotonic clock. */
  readonly bornMs: number = Number(process.hrtime.bigint() / 1_000_000n);
  /** What it dropped of what must pass. */
  readonly lost: FlowEvent[] = [];
  #client: AgentClient | null = null;
  #applied = 0;
  #killed = false;
  #said = '';

  /** `tree`: the root of the sources that it runs. */
  constructor(tree: string, options: KilledAgent, { prefix = [], env = {} }: Surroundings = {}) {
    this.#options = options;
    const script = join(tree, 'test/support/kills/agent.ts');
    const [program = '', ...args] = [...prefix, process.execPath, ...AGENT_FLAGS, script, JSON.stringify(options)];
    this.#child = spawn(program, args, {
      stdio: ['pipe', 'ignore', 'pipe', 'ipc'],
      // As the sandbox starts its agents, but that their code has a place of its own.
      env: { ...process.env, ...AGENT_ENVIRONMENT, NODE_COMPILE_CACHE: join(options.folder, 'code'), ...env },
    });
    this.#exit = once(this.#child, 'exit');
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text;
    });
  }

  /** True where the test itself ended it. */
  get killed(): boolean {
    return this.#killed;
  }

  get client(): AgentClient {
    if (this.#client === null) throw new Error('the agent is not connected');
    return this.#client;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** How it ended, by itself or not; null while it lives. */
  get end(): string | null {
    const { exitCode, signalCode } = this.#child;
    return signalCode ?? (exitCode === null ? null : `exit code ${exitCode}`);
  }

  /** What it told last of what was dropped, to this port. */
  drops(port: number): readonly string[] {
    return this.#drops.filter((text) => text.includes(`"destinationPort":${port},`));
  }

  /** What it wrote to its log, and told unasked: nothing, where nothing goes wrong. */
  get complaints(): readonly string[] {
    const said = this.#said.split('\n').filter((line) => line !== '' && !EXPECTED.test(line));
    return [...this.#problems, ...said];
  }

  /** Resolves once it serves. Throws where it ends first. */
  async connect(): Promise<void> {
    const listener = {
      flows: (events: readonly FlowEvent[]) => {
        for (const event of events) {
          if (event.kind !== 'drop') continue;
          const text = JSON.stringify(event);
          if (isOpen(event)) this.lost.push(event);
          this.#drops.push(text);
          if (this.#drops.length > DROPS) this.#drops.shift();
        }
      },
      applied: (revision: number) => {
        this.#applied = revision;
      },
      problem: (message: string) => {
        if (!EXPECTED.test(message)) this.#problems.push(message);
      },
      gone: () => undefined,
    };
    for (const limit = performance.now() + UP_LIMIT_MS; performance.now() < limit; await pause(5)) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) break;
      this.#client = await connectAgent(socketsOf(this.#options).agentSocket, listener);
      if (this.#client === null) continue;
      const revision = await this.#client.subscribe();
      // News that came right behind the answer has been heard by now.
      this.#applied = Math.max(this.#applied, revision);
      return;
    }
    throw new Error(`the agent does not serve: ${this.#said}`);
  }

  /** Waits until it enforces a revision. */
  async reached(revision: number): Promise<void> {
    for (const limit = performance.now() + UP_LIMIT_MS; this.#applied < revision; await pause(1)) {
      if (performance.now() > limit) throw new Error(`the agent never reached revision ${revision}`);
      if (this.#killed) throw new Error('killed');
    }
  }

  async kill(): Promise<void> {
    this.#killed = true;
    if (this.end === null) this.#child.kill('SIGKILL');
    await this.#exit;
    this.#client?.close();
  }

  /** What it holds, once it has collected its garbage. */
  async held(): Promise<Held> {
    const answer = once(this.#child, 'message');
    this.#child.send('held');
    const [held] = (await Promise.race([answer, this.#exit.then(() => [])])) as [Held?];
    if (held === undefined) throw new Error('the agent ended');
    return held;
  }

  /** Open descriptors, and resident memory in kilobytes. */
  usage(): { readonly descriptors: number; readonly residentKb: number } {
    const folder = `/proc/${this.#child.pid}`;
    const resident = /VmRSS:\s+(\d+)/.exec(readFileSync(`${folder}/status`, 'utf8'));
    return { descriptors: readdirSync(`${folder}/fd`).length, residentKb: Number(resident?.[1]) };
  }
}

/** Of the pairs that may always talk: nobody else uses that port. */
function isOpen({ sourcePort, destinationPort }: FlowEvent): boolean {
  return sourcePort === OPEN_PORT || destinationPort === OPEN_PORT;
}
