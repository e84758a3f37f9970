// The node daemon's loop: cluster changes → plan → datapath; kernel events → whoever listens.
import { InterfaceError } from '#datapath/ebpf/links.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { show } from '#policy/fields.ts';
import { HookWatch } from './hook-watch.ts';
import type { Applied, HookRepair, NodeState } from './node-state.ts';
import type { AgentRequest, AgentStatus, AttachRequest } from './protocol.ts';
import { AgentServer } from './server.ts';
import { type Batch, ClusterSource } from './source.ts';

export type AgentOptions = {
  readonly node: string;
  /** Socket of the cluster source. */
  readonly clusterSocket: string;
  /** Socket that this agent serves; its folder must be closed to others. */
  readonly agentSocket: string;
  /** Opens the datapath, and takes over what is in the kernel: called at the start, and after each failure. */
  readonly makeState: () => NodeState;
};

export type Agent = { readonly close: () => void };

/** Events are fetched this often while some flow, and while none do. */
const BUSY_MS = 3;
const IDLE_MS = 20;
const BUSY_FOR_MS = 1000;
/** Hooks are looked at, and put back, this often: a pod is open for no longer. */
const CHECK_MS = 200;
/** Queues, bridges and the like on interfaces are looked at this often. */
const REFRESH_MS = 5000;
/** How long an attach waits for its pod's policy to be known. */
const ATTACH_LIMIT_MS = 5000;
/** Pauses before a fresh start grow from the first to the longest. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/** Starts serving. The datapath is open first, so pods keep the policy of before until the first list is applied. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const loop = new AgentLoop(options);
  await loop.start();
  return { close: () => loop.close() };
}

class AgentLoop {
  readonly #options: AgentOptions;
  readonly #server: AgentServer;
  readonly #watch: HookWatch = new HookWatch();
  /** What was attached and not detached, by interface: a fresh start attaches it again. */
  readonly #attached: Map<number, AttachRequest> = new Map();
  /** Null between a failure and the fresh start after it. */
  #state: NodeState | null;
  #source: ClusterSource | null = null;
  #timer: NodeJS.Timeout | null = null;
  #retry: NodeJS.Timeout | null = null;
  #pauseMs = FIRST_PAUSE_MS;
  #busyUntilMs = 0;
  #revision = 0;
  #settled = false;
  #checkedMs = 0;
  #refreshedMs = 0;
  #problem: string | null = null;
  /** What there is no room for, here and in the shares of namespaces. */
  #lacks: readonly string[] = [];
  #shortages: readonly string[] = [];
  #waiting: (() => void)[] = [];
  #slice: NodeJS.Immediate | null = null;
  /** When the first of the changes came that wait now; null where none does. */
  #heldMs: number | null = null;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#state = options.makeState();
    this.#server = new AgentServer(options.agentSocket, (request) => this.#answer(request));
  }

  async start(): Promise<void> {
    await this.#server.listen();
    this.#follow();
    this.#poll();
  }

  close(): void {
    this.#source?.close();
    for (const timer of [this.#timer, this.#retry]) if (timer !== null) clearTimeout(timer);
    if (this.#slice !== null) clearImmediate(this.#slice);
    this.#server.close();
    this.#state?.close();
  }

  /** A new connection lists everything: the whole plan is applied again. */
  #follow(): void {
    this.#source = new ClusterSource(this.#options.clusterSocket, {
      note: (events) => this.#guard((state) => state.note(events)),
      apply: (batch) => this.#guard((state) => this.#apply(state, batch)),
      known: () => this.#state?.known() ?? [],
    });
  }

  #apply(state: NodeState, batch: Batch): void {
    const startedMs = performance.now();
    const { steps } = state.apply(batch.events, batch.revision);
    if (state.revision < batch.revision) this.#heldMs ??= startedMs;
    if (this.#problem !== null) this.#recovered(state);
    this.#told(state, { steps, applyMs: performance.now() - startedMs });
  }

  /** What changed is in force. */
  #told(state: NodeState, applied: Applied): void {
    this.#checkShares(state.shortages);
    this.#revision = state.revision;
    this.#server.publish({ kind: 'applied', revision: this.#revision, ...applied });
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const check of waiting) check();
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
    this.#told(state, { steps, applyMs: performance.now() - heldMs });
  }

  #poll(): void {
    this.#guard((state) => {
      const { events, lost } = state.poll();
      const now = performance.now();
      if (events.length > 0 || lost > 0) {
        this.#busyUntilMs = now + BUSY_FOR_MS;
        this.#server.publishFlows(events, lost);
      }
      if (now - this.#checkedMs > CHECK_MS) this.#checkHooks(state, now);
    });
    this.#timer = setTimeout(() => this.#poll(), performance.now() < this.#busyUntilMs ? BUSY_MS : IDLE_MS);
  }

  /** Somebody with the same rights can take hooks away, or put a program ahead of them. */
  #checkHooks(state: NodeState, now: number): void {
    this.#checkedMs = now;
    const nameOf = (index: number): string => this.#attached.get(index)?.pod ?? 'an uplink';
    const repairs = state.repairHooks().filter((repair) => !this.#isOver(state, repair));
    for (const message of this.#watch.note(repairs, nameOf, now)) {
      this.#server.publish({ kind: 'problem', message });
    }
    this.#checkRoom(state);
    if (now - this.#refreshedMs < REFRESH_MS) return;
    this.#refreshedMs = now;
    state.refresh();
  }

  /** A pod that is gone from the cluster, and its interface, too: nobody need ask for its end. */
  #isOver(state: NodeState, { interfaceIndex, gone }: HookRepair): boolean {
    const others = [...this.#attached.values()].filter((each) => each.interfaceIndex !== interfaceIndex);
    const elsewhere = new Set(others.flatMap((each) => each.addresses));
    const pod = this.#attached.get(interfaceIndex);
    const own = pod?.addresses.filter((address) => !elsewhere.has(address)) ?? [];
    if (!gone || pod === undefined || own.some((address) => state.enforces(readAddress(address)))) return false;
    this.#attached.delete(interfaceIndex);
    state.detach(interfaceIndex);
    return true;
  }

  /** Each lack is said when it begins, and when it is another one. */
  #checkRoom({ lacks }: NodeState): void {
    this.#tellNew(lacks, this.#lacks);
    this.#lacks = lacks;
  }

  #checkShares(shortages: readonly string[]): void {
    this.#tellNew(shortages, this.#shortages);
    this.#shortages = shortages;
  }

  #tellNew(complaints: readonly string[], known: readonly string[]): void {
    for (const message of complaints) if (!known.includes(message)) this.#server.publish({ kind: 'problem', message });
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
    console.error(error);
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
    this.#server.publish({ kind: 'problem', message: this.#problem });
    this.#retry = setTimeout(() => this.#restart(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }

  #restart(): void {
    try {
      this.#state = this.#options.makeState();
    } catch (error) {
      console.error(error);
      this.#startAfresh(error);
      return;
    }
    this.#follow();
  }

  /** The whole plan is in the tables: hooks and addresses come along, and then what was closed opens. */
  #recovered(state: NodeState): void {
    for (const request of this.#attached.values()) this.#attachAgain(state, request);
    if (this.#settled) state.settle();
    else if (this.#attached.size > 0) state.turn();
    this.#problem = null;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#server.publish({ kind: 'problem', message: 'the fresh start succeeded: policy is in force again' });
  }

  #attachAgain(state: NodeState, request: AttachRequest): void {
    try {
      state.attach(readLink(request));
    } catch (error) {
      if (!(error instanceof InterfaceError)) throw error;
      this.#attached.delete(request.interfaceIndex);
    }
  }

  async #answer(request: AgentRequest): Promise<unknown> {
    switch (request.method) {
      case 'attach':
        return await this.#attach(request.endpoints);
      case 'detach':
        for (const index of request.interfaces) this.#attached.delete(index);
        this.#guard((state) => request.interfaces.forEach((index) => void state.detach(index)));
        return {};
      case 'status':
        return this.#status();
      case 'subscribe':
        return { revision: this.#revision };
    }
  }

  /** Answers once hooks, deny-all and the policy of every address are in place: only then may the links go up. */
  async #attach(requests: readonly AttachRequest[]): Promise<unknown> {
    const links = requests.map(readLink);
    const attached = requests.map((request) => [request.interfaceIndex, request] as const);
    for (const link of links) this.#attachNow(link);
    for (const [index, request] of attached) this.#attached.set(index, request);
    // The first request of a process names every endpoint that is up.
    if (!this.#settled) this.#guard((state) => state.turn());
    const addresses = links.flatMap((link) => link.addresses);
    await this.#until(() => addresses.every((address) => this.#state?.enforces(address) === true));
    // The takeover is over.
    if (!this.#settled) this.#guard((state) => state.settle());
    this.#settled = true;
    return { attached: links.length };
  }

  /** Where there is no state, the fresh start attaches it. */
  #attachNow(link: EndpointLink): void {
    const state = this.#state;
    try {
      state?.attach(link);
    } catch (error) {
      if (state?.failure) this.#failed(state, state.failure);
      throw error;
    }
  }

  async #until(done: () => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const message = `no policy is known for the pod after ${ATTACH_LIMIT_MS} ms; it stays closed`;
    const limit = setTimeout(() => reject(new Error(message)), ATTACH_LIMIT_MS);
    const check = (): void => {
      if (done()) resolve();
      else this.#waiting.push(check);
    };
    check();
    await promise.finally(() => clearTimeout(limit));
  }

  #status(): AgentStatus {
    const { endpoints, policies, rules, lostEvents, counted } = this.#state ?? NOTHING;
    return {
      ...{ node: this.#options.node, datapath: 'ebpf', pid: process.pid, revision: this.#revision },
      ...{ endpoints, policies, rules, lostEvents, ...counted },
      problem: this.#problem ?? joined(this.#watch.complaint, ...this.#lacks, ...this.#shortages),
      hooksRepaired: this.#watch.repaired,
      memoryMb: Math.round(process.memoryUsage.rss() / 1e6),
    };
  }
}

/** Between a failure and the fresh start nothing is known. */
const NOTHING = {
  ...{ endpoints: 0, policies: 0, rules: 0, lostEvents: 0 },
  counted: { drops: {}, evictedFlows: 0 },
} as const;

function joined(...complaints: readonly (string | null)[]): string | null {
  const said = complaints.filter((complaint) => complaint !== null);
  return said.length === 0 ? null : said.join('; ');
}

function readLink(request: AttachRequest): EndpointLink {
  const mac = Uint8Array.from(request.mac.split(':'), (byte) => Number.parseInt(byte, 16));
  return { interfaceIndex: request.interfaceIndex, mac, addresses: request.addresses.map(readAddress) };
}

function readAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(`${show(text)} is not an address`);
  return address;
}
