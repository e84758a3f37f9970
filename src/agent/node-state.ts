// One node's state: the compiled plan and the datapath that enforces it, moved together.
import type { Compiler } from '#compile/compiler.ts';
import { GradualCompiler, type Work } from '#compile/gradual.ts';
import type { Step } from '#compile/plan.ts';
import type { Write } from '#compile/recorder.ts';
import { shortageText } from '#compile/shortage.ts';
import type { Counters } from '#datapath/ebpf/counters.ts';
import type { Datapath, DatapathEvent, EndpointLink, Fill, Lack } from '#datapath/port.ts';
import { type Address, type AddressKey, formatAddress } from '#net/address.ts';
import { isServiceEvent } from '#policy/service.ts';
import type { ClusterEvent, PodKey, WorldEvent } from '#policy/world.ts';
import { ServiceBook } from '#service/book.ts';
import type { BalancerCheck } from '#service/checks.ts';
import { serviceShortageText } from '#service/shares.ts';
import { refusalTexts } from '#service/wanted.ts';
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
  counters(): Counters;
  /** What the kernel had no room for: whom it is about is denied. */
  readonly lacks: readonly Lack[];
  /** What to say of others' bridges that pods are on, and of hooks of the node's own clients. */
  readonly complaints: readonly string[];
  /** How full its tables are; how many addresses and prefixes the steps named, whoever gave them knows. */
  usage(known: { readonly address_map: number; readonly prefix_map: number }): Promise<readonly Fill[]>;
  /** Set once a change failed: then everything is denied, until another process or a fresh start takes over. */
  readonly failure: Error | null;
  repair(): readonly HookRepair[];
  refresh(): void;
  /** As `attach`, for an interface that was just made: does not wait for the kernel. */
  attachNew(link: EndpointLink, adoptForMs?: number): void;
  /** `adoptForMs`: how long connections that are older than the hooks are let in, if policy allows them. */
  attach(link: EndpointLink, adoptForMs?: number): void;
  /** Does for one interface what `attachNew` left. */
  finishNew(): void;
  /** Until then (monotonic clock, nanoseconds; 0n = not at all) what judging denies passes. */
  bypass: bigint;
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

/** Hooks of new interfaces are finished once none has come for so long: what that takes would hold up the next one. */
const FINISH_AFTER_MS = 1000;
/** But where they come all the time, for so long at most: somebody may make pods for that. */
const LONGEST_RUSH_MS = 30_000;

/** Owns the compiler's and the datapath's common history. After a throw it is of no more use: start afresh. */
export class NodeState {
  readonly #node: string;
  readonly #compiler: GradualCompiler;
  readonly #services: ServiceBook;
  readonly #datapath: NodeDatapath;
  readonly #names: RuleNames = new RuleNames();
  /** Local addresses whose policy is in force, and whose that is. */
  readonly #endpoints: Map<AddressKey, PodKey> = new Map();
  readonly #audited: Set<AddressKey> = new Set();
  #lost = 0;
  readonly #slices: Slices<Work> = new Slices();
  /** When the last interface came whose hooks are to be finished. */
  #newMs = 0;
  /** Since when they have come one shortly after the other; null where none has come for a while. */
  #rushSinceMs: number | null = null;

  constructor(node: string, compiler: Compiler, datapath: NodeDatapath) {
    this.#node = node;
    this.#compiler = new GradualCompiler(compiler);
    this.#services = new ServiceBook(node);
    this.#datapath = datapath;
  }

  get endpoints(): number {
    return this.#endpoints.size;
  }

  /** How many of them let pass what policy denies. */
  get audited(): number {
    return this.#audited.size;
  }

  /** For how long what judging denies passes yet, milliseconds; 0 = it is enforced. */
  get bypassMs(): number {
    const left = this.#datapath.bypass - process.hrtime.bigint();
    return left <= 0n ? 0 : Math.ceil(Number(left) / 1e6);
  }

  set bypassMs(ms: number) {
    this.#datapath.bypass = ms === 0 ? 0n : process.hrtime.bigint() + BigInt(ms) * 1_000_000n;
  }

  get policies(): number {
    return this.#compiler.policies;
  }

  get rules(): number {
    return this.#names.size;
  }

  get identities(): number {
    return this.#compiler.identities;
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

  /** All that the datapath counted. */
  get counters(): Counters {
    return this.#datapath.counters();
  }

  /** How full the datapath's tables are. */
  async usage(): Promise<readonly Fill[]> {
    const { addresses, prefixes } = this.#compiler.plan;
    return await this.#datapath.usage({ address_map: addresses.size, prefix_map: prefixes.size });
  }

  /** Why the datapath is closed for good; null while it serves. */
  get failure(): Error | null {
    return this.#datapath.failure;
  }

  /** Puts back hooks that somebody took away or got ahead of; says which, and how they stand now. Finishes those of one new interface. */
  repairHooks(): readonly HookRepair[] {
    const now = performance.now();
    if (now - this.#newMs > FINISH_AFTER_MS) this.#rushSinceMs = null;
    if (this.#rushSinceMs === null || now - this.#rushSinceMs > LONGEST_RUSH_MS) this.#datapath.finishNew();
    return this.#datapath.repair();
  }

  /** Looks whether packets may still skip the host's side of each interface. */
  refresh(): void {
    this.#datapath.refresh();
  }

  /**
   * What to say of that for which the kernel has no room, of bridges that are not pods' alone, of the node's own clients, and of
   * what Services ask for and nobody gets.
   */
  get lacks(): readonly string[] {
    const { lacks, complaints } = this.#datapath;
    const texts = lacks.map((lack) => lackText(lack, lack.rule === null ? null : this.#names.name(lack.rule)));
    return [...texts, ...complaints, ...refusalTexts(this.#services.refusals)];
  }

  /** What to say of the namespaces whose policies or Services need more than their share of this node. */
  get shortages(): readonly string[] {
    return [...this.#compiler.shortages.map(shortageText), ...this.#services.shortages.map(serviceShortageText)];
  }

  /** What balancers ask of this node, and what they are to be told. */
  get balancerChecks(): readonly BalancerCheck[] {
    return this.#services.balancerChecks;
  }

  /** Takes a part of a list: it comes into force with the next `apply`. */
  note(events: readonly ClusterEvent[]): void {
    this.#services.note(events);
    this.#compiler.note(events.filter(isWorldEvent));
  }

  /** The deletion of each thing that was noted or applied. */
  *known(): Generator<ClusterEvent> {
    yield* this.#compiler.known();
    yield* this.#services.known();
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
   * addresses wait for `advance`. Services come first: a backend is judged by what is in force when a packet goes there.
   */
  apply(events: readonly ClusterEvent[], revision: number): Applied {
    this.#services.note(events);
    return this.#follow((write) => {
      write(this.#services.steps());
      return this.#compiler.apply(events.filter(isWorldEvent), revision, write);
    });
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
  attach(link: EndpointLink, adoptForMs = 0): void {
    this.#datapath.attach(link, adoptForMs);
  }

  /** As `attach`, for an interface that was just made: does not wait for the kernel. A later `repairHooks` does what is left. */
  attachNew(link: EndpointLink, adoptForMs = 0): void {
    this.#newMs = performance.now();
    this.#rushSinceMs ??= this.#newMs;
    this.#datapath.attachNew(link, adoptForMs);
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

  /** True where the address has this pod's policy in force: it may have that of the pod before yet. */
  enforces(pod: PodKey, address: Address): boolean {
    return this.#endpoints.get(formatAddress(address)) === pod;
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
      const key = formatAddress(step.address);
      if (step.value === null) this.#endpoints.delete(key);
      else this.#endpoints.set(key, step.value.pod);
      if (step.value?.audit === undefined) this.#audited.delete(key);
      else this.#audited.add(key);
    }
  }

  #name(event: DatapathEvent): FlowEvent {
    const { kind, hook, reason, leg, protocol, sourcePort, destinationPort, count } = event;
    return {
      ...{ node: this.#node, kind, hook, reason, leg, protocol, sourcePort, destinationPort, count },
      egress: event.egressRule === null ? null : this.#names.name(event.egressRule),
      ingress: event.ingressRule === null ? null : this.#names.name(event.ingressRule),
      source: formatAddress(event.source),
      sourcePod: this.#compiler.podAt(event.source),
      destination: formatAddress(event.destination),
      destinationPod: this.#compiler.podAt(event.destination),
      timeNs: String(event.timeNs),
    };
  }
}

function isWorldEvent(event: ClusterEvent): event is WorldEvent {
  return !isServiceEvent(event);
}
