// One node's state: the compiled plan and the datapath that enforces it, moved together.
import type { Compiler } from '#compile/compiler.ts';
import { GradualCompiler, type Work } from '#compile/gradual.ts';
import type { Step } from '#compile/plan.ts';
import type { Write } from '#compile/recorder.ts';
import { shortageText } from '#compile/shortage.ts';
import type { Datapath, DatapathEvent, DropReason, EndpointLink, Lack } from '#datapath/port.ts';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import type { WorldEvent } from '#policy/world.ts';
import { lackText } from './lack-text.ts';
import type { AgentStatus, FlowEvent } from './protocol.ts';
import { RuleNames } from './rule-names.ts';
import { Slices } from './slices.ts';

/** The port, and what an agent needs of a datapath that outlives its process. */
export type NodeDatapath = Datapath & {
  /** Gives the pods of an earlier process that are attached by now their new policy, all at once. */
  turn(): void;
  /** Ends a takeover: from now on only what this process has named is in force. */
  settle(): void;
  counters(): { readonly drops: ReadonlyMap<DropReason, bigint>; readonly evicted: bigint };
  /** What the kernel had no room for: whom it is about is denied. */
  readonly lacks: readonly Lack[];
  /** Set once a change failed: then everything is denied, until another process or a fresh start takes over. */
  readonly failure: Error | null;
  repair(): readonly HookRepair[];
  refresh(): void;
};

/** An interface whose hooks were found wrong: gone, behind another program, or standing only as long as this process. */
export type HookRepair = {
  readonly interfaceIndex: number;
  readonly found: 'absent' | 'behind' | 'unpinned';
  /** After the repair. */
  readonly now: 'first' | 'behind' | 'absent';
  /** Why the repair failed; null where it did not. */
  readonly failure: string | null;
  /** The interface is not there any more. */
  readonly gone: boolean;
};

export type Applied = { readonly steps: number; readonly applyMs: number };

/** Owns the compiler's and the datapath's common history. After a throw it is of no more use: start afresh. */
export class NodeState {
  readonly #node: string;
  readonly #compiler: GradualCompiler;
  readonly #datapath: NodeDatapath;
  readonly #names: RuleNames = new RuleNames();
  /** Local addresses whose policy is in force. */
  readonly #endpoints: Set<AddressKey> = new Set();
  #lost = 0;
  readonly #slices: Slices<Work> = new Slices();

  constructor(node: string, compiler: Compiler, datapath: NodeDatapath) {
    this.#node = node;
    this.#compiler = new GradualCompiler(compiler);
    this.#datapath = datapath;
  }

  get endpoints(): number {
    return this.#endpoints.size;
  }

  get policies(): number {
    return this.#compiler.policies;
  }

  get rules(): number {
    return this.#names.size;
  }

  get lostEvents(): number {
    return this.#lost;
  }

  /** What the kernel counted: events may stand for many packets, or be shed. */
  get counted(): Pick<AgentStatus, 'drops' | 'evictedFlows'> {
    const { drops, evicted } = this.#datapath.counters();
    const met = [...drops].filter(([, count]) => count > 0n);
    return {
      drops: Object.fromEntries(met.map(([reason, count]) => [reason, Number(count)])),
      evictedFlows: Number(evicted),
    };
  }

  /** Why the datapath is closed for good; null while it serves. */
  get failure(): Error | null {
    return this.#datapath.failure;
  }

  /** Puts back hooks that somebody took away or got ahead of; says which, and how they stand now. */
  repairHooks(): readonly HookRepair[] {
    return this.#datapath.repair();
  }

  /** Looks whether packets may still skip the host's side of each interface. */
  refresh(): void {
    this.#datapath.refresh();
  }

  /** What to say of that for which the kernel has no room. */
  get lacks(): readonly string[] {
    return this.#datapath.lacks.map((lack) => lackText(lack, lack.rule === null ? null : this.#names.name(lack.rule)));
  }

  /** What to say of the namespaces whose policies need more than their share of this node. */
  get shortages(): readonly string[] {
    return this.#compiler.shortages.map(shortageText);
  }

  /** Takes a part of a list: it comes into force with the next `apply`. */
  note(events: readonly WorldEvent[]): void {
    this.#compiler.note(events);
  }

  /** The deletion of each thing that was noted or applied. */
  known(): Iterable<WorldEvent> {
    return this.#compiler.known();
  }

  /** The latest revision by which, with all before it, every packet is judged. */
  get revision(): number {
    return this.#compiler.revision;
  }

  /** True while there is something for `advance`. */
  get isBusy(): boolean {
    return this.#compiler.isBusy;
  }

  /**
   * Brings changes into force, which lead to a revision: every later packet is judged by them. Those that move many
   * addresses wait for `advance`.
   */
  apply(events: readonly WorldEvent[], revision: number): Applied {
    return this.#follow((write) => this.#compiler.apply(events, revision, write));
  }

  /** Does a part of what waits: some milliseconds' worth, so that whatever else comes is not held up by all of it. */
  advance(): Applied {
    const work = this.#compiler.next;
    const applied = this.#follow(() => this.#compiler.advance(this.#slices.size(work)));
    this.#slices.took(work, applied.applyMs);
    return applied;
  }

  #follow(change: (write: Write) => readonly Step[]): Applied {
    const startedMs = performance.now();
    let count = 0;
    const write = (steps: readonly Step[]): void => {
      // Before the kernel knows a rule's number, its name is known: no event can come first.
      this.#names.follow(steps, startedMs);
      this.#datapath.apply(steps);
      this.#remember(steps);
      count += steps.length;
    };
    write(change(write));
    return { steps: count, applyMs: performance.now() - startedMs };
  }

  /** Puts the hooks on an interface. What it may pass is decided by the policy of its addresses. */
  attach(link: EndpointLink): void {
    this.#datapath.attach(link);
  }

  detach(interfaceIndex: number): void {
    this.#datapath.detach(interfaceIndex);
  }

  /** Every local endpoint is attached: those of an earlier process get their new policy, all at once. */
  turn(): void {
    this.#datapath.turn();
  }

  /** Every local endpoint is attached, and its policy in force: what an earlier process left may go. */
  settle(): void {
    this.#datapath.settle();
  }

  /** True where the address has its policy in force. */
  enforces(address: Address): boolean {
    return this.#endpoints.has(formatAddress(address));
  }

  /** Events since the last call, rules named, and how many the kernel could not hand over. */
  poll(): { readonly events: readonly FlowEvent[]; readonly lost: number } {
    const { events, lost } = this.#datapath.poll();
    this.#lost += lost;
    return { events: events.map((event) => this.#name(event)), lost };
  }

  close(): void {
    this.#datapath.close();
  }

  #remember(steps: readonly Step[]): void {
    for (const step of steps) {
      if (step.kind !== 'endpoint') continue;
      if (step.value === null) this.#endpoints.delete(formatAddress(step.address));
      else this.#endpoints.add(formatAddress(step.address));
    }
  }

  #name(event: DatapathEvent): FlowEvent {
    const { kind, hook, reason, leg, protocol, sourcePort, destinationPort, count } = event;
    return {
      ...{ node: this.#node, kind, hook, reason, leg, protocol, sourcePort, destinationPort, count },
      egress: event.egressRule === null ? null : this.#names.name(event.egressRule),
      ingress: event.ingressRule === null ? null : this.#names.name(event.ingressRule),
      source: formatAddress(event.source),
      destination: formatAddress(event.destination),
      timeNs: String(event.timeNs),
    };
  }
}
