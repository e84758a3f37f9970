// One agent as a process: started, connected to, started again with growing pauses when it dies.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type AgentProcessOptions, UNWATCHED } from '#agent/process-options.ts';
import type { FlowEvent } from '#agent/protocol.ts';
import type { Semantics } from '#policy/world.ts';
import { type AgentClient, connectAgent } from './agent-client.ts';
import { lastWords } from './agent-log.ts';
import { errorText, SandboxError } from './error.ts';
import { COMPILE_CACHE, netnsPath, type StatePaths } from './names.ts';
import type { NodeNetns } from './network.ts';
import { PATIENCE } from './patience.ts';

export type AgentSetup = {
  readonly instance: string;
  readonly node: NodeNetns;
  readonly paths: StatePaths;
  readonly semantics: Semantics;
};

/** What the sandbox hears of an agent. */
export type AgentHooks = {
  readonly flows: (events: readonly FlowEvent[], lost: number) => void;
  /** A new process serves: its endpoints must be handed to it again. The first start does not call it. */
  readonly restarted: (client: AgentClient) => Promise<void>;
  /** Something that people must know. */
  readonly notice: (text: string) => void;
};

/**
 * Resident memory follows these more than it follows data: the young generation's room, how far the old one grows before
 * it is looked through, by how much it may outgrow that meanwhile, and what malloc keeps. Changes are rare, so their code is seldom hot: it is compiled at once.
 * What a change waits for is mostly the heap: one thread helps V8, since several take the CPUs from the agent's own on a
 * small node; and pages are given back after a minute without a collection, not eight seconds after each.
 * `moat` sets the same for `moat agent`.
 */
export const AGENT_FLAGS: readonly string[] = [
  '--max-semi-space-size=2',
  '--heap-growing-percent=20',
  '--memory-saver-mode',
  '--gc-memory-reducer-start-delay-ms=60000',
  '--v8-pool-size=1',
  '--always-sparkplug',
];
export const AGENT_ENVIRONMENT: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_TRIM_THRESHOLD_: '131072',
  MALLOC_MMAP_THRESHOLD_: '131072',
  // Code is kept ready to run: an agent starts over once it is (agent/ready-code.ts).
  NODE_COMPILE_CACHE: COMPILE_CACHE,
};
const MAIN = join(import.meta.dirname, '../agent/main.ts');
const START_LIMIT_MS = 60_000 * PATIENCE;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** A process that lived this long starts over with the first pause. */
const STEADY_MS = 30_000;

/** Supervises the agent of one node until `stop`. */
export class AgentProcess {
  readonly #setup: AgentSetup;
  readonly #hooks: AgentHooks;
  #child: ChildProcess | null = null;
  #client: AgentClient | null = null;
  #pauseMs = FIRST_PAUSE_MS;
  #startedMs = 0;
  #stopping = false;
  #applied = 0;
  /** The last revision that the process itself told of. */
  #heard = 0;
  #takingOver = false;
  #applyMs = 0;
  #waiting: (() => void)[] = [];

  constructor(setup: AgentSetup, hooks: AgentHooks) {
    this.#setup = setup;
    this.#hooks = hooks;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Time that the last applied revision took on the node, in milliseconds. */
  get applyMs(): number {
    return this.#applyMs;
  }

  get alive(): boolean {
    return this.#client !== null;
  }

  /** The connection, while the agent is there. */
  get client(): AgentClient {
    if (this.#client === null) {
      const message = `the agent of node ${this.#setup.node.name} is not running`;
      throw new SandboxError('agent-gone', message, `wait for it, or read ${this.#logPath()}`);
    }
    return this.#client;
  }

  async start(): Promise<void> {
    this.#spawn();
    await this.#connect();
  }

  /** Waits until this revision is in force on the node. */
  async reached(revision: number, limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs;
    while (this.#applied < revision) {
      const left = deadline - performance.now();
      if (left <= 0) {
        const message = `node ${this.#setup.node.name} has not applied the change after ${limitMs} ms`;
        throw new SandboxError('apply-slow', message, `read ${this.#logPath()}`);
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      await Promise.race([promise, pause(left, undefined, { ref: false })]);
    }
  }

  /** Ends the process and waits for it. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#client?.close();
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
    const hard = setTimeout(() => child.kill('SIGKILL'), 3000);
    await promise.finally(() => clearTimeout(hard));
  }

  #spawn(): void {
    const { instance, node, paths, semantics } = this.#setup;
    const options: AgentProcessOptions = {
      ...{ instance, node: node.name, netns: netnsPath(node.netns), semantics },
      ...{ source: { kind: 'socket', path: paths.cluster }, agentSocket: paths.agent(node.name) },
      ...{ cniFolder: null, network: null, watched: UNWATCHED },
    };
    const log = openSync(this.#logPath(), 'a', 0o600);
    // The pipe at its standard input closes with this process, however it ends: the agent then ends too.
    // A process group of its own: Ctrl-C in a terminal is for the sandbox, which then ends its agents in order.
    const child = spawn(process.execPath, [...AGENT_FLAGS, MAIN, JSON.stringify(options)], {
      stdio: ['pipe', log, log],
      env: { ...process.env, ...AGENT_ENVIRONMENT },
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    this.#heard = 0;
    this.#startedMs = performance.now();
    child.on('error', (error) => this.#hooks.notice(`agent of ${node.name}: ${errorText(error)}`));
    child.on('exit', (code, signal) => this.#ended(signal ?? `exit code ${code}`));
  }

  async #connect(): Promise<void> {
    const { node, paths } = this.#setup;
    const deadline = performance.now() + START_LIMIT_MS;
    const child = this.#child;
    while (performance.now() < deadline && child?.exitCode === null && child.signalCode === null) {
      const client = await connectAgent(paths.agent(node.name), this.#listener());
      if (client !== null) {
        this.#client = client;
        const revision = await client.subscribe();
        // News that came right behind the answer has been heard by now.
        if (revision > this.#heard) this.#noteApplied(revision, 0);
        return;
      }
      await pause(15);
    }
    const message = `the agent of node ${node.name} did not start: ${lastWords(readFileSync(this.#logPath(), 'utf8'))}`;
    throw new SandboxError('agent-start', message, 'see what it says; the kernel programs may be missing or refused');
  }

  #listener(): Parameters<typeof connectAgent>[1] {
    return {
      flows: (events, lost) => this.#hooks.flows(events, lost),
      applied: (revision, applyMs) => this.#noteApplied(revision, applyMs),
      problem: (message) => this.#hooks.notice(`agent of ${this.#setup.node.name}: ${message}`),
      gone: () => {
        this.#client = null;
      },
    };
  }

  #noteApplied(revision: number, applyMs: number): void {
    this.#heard = revision;
    // Until its pods are attached again, they are judged by what the process before it left.
    if (!this.#takingOver) this.#settle(revision, applyMs);
  }

  #settle(revision: number, applyMs: number): void {
    this.#applied = revision;
    this.#applyMs = applyMs;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #ended(how: string): void {
    if (this.#stopping) return;
    this.#applied = 0;
    this.#takingOver = true;
    if (performance.now() - this.#startedMs > STEADY_MS) this.#pauseMs = FIRST_PAUSE_MS;
    const name = this.#setup.node.name;
    this.#hooks.notice(`agent of ${name} ended (${how}); the kernel goes on enforcing; again in ${this.#pauseMs} ms`);
    setTimeout(() => void this.#restart(), this.#pauseMs).unref();
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }

  async #restart(): Promise<void> {
    if (this.#stopping) return;
    const name = this.#setup.node.name;
    try {
      this.#spawn();
      await this.#connect();
      await this.#hooks.restarted(this.client);
      this.#takingOver = false;
      this.#settle(this.#heard, this.#applyMs);
      this.#hooks.notice(`agent of ${name} is back`);
    } catch (error) {
      if (this.#stopping) return;
      this.#hooks.notice(`agent of ${name}: ${errorText(error)}`);
      // Half a takeover is none: the next process tries again.
      this.#child?.kill('SIGKILL');
    }
  }

  #logPath(): string {
    return this.#setup.paths.agentLog(this.#setup.node.name);
  }
}
