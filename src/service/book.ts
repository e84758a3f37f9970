// Services and slices as they come and go → steps for a datapath: only what serves differently is told.
import { clientsText, type ServiceAddress, type ServiceKey, type Step, serviceKey } from '#compile/plan.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type EndpointSlice, namespaceOf, type Service, type ServiceEvent, serviceName } from '#policy/service.ts';
import type { ClusterEvent, Node } from '#policy/world.ts';
import { type BalancerCheck, balancerChecks } from './checks.ts';
import { tableSize } from './maglev.ts';
import { type Cost, NODE_SHARE, ServiceShares, type ServiceShortage } from './shares.ts';
import { compareClaims, insideKey, isOuter, isServed, type Served, servedBy, tableOf } from './tables.ts';
import { hasHints, type NodePlace } from './topology.ts';
import { type Refusal, WantedAddresses } from './wanted.ts';

/** What a block of clients takes: two boundaries, each as large as four places. */
const PLACES_OF_BLOCK = 8;

/** A node's label for its zone. */
const ZONE = 'topology.kubernetes.io/zone';

/** Follows all Services of a cluster for one node. */
export class ServiceBook {
  /** No zone and no addresses while the node's object is not known. */
  #place: NodePlace;
  readonly #services = new Map<string, Service>();
  readonly #slices = new Map<string, EndpointSlice>();
  /** Keys of slices, by the Service that they are of. */
  readonly #slicesOf = new Map<string, Set<string>>();
  /** Whoever wants an address and port. API servers give one to nobody twice, but tell of an end after a beginning. */
  readonly #claims = new Map<ServiceKey, Map<string, Served>>();
  /** What each Service wants. */
  readonly #wanted = new Map<string, readonly ServiceKey[]>();
  /** The affinity and the backends that a datapath was told of, as text. */
  readonly #told = new Map<ServiceKey, string>();
  readonly #addresses = new WantedAddresses();
  readonly #shares: ServiceShares;
  /** What the balancer of each Service asks, where it asks. */
  readonly #checks = new Map<string, readonly BalancerCheck[]>();
  /** Services that something was said of since the last steps. */
  readonly #changed = new Set<string>();
  /** Where another Service's cluster addresses decide, and have changed since. */
  readonly #disputed = new Map<ServiceKey, ServiceAddress>();

  /** `share`: what the Services of one namespace may take of the node. */
  constructor(node: string, share: Cost = NODE_SHARE) {
    this.#shares = new ServiceShares(share);
    this.#place = { node, zone: '', addresses: [] };
  }

  /** Takes changes, which come into force with the next `steps`. */
  note(events: Iterable<ClusterEvent>): void {
    for (const event of events) {
      if (event.kind === 'endpointslice') this.#noteSlice(event.key, event.value);
      else if (event.kind === 'node' && event.name === this.#place.node) this.#notePlace(event.value);
      else if (event.kind === 'service') this.#noteService(event.key, event.value);
    }
  }

  /** What the changes since the last call mean for a datapath. */
  steps(): readonly Step[] {
    const touched = new Map(this.#disputed);
    this.#disputed.clear();
    for (const name of this.#changed) {
      for (const { address, protocol, port, scope } of this.#claim(name)) {
        const at = { address, protocol, port };
        const outside = { ...at, scope: 'outside' } as const;
        if (scope === undefined) touched.set(serviceKey(at), at);
        // Who has an address inside decides who may have it outside.
        if (scope !== undefined || this.#claims.has(serviceKey(outside))) touched.set(serviceKey(outside), outside);
      }
    }
    this.#changed.clear();
    const steps = [...touched].flatMap(([key, at]) => this.#step(key, at));
    return [...steps, ...this.#retry()];
  }

  /** Namespaces whose Services need more than their share of this node. */
  get shortages(): readonly ServiceShortage[] {
    return this.#shares.shortages;
  }

  /** What Services ask for, and nobody gets. */
  get refusals(): readonly Refusal[] {
    return this.#addresses.refusals;
  }

  /** What balancers ask of this node, and what they are to be told; in the order of coming. */
  get balancerChecks(): readonly BalancerCheck[] {
    return [...this.#checks.values()].flat();
  }

  /** The deletion of each Service and slice that is known. */
  *known(): Generator<ServiceEvent> {
    for (const key of this.#services.keys()) yield { kind: 'service', key, value: null };
    for (const key of this.#slices.keys()) yield { kind: 'endpointslice', key, value: null };
  }

  #noteService(key: string, value: Service | null): void {
    for (const at of this.#addresses.own(key, this.#services.get(key), value ?? undefined)) {
      this.#disputed.set(serviceKey(at), at);
    }
    put(this.#services, key, value);
    this.#changed.add(key);
  }

  #noteSlice(key: string, value: EndpointSlice | null): void {
    const before = this.#slices.get(key);
    if (before !== undefined) {
      const name = ownerOf(before);
      this.#slicesOf.get(name)?.delete(key);
      if (this.#slicesOf.get(name)?.size === 0) this.#slicesOf.delete(name);
      this.#changed.add(name);
    }
    put(this.#slices, key, value);
    if (value === null) return;
    const name = ownerOf(value);
    this.#slicesOf.set(name, (this.#slicesOf.get(name) ?? new Set()).add(key));
    this.#changed.add(name);
  }

  /** Another zone has other nearest endpoints, where somebody gave hints; at other addresses there are other node ports. */
  #notePlace(node: Node | null): void {
    const { zone, addresses } = this.#place;
    this.#place = { ...this.#place, zone: node?.labels[ZONE] ?? '', addresses: node?.addresses ?? [] };
    if (zone !== this.#place.zone) {
      for (const slice of this.#slices.values()) if (hasHints(slice.endpoints)) this.#changed.add(ownerOf(slice));
    }
    if (namesOf(addresses) === namesOf(this.#place.addresses)) return;
    for (const [name, service] of this.#services) if (isAtNodes(service)) this.#changed.add(name);
  }

  /** What a Service wants from now on. Returns that, and what it wanted before. */
  #claim(name: string): readonly ServiceAddress[] {
    const before = this.#wanted.get(name) ?? [];
    const gone = before.flatMap((key) => this.#claims.get(key)?.get(name) ?? []);
    for (const key of before) {
      this.#claims.get(key)?.delete(name);
      if (this.#claims.get(key)?.size === 0) this.#claims.delete(key);
    }
    const service = this.#services.get(name);
    const slices = [...(this.#slicesOf.get(name) ?? [])].flatMap((key) => this.#slices.get(key) ?? []);
    const served = service === undefined ? [] : servedBy(service, slices, this.#place);
    for (const each of served) {
      const key = serviceKey(each);
      this.#claims.set(key, (this.#claims.get(key) ?? new Map<string, Served>()).set(name, each));
    }
    for (const each of [...gone, ...served]) {
      if (isOuter(each)) this.#addresses.want(atOf(each), this.#isOuterWanted(serviceKey(each)));
    }
    put(this.#wanted, name, served.length === 0 ? null : served.map(serviceKey));
    const checks = service === undefined ? [] : balancerChecks(service, slices, this.#place);
    put(this.#checks, name, checks.length === 0 ? null : checks);
    return [...gone, ...served];
  }

  /** What found no room in its namespace's share tries again where some was given back, up to the first that still finds none. */
  #retry(): readonly Step[] {
    const steps: Step[] = [];
    for (const ports of this.#shares.hopeful()) {
      for (const { at } of ports) {
        const key = serviceKey(at);
        steps.push(...this.#step(key, at));
        if (this.#shares.isShort(key)) break;
      }
    }
    return steps;
  }

  #isOuterWanted(key: ServiceKey): boolean {
    return [...(this.#claims.get(key)?.values() ?? [])].some(isOuter);
  }

  #step(key: ServiceKey, at: ServiceAddress): readonly Step[] {
    const first = this.#first(key);
    const inside = at.scope === undefined ? undefined : this.#first(insideKey(at));
    const isRefused = this.#addresses.refuses(key, first);
    if (first === undefined || isRefused || !isServed(first[1], inside?.[1])) {
      this.#shares.give(key);
      return this.#told.delete(key) ? [{ kind: 'service', at, value: null }] : [];
    }
    const [service, served] = first;
    const before = this.#told.get(key);
    if (before === textOf(served) && !this.#shares.isShort(key)) return [];
    const count = served.backends.length;
    const backends = served.isExcess ? Number.POSITIVE_INFINITY : count;
    const blocks = served.clients?.blocks.length ?? 0;
    const cost = { ports: 1, places: tableSize(count) + blocks * PLACES_OF_BLOCK, backends };
    const room = this.#shares.take(key, namespaceOf(service), cost, { at, service });
    if (room === 'none') {
      this.#told.delete(key);
      return before === undefined ? [] : [{ kind: 'service', at, value: null }];
    }
    const value = room === 'whole' ? served : { ...served, backends: [] };
    if (before === textOf(value)) return [];
    this.#told.set(key, textOf(value));
    return [{ kind: 'service', at, value: tableOf(value) }];
  }

  /** Whose an address and port are. */
  #first(key: ServiceKey): readonly [service: string, served: Served] | undefined {
    return [...(this.#claims.get(key) ?? [])].sort(compareClaims)[0];
  }
}

function atOf({ address, protocol, port, scope }: Served): ServiceAddress {
  return scope === undefined ? { address, protocol, port } : { address, protocol, port, scope };
}

function ownerOf({ namespace, service }: EndpointSlice): string {
  return serviceName({ namespace, name: service });
}

/** Whether who serves it depends on the node's own addresses. */
function isAtNodes({ ports, balancerAddresses, externalAddresses, healthPort }: Service): boolean {
  if (healthPort !== undefined || balancerAddresses.length + externalAddresses.length > 0) return true;
  return ports.some(({ nodePort }) => nodePort !== undefined);
}

function namesOf(addresses: readonly Address[]): string {
  return addresses.map(formatAddress).join();
}

/** What is served, so that it can be compared. */
function textOf({ affinitySeconds, clients, backends }: Served): string {
  return [
    affinitySeconds ?? 0,
    clientsText(clients),
    ...backends.map(({ address, port }) => `${formatAddress(address)}#${port}`),
  ].join();
}

function put<Value>(map: Map<string, Value>, key: string, value: Value | null): void {
  if (value === null) map.delete(key);
  else map.set(key, value);
}
