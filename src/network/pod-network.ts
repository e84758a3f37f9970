// The pod network between nodes, as this node keeps it: routes, tunnel and the node's table of nftables follow the cluster's
// nodes and this node's links. What it made stays when it ends, and the next one goes on from there.

import type { Told } from '#kernel/netlink.ts';
import { readOwnRoute, readRule } from '#kernel/overlay-messages.ts';
import { readAddressRecord, readLinkRecord } from '#kernel/route-messages.ts';
import { RouteWatch } from '#kernel/route-watch.ts';
import { filterText, type NodeFilter, readNodeFilter, removeNodeFilter, setNodeFilter } from './node-filter.ts';
import { type ClusterNode, planNode, type RouteMode } from './node-plan.ts';
import { MARK, RouteTables, TUNNEL, TUNNEL_LINK } from './route-tables.ts';

export type PodNetworkOptions = {
  /** This node's name. */
  readonly node: string;
  readonly routes: RouteMode;
  /** What pods send out of the cluster has the node's address. */
  readonly masquerade: boolean;
  /** Gets what is wrong, once. */
  readonly tell: (problem: string) => void;
};

/** Changes of nodes and links are followed this soon, at most so often. */
const TICK_MS = 250;
/** Everything is looked at again this often, whatever was heard; after a failure, sooner. */
const SWEEP_MS = 60_000;
const RETRY_MS = 5000;
/** Others may have flushed all tables of nftables: the own one is looked at this often. */
const FILTER_MS = 10_000;

export class PodNetwork {
  readonly #options: PodNetworkOptions;
  readonly #tables: RouteTables = new RouteTables();
  readonly #watch: RouteWatch = new RouteWatch();
  readonly #timer: NodeJS.Timeout;
  /** Null before the cluster is known: nothing is changed before. */
  #nodes: ReadonlyMap<string, ClusterNode> | null = null;
  #dueMs = 0;
  #mtu: number | null = null;
  #problems: readonly string[] = [];
  #filter: { readonly text: string; readonly listing: string | null; readonly lookMs: number } | null = null;
  /** nft is at work, or routes are. */
  #isBusy = false;

  constructor(options: PodNetworkOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#tick(), TICK_MS);
  }

  /** Why no pod can be attached; null where one can. */
  get obstacle(): string | null {
    return this.#mtu === null ? 'no link of this node is known that leads to other nodes' : null;
  }

  /** What a pod's link may carry, in bytes; null before this node's links are known. */
  get mtu(): number | null {
    return this.#mtu;
  }

  /** What does not work now; none before the cluster is known. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** The cluster's nodes, all of them. */
  follow(nodes: ReadonlyMap<string, ClusterNode>): void {
    this.#nodes = nodes;
    this.#dueMs = 0;
    void this.#tick();
  }

  /** Leaves everything in place. */
  close(): void {
    clearInterval(this.#timer);
    this.#watch.close();
    this.#tables.close();
  }

  async #tick(): Promise<void> {
    if (this.#isBusy || this.#nodes === null) return;
    this.#isBusy = true;
    try {
      if (this.#hasChanged() || performance.now() >= this.#dueMs) await this.#reconcile(this.#nodes);
      else await this.#lookAtFilter();
    } catch (error) {
      this.#note([`the pod network can't be set up: ${error instanceof Error ? error.message.trim() : String(error)}`]);
      this.#dueMs = performance.now() + RETRY_MS;
    } finally {
      this.#isBusy = false;
    }
  }

  #hasChanged(): boolean {
    return this.#watch.changes()?.some(matters) ?? true;
  }

  async #reconcile(nodes: ReadonlyMap<string, ClusterNode>): Promise<void> {
    const { node, routes: mode, masquerade } = this.#options;
    // What changes meanwhile is for the next time.
    this.#dueMs = performance.now() + SWEEP_MS;
    const self = nodes.get(node);
    if (self === undefined) {
      this.#note([`the cluster has no node ${node}: routes stay as they are`]);
      return;
    }
    const plan = planNode({ self, nodes: nodes.values(), subnets: this.#tables.subnets(), mode });
    const all = [...nodes.values()];
    // First who may speak through the tunnel, then the tunnel.
    await this.#setFilter({
      masqueraded: masquerade ? self.podCidrs : [],
      blocks: all.flatMap(({ podCidrs }) => podCidrs),
      nodes: all.flatMap(({ addresses }) => addresses),
      tunnel: TUNNEL,
    });
    this.#mtu = plan.mtu;
    const refused = this.#tables.apply(plan, self.podCidrs);
    if (refused.length > 0) this.#dueMs = Math.min(this.#dueMs, performance.now() + RETRY_MS);
    const lost = plan.mtu === null ? ['no link of this node is up with an address: nothing is routed'] : [];
    this.#note([...lost, ...plan.problems, ...refused]);
  }

  async #setFilter(filter: NodeFilter): Promise<void> {
    const text = filterText(filter);
    if (this.#filter?.text === text) return;
    await setNodeFilter(filter);
    this.#filter = { text, listing: await readNodeFilter(), lookMs: performance.now() + FILTER_MS };
  }

  async #lookAtFilter(): Promise<void> {
    const filter = this.#filter;
    if (filter === null || performance.now() < filter.lookMs) return;
    this.#filter = { ...filter, lookMs: performance.now() + FILTER_MS };
    if ((await readNodeFilter()) === filter.listing) return;
    this.#options.tell('somebody changed the table inet moat of nftables: it is put back');
    this.#filter = null;
    this.#dueMs = 0;
  }

  #note(problems: readonly string[]): void {
    for (const problem of problems) if (!this.#problems.includes(problem)) this.#options.tell(problem);
    this.#problems = problems;
  }
}

/** Takes away what any of these made in this namespace; nobody else may be at work. */
export async function removePodNetwork(): Promise<void> {
  const tables = new RouteTables();
  try {
    tables.remove();
  } finally {
    tables.close();
  }
  await removeNodeFilter();
}

const RTM_DELROUTE = 25;
const RTM_DELRULE = 33;
const RTM_DELLINK = 17;
const RTM_DELADDR = 21;
const RT_SCOPE_LINK = 253;

/** Pods' links come and go all the time, and change nothing here; own routes matter where they go. */
function matters(told: Told): boolean {
  const { kind, body } = told;
  if (kind === RTM_DELROUTE) return readOwnRoute(told, MARK) !== null;
  if (kind === RTM_DELRULE) return readRule(told, MARK) !== null;
  const link = readLinkRecord(kind === RTM_DELLINK ? { ...told, kind: RTM_DELLINK - 1 } : told);
  if (link !== null) return !link.name.startsWith('moat') || link.name === TUNNEL_LINK;
  const address = readAddressRecord(kind === RTM_DELADDR ? { ...told, kind: RTM_DELADDR - 1 } : told);
  return address !== null && body.readUInt8(3) !== RT_SCOPE_LINK;
}
