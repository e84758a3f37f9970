// The node daemon's loop: cluster changes → plan → datapath; kernel events → whoever listens.
import type { EndpointLink } from '#datapath/port.ts';
import { type Address, parseAddress } from '#net/address.ts';
import type { NodeState } from './node-state.ts';
import type { AgentRequest, AgentStatus, AttachRequest } from './protocol.ts';
import { AgentServer } from './server.ts';
import { type Batch, ClusterSource } from './source.ts';

export type AgentOptions = {
  readonly node: string;
  /** Socket of the cluster source. */
  readonly clusterSocket: string;
  /** Socket that this agent serves; its folder must be closed to others. */
  readonly agentSocket: string;
  /** Called once, when the state can't be trusted any more: the process must end and start afresh. */
  readonly onFailure: (error: unknown) => void;
};

export type Agent = { readonly close: () => void };

/** Events are fetched this often while some flow, and while none do. */
const BUSY_MS = 3;
const IDLE_MS = 20;
const BUSY_FOR_MS = 1000;
/** Hooks are looked at this often. */
const CHECK_MS = 1000;
/** How long an attach waits for its pod's policy to be known. */
const ATTACH_LIMIT_MS = 5000;

/** Starts serving. The datapath is open already, so pods keep the policy of before until the first list is applied. */
export async function startAgent(options: AgentOptions, state: NodeState): Promise<Agent> {
  const loop = new AgentLoop(options, state);
  await loop.start();
  return { close: () => loop.close() };
}

class AgentLoop {
  readonly #options: AgentOptions;
  readonly #state: NodeState;
  readonly #server: AgentServer;
  #source: ClusterSource | null = null;
  #timer: NodeJS.Timeout | null = null;
  #busyUntilMs = 0;
  #revision = 0;
  #settled = false;
  #checkedMs = 0;
  #complaint = '';
  #problem: string | null = null;
  #waiting: (() => void)[] = [];

  constructor(options: AgentOptions, state: NodeState) {
    this.#options = options;
    this.#state = state;
    this.#server = new AgentServer(options.agentSocket, (request) => this.#answer(request));
  }

  async start(): Promise<void> {
    await this.#server.listen();
    this.#source = new ClusterSource(this.#options.clusterSocket, (batch) => this.#guard(() => this.#apply(batch)));
    this.#poll();
  }

  close(): void {
    this.#source?.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#server.close();
    this.#state.close();
  }

  #apply(batch: Batch): void {
    const applied = this.#state.apply(batch.events);
    this.#revision = batch.revision;
    this.#server.publish({ kind: 'applied', revision: batch.revision, ...applied });
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const check of waiting) check();
  }

  #poll(): void {
    this.#guard(() => {
      const { events, lost } = this.#state.poll();
      const now = performance.now();
      if (events.length > 0 || lost > 0) {
        this.#busyUntilMs = now + BUSY_FOR_MS;
        this.#server.publishFlows(events, lost);
      }
      if (now - this.#checkedMs > CHECK_MS) this.#checkHooks(now);
      this.#timer = setTimeout(() => this.#poll(), now < this.#busyUntilMs ? BUSY_MS : IDLE_MS);
    });
  }

  /** Somebody with the same rights can take hooks away, or put a program ahead of them: it is said at once. */
  #checkHooks(now: number): void {
    this.#checkedMs = now;
    const bad = this.#state.unhealthy.map(({ interfaceIndex, health }) => `${interfaceIndex} (${health})`);
    const hooks = bad.length === 0 ? [] : [`hooks are not in force, or not first, on interfaces ${bad.join(', ')}`];
    const { refusedTables } = this.#state;
    const full = `the kernel has no room for ${refusedTables} port tables; the peers they are about are denied`;
    const complaint = [...hooks, ...(refusedTables === 0 ? [] : [full])].join('; ');
    if (complaint !== this.#complaint && complaint !== '')
      this.#server.publish({ kind: 'problem', message: complaint });
    this.#complaint = complaint;
  }

  /** The kernel keeps enforcing what it has; this process has lost track, so it says so and gives up. */
  #guard(work: () => void): void {
    if (this.#problem !== null) return;
    try {
      work();
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error);
      this.#server.publish({ kind: 'problem', message: this.#problem });
      this.#options.onFailure(error);
    }
  }

  async #answer(request: AgentRequest): Promise<unknown> {
    switch (request.method) {
      case 'attach':
        return await this.#attach(request.endpoints);
      case 'detach':
        for (const index of request.interfaces) this.#state.detach(index);
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
    for (const link of links) this.#state.attach(link);
    const addresses = links.flatMap((link) => link.addresses);
    await this.#until(() => addresses.every((address) => this.#state.enforces(address)));
    // The first request of a process names every endpoint that is up: the takeover is over.
    if (!this.#settled) this.#state.settle();
    this.#settled = true;
    return { attached: links.length };
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
    const { endpoints, policies, rules, drops, lostEvents } = this.#state;
    return {
      ...{ node: this.#options.node, datapath: 'ebpf', pid: process.pid, revision: this.#revision },
      ...{ endpoints, policies, rules, drops, lostEvents },
      problem: this.#problem ?? (this.#complaint === '' ? null : this.#complaint),
      memoryMb: Math.round(process.memoryUsage.rss() / 1e6),
    };
  }
}

function readLink(request: AttachRequest): EndpointLink {
  const mac = Uint8Array.from(request.mac.split(':'), (byte) => Number.parseInt(byte, 16));
  return { interfaceIndex: request.interfaceIndex, mac, addresses: request.addresses.map(readAddress) };
}

function readAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(`'${text}' is not an address`);
  return address;
}
