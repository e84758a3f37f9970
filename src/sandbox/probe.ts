// Probes by real packets: every pair concurrently, each verdict proved by our payload or by the kernel's drop event.

import type { FlowEvent, NamedRule } from '#agent/protocol.ts';
import type { ProbePort } from '#datapath/reference/simulate.ts';
import { SystemCallError } from '#kernel/sockets.ts';
import { formatAddress } from '#net/address.ts';
import { protocolName } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import { PATIENCE } from './patience.ts';
import { type Outcome, startAttempt } from './probe-attempt.ts';
import { type Judgement, judgeEvidence, type ProbeRow, type Proof } from './probe-judge.ts';
import { eventKey, flowKey, makeTasks, type PacketEnd, type Task } from './probe-tasks.ts';
import type { Borrowed, SharedSockets } from './shared-sockets.ts';

export type PacketProbe = {
  readonly sources: readonly PacketEnd[];
  readonly destinations: readonly PacketEnd[];
  readonly ports: readonly ProbePort[];
  readonly progress?: (done: number, total: number) => void;
  /** How long each attempt waits for evidence; as many attempts as entries. */
  readonly attemptsMs?: readonly number[];
};

/** A probe that proved nothing, after all its attempts. Never a verdict. */
export type ProbeFailure = {
  readonly from: string;
  readonly to: string;
  readonly protocol: string;
  readonly port: number;
  readonly message: string;
};

export type ProbeResult = {
  readonly rows: readonly ProbeRow[];
  readonly errors: readonly ProbeFailure[];
  /** The connection behind each row, as packets carried it. */
  readonly flows: readonly Flow[];
  /** Pairs with two families in common: what the one that does not make the row says. */
  readonly secondFamily: readonly ProbeRow[];
  /** The rules that the rows name, each with its places in the manifests. */
  readonly rules: readonly NamedRule[];
};

const ATTEMPTS_MS = [1000, 2000, 3000];
const IN_FLIGHT = 768;
const TURN_MS = 4;

/** Where kernel events come from: calls back for each batch of a node until the returned function is called. */
export type FlowTap = (listen: (node: string, events: readonly FlowEvent[], lost: number) => void) => () => void;

/** Source ports, given out in turn: a port used twice would meet the conntrack entry of its last use. */
export class SourcePorts {
  readonly #next: Map<string, number> = new Map();

  take(address: string): number {
    const next = this.#next.get(address) ?? 0;
    this.#next.set(address, (next + 1) % 40_000);
    return 20_000 + next;
  }
}

/** What probes and streams of one sandbox share. */
export type ProbeGear = { readonly sockets: SharedSockets; readonly ports: SourcePorts };

/** Probes all pairs. Frees every socket whatever happens. */
export async function probeByPackets(ask: PacketProbe, tap: FlowTap, gear: ProbeGear): Promise<ProbeResult> {
  const borrowed = gear.sockets.borrow(TURN_MS);
  const run = new ProbeRun(borrowed, ask, gear.ports);
  const untap = tap((node, events, lost) => run.hear(node, events, lost));
  try {
    return await run.all();
  } finally {
    untap();
    run.stop();
    borrowed.giveBack();
  }
}

/** One connection that is being tried. */
type Running = {
  readonly task: Task;
  readonly key: string;
  readonly startedMs: number;
  readonly stop: () => void;
  readonly events: FlowEvent[];
  outcome: Outcome;
};

class ProbeRun {
  readonly #borrowed: Borrowed;
  readonly #ports: SourcePorts;
  readonly #ask: PacketProbe;
  readonly #limits: readonly number[];
  readonly #tasks: readonly Task[];
  readonly #waiting: Task[];
  readonly #running: Map<string, Running> = new Map();
  readonly #proofs: Map<number, Proof> = new Map();
  readonly #failures: Map<number, string> = new Map();
  readonly #lost: Map<string, number> = new Map();

  constructor(borrowed: Borrowed, ask: PacketProbe, ports: SourcePorts) {
    this.#borrowed = borrowed;
    this.#ask = ask;
    this.#ports = ports;
    this.#limits = (ask.attemptsMs ?? ATTEMPTS_MS).map((ms) => ms * PATIENCE);
    this.#tasks = makeTasks(ask);
    this.#waiting = [...this.#tasks];
  }

  hear(node: string, events: readonly FlowEvent[], lost: number): void {
    if (lost > 0) this.#lost.set(node, (this.#lost.get(node) ?? 0) + lost);
    for (const event of events) {
      if (event.kind !== 'close') this.#running.get(eventKey(event))?.events.push(event);
    }
  }

  async all(): Promise<ProbeResult> {
    this.#listen();
    while (this.#waiting.length > 0 || this.#running.size > 0) {
      for (let task = this.#nextTask(); task !== undefined; task = this.#nextTask()) this.#start(task);
      await this.#borrowed.turned();
      this.#review();
    }
    return this.#result();
  }

  /** Ends whatever is still being tried. */
  stop(): void {
    for (const running of this.#running.values()) running.stop();
  }

  #listen(): void {
    const { servers } = this.#borrowed;
    for (const end of this.#ask.destinations) {
      for (const address of end.addresses) {
        for (const port of end.ports ?? this.#ask.ports)
          servers.listen({ netns: end.netns, address }, port.protocol, port.port);
      }
    }
  }

  #nextTask(): Task | undefined {
    return this.#running.size < IN_FLIGHT ? this.#waiting.shift() : undefined;
  }

  #start(task: Task): void {
    const { flow } = task.probe;
    const from = formatAddress(flow.from);
    for (let tries = 0; ; tries++) {
      const sourcePort = this.#ports.take(from);
      try {
        this.#launch(task, sourcePort);
        return;
      } catch (error) {
        const taken = error instanceof SystemCallError && error.code === 'EADDRINUSE';
        if (!taken || tries > 100) throw error;
      }
    }
  }

  #launch(task: Task, sourcePort: number): void {
    const { flow } = task.probe;
    const key = flowKey(flow, sourcePort);
    let early: Outcome = { kind: 'silent' };
    let running: Running | null = null;
    const report = (outcome: Outcome): void => {
      if (running === null) early = outcome;
      else running.outcome = outcome;
    };
    const startedMs = performance.now();
    const stop = startAttempt(this.#borrowed, { netns: task.netns, flow, sourcePort, report });
    running = { task, key, startedMs, stop, events: [], outcome: early };
    task.attempts++;
    this.#running.set(key, running);
  }

  #review(): void {
    const now = performance.now();
    for (const running of this.#running.values()) {
      const judgement = this.#judge(running, now);
      const limit = this.#limits[running.task.attempts - 1] ?? 0;
      if (judgement.kind === 'missing' && now - running.startedMs < limit) continue;
      running.stop();
      this.#running.delete(running.key);
      this.#finish(running.task, judgement);
    }
  }

  #judge(running: Running, now: number): Judgement {
    const { egressNode, ingressNode } = running.task;
    const { outcome, events } = running;
    return judgeEvidence({ outcome, events, egressNode, ingressNode, elapsedMs: now - running.startedMs });
  }

  #finish(task: Task, judgement: Judgement): void {
    if (judgement.kind === 'proved') this.#proofs.set(task.index, judgement);
    else if (task.attempts < this.#limits.length) {
      this.#waiting.push(task);
      return;
    } else this.#failures.set(task.index, `${judgement.what}${this.#lostText()}`);
    this.#ask.progress?.(this.#proofs.size + this.#failures.size, this.#tasks.length);
  }

  #lostText(): string {
    const texts = [...this.#lost].map(([node, count]) => `${count} on ${node}`);
    return texts.length === 0 ? '' : `; events lost: ${texts.join(', ')}`;
  }

  #result(): ProbeResult {
    const rows: ProbeRow[] = [];
    const flows: Flow[] = [];
    const secondFamily: ProbeRow[] = [];
    const errors: ProbeFailure[] = [];
    const rules = new Map<string, NamedRule>();
    for (const task of this.#tasks) {
      const { from, to } = task.probe;
      const about = { from, to, protocol: protocolName(task.port.protocol), port: task.probe.flow.port };
      const proof = this.#proofs.get(task.index);
      if (proof === undefined) errors.push({ ...about, message: this.#failures.get(task.index) ?? 'not tried' });
      else if (task.family === 'second') secondFamily.push({ ...about, ...rowOf(proof) });
      else {
        rows.push({ ...about, ...rowOf(proof) });
        flows.push(task.probe.flow);
      }
      for (const rule of [proof?.egress, proof?.ingress]) if (rule) rules.set(rule.id, rule);
    }
    return { rows, errors, flows, secondFamily, rules: [...rules.values()] };
  }
}

function rowOf(proof: Proof): Pick<ProbeRow, 'verdict' | 'rule' | 'decidedBy' | 'audited' | 'reason'> {
  const rule = { egress: proof.egress?.id ?? null, ingress: proof.ingress?.id ?? null };
  const reason = proof.reason === null ? {} : { reason: proof.reason };
  const audited = proof.audited === null ? {} : { audited: proof.audited };
  return { verdict: proof.verdict, rule, decidedBy: proof.decidedBy, ...audited, ...reason };
}
