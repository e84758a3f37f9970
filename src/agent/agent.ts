// The node daemon's loop: cluster changes → plan → datapath; kernel events → whoever listens.
import type { Batch, Follower, Source, Tell } from '#cluster/follower.ts';
import type { EndpointLink, Fill } from '#datapath/port.ts';
import { trimHeap } from '#kernel/heap.ts';
import type { PodNetwork } from '#network/pod-network.ts';
import type { WorldEvent } from '#policy/world.ts';
import { type AgentFacts, NOTHING } from './agent-facts.ts';
import type { Agent, AgentOptions } from './agent-options.ts';
import { statusOf } from './agent-status.ts';
import { AttachedLinks, areEnforced } from './attached-links.ts';
import { BalancerPages } from './balancer-pages.ts';
import { Bypass } from './bypass.ts';
import { Cni } from './cni.ts';
import { Complaints } from './complaints.ts';
import { readLink } from './endpoint-link.ts';
import { healthChecks, isWell } from './health.ts';
import { HookWatch } from './hook-watch.ts';
import { joined } from './lack-text.ts';
import type { LogEvent } from './log.ts';
import { withNetwork } from './network-follower.ts';
import type { Applied, HookRepair, NodeState } from './node-state.ts';
import type { AgentRequest, AttachRequest, CniCall, CniReply } from './protocol.ts';
import { AgentServer } from './server.ts';
import { Waiters } from './waiters.ts';

/** Events are fetched this often while some flow that somebody waits for, or many, and else. */
const BUSY_MS = 3;
const IDLE_MS = 20;
const BUSY_FOR_MS = 1000;
/** So many at once would find no room in the kernel if they were fetched seldom. */
const MANY_EVENTS = 32;
/** Hooks are looked at, and put back, this often: a pod is open for no longer. */
const CHECK_MS = 200;
/** Queues, bridges and the like on interfaces are looked at this often. */
const REFRESH_MS = 5000;
/** How long an attach waits for its pod's policy to be known. */
const ATTACH_LIMIT_MS = 5000;
/** Pauses before a fresh start grow from the first to the longest. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
const UNKNOWN = 'the agent does not know the whole cluster yet';

/** Starts serving. The datapath is open first, so pods keep the policy of before until the first list is applied. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const loop = new AgentLoop(options);
  await loop.start();
  return { facts: () => loop.facts, fills: () => loop.fills(), close: () => loop.close() };
}

class AgentLoop {
  readonly #options: AgentOptions;
  readonly #server: AgentServer;
  readonly #watch: HookWatch = new HookWatch();
  readonly #attached: AttachedLinks = new AttachedLinks();
  /** Null between a failure and the fresh start after it. */
  #state: NodeState | null;
  #source: Source | null = null;
  #timer: NodeJS.Timeout | null = null;
  #retry: NodeJS.Timeout | null = null;
  #pauseMs = FIRST_PAUSE_MS;
  #busyUntilMs = 0;
  #revision = 0;
  #settled = false;
  #checkedMs = 0;
  #refreshedMs = 0;
  /** When events and hooks were last looked after. */
  #lookedMs: number = performance.now();
  #problem: string | null = null;
  /** What there is no room for, here and in the shares of namespaces. */
  readonly #lacks: Complaints = new Complaints((message) => this.#tell('problem', message));
  readonly #shortages: Complaints = new Complaints((message) => this.#tell('problem', message));
  readonly #waiters: Waiters = new Waiters();
  #slice: NodeJS.Immediate | null = null;
  /** When the first of the changes came that wait now; null where none does. */
  #heldMs: number | null = null;
  readonly #bypass: Bypass;
  readonly #cni: Cni | null;
  readonly #network: PodNetwork | null;
  readonly #balancers: BalancerPages = new BalancerPages({
    isWell: () => isWell(healthChecks(this.facts)),
    tell: (message) => this.#tell('problem', message),
  });
  /** Parts of a list may have been noted that is not whole yet. */
  #listing = true;
  /** The source's last revision. */
  #heard = 0;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#bypass = new Bypass(options.node, options.observer);
    this.#state = options.makeState();
    this.#server = new AgentServer(options.agentSocket, (request) => this.#answer(request));
    this.#network = options.makeNetwork?.((message) => this.#tell('network', message)) ?? null;
    this.#cni = options.cniFolder === null ? null : this.#makeCni(options.cniFolder);
  }

  #makeCni(folder: string): Cni {
    return new Cni(this.#options.node, folder, {
      obstacle: () => (this.#settled ? (this.#problem ?? this.#network?.obstacle ?? null) : UNKNOWN),
      network: this.#network,
      isClosed: () => this.#state === null,
      attach: async (request) => void (await this.#attach([request], true)),
      detach: (index) => this.#detach([index]),
      adopt: (request) => this.#attached.adopt(this.#state, request),
      seal: (index) => this.#guard((state) => this.#attached.seal(state, index)),
      change: (events) => this.#changeLocally(events),
      enforces: (pod, address) => this.#state?.enforces(pod, address) === true,
      tell: (message) => this.#tell('problem', message),
    });
  }

  async start(): Promise<void> {
    await this.#server.listen();
    this.#follow();
    this.#poll();
    if (this.#cni !== null) await this.#adopt(this.#cni);
  }

  /** Nobody else remembers the pods that the CNI attached: they are attached again, with what they have open. */
  async #adopt(cni: Cni): Promise<void> {
    this.#attached.add(await cni.adopt());
    this.#guard((state) => this.#attached.attachAll(state));
    this.#guard((state) => state.turn());
    void this.#waiters
      .until(() => this.#revision > 0)
      .then(async () => {
        await cni.adoption.look();
        this.#guard((state) => state.settle());
        this.#settled = true;
        this.#options.cniConfig?.install();
        await cni.workOffSpool();
      });
  }

  /** To the log, and to whoever listens. */
  #tell(event: LogEvent, message: string): void {
    this.#options.observer.said('warn', event, message);
    this.#server.publish({ kind: 'problem', message });
  }

  close(): void {
    this.#source?.close();
    this.#network?.close();
    this.#balancers.close();
    for (const timer of [this.#timer, this.#retry]) if (timer !== null) clearTimeout(timer);
    if (this.#slice !== null) clearImmediate(this.#slice);
    this.#server.close();
    this.#state?.close();
  }

  /** A new connection lists everything: the whole plan is applied again. */
  #follow(): void {
    this.#listing = true;
    this.#heard = 0;
    this.#cni?.pods.startAfresh();
    const follow = (events: Batch['events']): Batch['events'] => this.#cni?.pods.follow(events) ?? events;
    const follower: Follower = {
      note: (events) => {
        this.#listing = true;
        this.#guard((state) => state.note(follow(events)));
      },
      apply: ({ events, revision }) => {
        const wasListing = this.#listing;
        this.#listing = false;
        this.#heard = revision;
        this.#guard((state) => this.#apply(state, { events: follow(events), revision }));
        // What a list takes for some seconds would stay with the process for good.
        if (wasListing) trimHeap();
      },
      known: () => [...(this.#state?.known() ?? []), ...(this.#cni?.pods.known() ?? [])],
    };
    const tell: Tell = (message) => this.#tell('source', message);
    this.#source = this.#options.makeSource(withNetwork(follower, this.#network), tell);
  }

  /** Of a list that is not whole, nothing may come into force: then this goes with the rest of it. */
  #changeLocally(events: readonly WorldEvent[]): void {
    if (events.length === 0) return;
    if (this.#listing) this.#guard((state) => state.note(events));
    else this.#guard((state) => this.#apply(state, { events, revision: this.#heard }));
  }

  #apply(state: NodeState, batch: Batch): void {
    const startedMs = performance.now();
    const { steps } = state.apply(batch.events, batch.revision);
    const isHeld = state.revision < batch.revision;
    if (isHeld) this.#heldMs ??= startedMs;
    if (this.#problem !== null) this.#recovered(state);
    const applyMs = performance.now() - startedMs;
    if (!isHeld) this.#options.observer.applied(applyMs / 1000);
    this.#told(state, { steps, applyMs });
  }

  /** What changed is in force. */
  #told(state: NodeState, applied: Applied): void {
    this.#shortages.are(state.shortages);
    this.#balancers.follow(state.balancerChecks);
    this.#revision = state.revision;
    this.#server.publish({ kind: 'applied', revision: this.#revision, ...applied });
    this.#waiters.look();
    this.#goOn(state);
  }

  /** What waits is worked off in slices; whatever else there is to do comes in between. */
  #goOn(state: NodeState): void {
    if (this.#slice !== null || !state.isBusy) return;
    this.#slice = setImmediate(() => {
      this.#slice = null;
      this.#guard((now) => this.#advance(now));
    });
  }

  #advance(state: NodeState): void {
    const { steps } = state.advance();
    const heldMs = this.#heldMs;
    if (state.revision === this.#revision || heldMs === null) {
      this.#goOn(state);
      return;
    }
    this.#heldMs = null;
    const applyMs = performance.now() - heldMs;
    this.#options.observer.applied(applyMs / 1000);
    this.#told(state, { steps, applyMs });
  }

  #poll(): void {
    this.#guard((state) => {
      const { events, lost } = state.poll();
      const now = performance.now();
      if (events.length > 0 || lost > 0) {
        const isAwaited = this.#server.subscribers > 0 || events.length >= MANY_EVENTS || lost > 0;
        if (isAwaited) this.#busyUntilMs = now + BUSY_FOR_MS;
        this.#server.publishFlows(events, lost);
        this.#options.observer.flows(events);
      }
      if (now - this.#checkedMs > CHECK_MS) this.#checkHooks(state, now);
    });
    this.#lookedMs = performance.now();
    this.#timer = setTimeout(() => this.#poll(), performance.now() < this.#busyUntilMs ? BUSY_MS : IDLE_MS);
  }

  /** Somebody with the same rights can take hooks away, or put a program ahead of them. */
  #checkHooks(state: NodeState, now: number): void {
    this.#checkedMs = now;
    const repairs = state.repairHooks().filter((repair) => !this.#isOver(state, repair));
    const nameOf = (index: number): string => this.#attached.nameOf(index);
    for (const message of this.#watch.note(repairs, nameOf, now)) this.#tell('problem', message);
    this.#lacks.are(state.lacks);
    this.#bypass.look(state, now);
    if (now - this.#refreshedMs < REFRESH_MS) return;
    this.#refreshedMs = now;
    state.refresh();
    if (!this.#settled || this.#cni === null) return;
    void this.#cni.workOffSpool();
    void this.#cni.adoption.look();
  }

  /** Nobody need ask for the end of what is gone. */
  #isOver(state: NodeState, repair: HookRepair): boolean {
    return (repair.gone && this.#cni?.isOver(repair.interfaceIndex)) || this.#attached.forget(state, repair);
  }

  /** What fails leaves a state that nobody vouches for: the kernel denies, or enforces what it has, until a fresh start. */
  #guard(work: (state: NodeState) => void): void {
    const state = this.#state;
    if (state === null) return;
    try {
      work(state);
      if (state.failure !== null) throw state.failure;
    } catch (error) {
      this.#failed(state, error);
    }
  }

  #failed(state: NodeState, error: unknown): void {
    this.#options.observer.failed(error);
    this.#state = null;
    this.#source?.close();
    this.#revision = 0;
    this.#heldMs = null;
    state.close();
    this.#startAfresh(error);
  }

  #startAfresh(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#problem = `${message}; a fresh start follows in ${this.#pauseMs} ms`;
    this.#tell('problem', this.#problem);
    this.#retry = setTimeout(() => this.#restart(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }

  #restart(): void {
    try {
      this.#state = this.#options.makeState();
    } catch (error) {
      this.#options.observer.failed(error);
      this.#startAfresh(error);
      return;
    }
    this.#follow();
  }

  /** The whole plan is in the tables: hooks and addresses come along, and then what was closed opens. */
  #recovered(state: NodeState): void {
    this.#attached.attachAll(state);
    if (this.#settled) state.settle();
    else if (this.#attached.size > 0) state.turn();
    this.#problem = null;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#tell('problem', 'the fresh start succeeded: policy is in force again');
  }

  async #answer(request: AgentRequest): Promise<unknown> {
    switch (request.method) {
      case 'attach':
        return await this.#attach(request.endpoints, false);
      case 'detach':
        this.#detach(request.interfaces);
        return {};
      case 'cni':
        if (this.#cni === null) throw new Error('this agent makes no links: others attach pods');
        return await this.#callCni(this.#cni, request.call);
      case 'bypass':
        return this.#bypass.ask(this.#state, request);
      case 'status':
        return statusOf(this.facts);
      case 'subscribe':
        return { revision: this.#revision };
    }
  }

  async #callCni(cni: Cni, call: CniCall): Promise<CniReply> {
    const startedMs = performance.now();
    const reply = await cni.answer(call);
    this.#options.observer.cniCalled(call, reply, (performance.now() - startedMs) / 1000);
    return reply;
  }

  #detach(interfaces: readonly number[]): void {
    for (const index of interfaces) this.#attached.remove(index);
    this.#guard((state) => interfaces.forEach((index) => void state.detach(index)));
  }

  /** Answers once hooks, deny-all and the policy of every address are in place: only then may the links go up. */
  async #attach(requests: readonly AttachRequest[], areNew: boolean): Promise<unknown> {
    const links = requests.map(readLink);
    for (const link of links) this.#attachNow(link, areNew);
    this.#attached.add(requests);
    // The first request of a process names every endpoint that is up.
    if (!this.#settled) this.#guard((state) => state.turn());
    const enforced = (): boolean => areEnforced(this.#state, requests);
    const late = `no policy is known for the pod after ${ATTACH_LIMIT_MS} ms; it stays closed`;
    await this.#waiters.within(ATTACH_LIMIT_MS, enforced, () => joined(late, this.#source?.problem ?? null) ?? late);
    // The takeover is over.
    if (!this.#settled) this.#guard((state) => state.settle());
    this.#settled = true;
    return { attached: links.length };
  }

  /** Where there is no state, the fresh start attaches it. */
  #attachNow(link: EndpointLink, isNew: boolean): void {
    const state = this.#state;
    try {
      if (isNew) state?.attachNew(link);
      else state?.attach(link);
    } catch (error) {
      if (state?.failure) this.#failed(state, state.failure);
      throw error;
    }
  }

  async fills(): Promise<readonly Fill[]> {
    return (await this.#state?.usage()) ?? [];
  }

  get facts(): AgentFacts {
    const { endpoints, audited, policies, rules, identities, lostEvents, counted } = this.#state ?? NOTHING;
    const now = performance.now();
    return {
      ...{ identities, counters: this.#state?.counters ?? null },
      attached: this.#attached.counts(this.#state),
      ...{ node: this.#options.node, isOpen: this.#state !== null, failure: this.#problem },
      ...{ revision: this.#revision, known: this.#heard, sinceLookMs: now - this.#lookedMs },
      ...{ endpoints, audited, policies, rules, lostEvents, ...counted },
      bypassMs: this.#bypass.leftMs(this.#state, now),
      ...{ source: this.#source?.problem ?? null, findings: this.#source?.findings ?? [] },
      ...{ watches: this.#source?.watches ?? [], waits: this.#source?.waits ?? [] },
      ...{ lacks: this.#lacks.now, shortages: this.#shortages.now, network: this.#network?.problems ?? null },
      ...{ unreached: this.#cni?.adoption.unreached ?? [], cniConfig: this.#options.cniConfig },
      ...{ hooks: this.#watch.complaint, hooksRepaired: this.#watch.repaired },
    };
  }
}
