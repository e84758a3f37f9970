// Services and EndpointSlices → what datapaths translate by. Pure: the same objects give the same tables, on every node.
import type { Backend, PlanService, ServiceAddress, ServiceClients, ServiceKey } from '#compile/plan.ts';
import { serviceKey } from '#compile/plan.ts';
import { type Address, formatAddress, isGroup, isNowhere, isV4Mapped } from '#net/address.ts';
import { cidrContains } from '#net/cidr.ts';
import { UDP } from '#net/protocol.ts';
import { type EndpointSlice, type Service, type SliceEndpoint, serviceName } from '#policy/service.ts';
import { maglevPlaces, sortedBackends } from './maglev.ts';
import { NODE_SHARE } from './shares.ts';
import { type NodePlace, nearest } from './topology.ts';

/**
 * Whose an address and port are where several want them: what the API server gives out itself, once, goes before where API servers
 * are said to listen, which whoever may write slices could say of any address; then what a balancer was given, and last what
 * authors of Services write (`externalIPs`).
 */
const CLAIMS = ['cluster', 'node', 'server', 'balancer', 'external'] as const;
type Claim = (typeof CLAIMS)[number];

/**
 * Who serves at an address and port, and by what right. `left`: nobody here, and nobody else has a right to it. `isExcess`: the
 * Service's ports before it have more backends than a node gives a whole namespace, and nobody looked for its own.
 */
export type Served = Omit<PlanService, 'places'> & {
  readonly claim: Claim;
  readonly left?: true;
  readonly isExcess?: true;
};

/** What a node's datapath needs of all Services. Of two that claim one address and port, the first by `compareClaims` has it. */
export function serviceTables(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  place: NodePlace,
): ReadonlyMap<ServiceKey, PlanService> {
  const slicesOf = Map.groupBy(slices, ({ namespace, service }) => `${namespace}/${service}`);
  const claims = services.flatMap((service): (readonly [string, Served])[] => {
    const name = serviceName(service);
    return servedBy(service, slicesOf.get(name) ?? [], place).map((served) => [name, served]);
  });
  const firsts = new Map<ServiceKey, Served>();
  for (const [, served] of claims.sort(compareClaims)) {
    const key = serviceKey(served);
    if (!firsts.has(key)) firsts.set(key, served);
  }
  const owned = new Set(services.flatMap(({ clusterAddresses }) => clusterAddresses.map(formatAddress)));
  const tables = new Map<ServiceKey, PlanService>();
  for (const [key, served] of firsts) {
    const isRefused = isOuter(served) && owned.has(formatAddress(served.address));
    if (!isRefused && isServed(served, firsts.get(insideKey(served)))) tables.set(key, tableOf(served));
  }
  return tables;
}

/** The same address and port for the node's pods. */
export function insideKey({ address, protocol, port }: ServiceAddress): ServiceKey {
  return serviceKey({ address, protocol, port });
}

/** Whether the first to want an address and port gets it. `inside`: who has it for the node's pods; a cluster address is nobody's outside. */
export function isServed({ scope, left }: Served, inside: Served | undefined): boolean {
  return left === undefined && (scope === undefined || inside?.claim !== 'cluster');
}

/** What a balancer was given, or who wrote the Service wants. */
export function isOuter({ claim }: Served): boolean {
  return claim === 'balancer' || claim === 'external';
}

/** The Service that API servers keep for themselves: its endpoints are where they listen. */
const API_SERVERS = 'default/kubernetes';

/** Of several that want an address and port the first has it: by right, then by the Service's name. */
export function compareClaims(
  [a, { claim }]: readonly [string, Served],
  [b, other]: readonly [string, Served],
): number {
  return CLAIMS.indexOf(claim) - CLAIMS.indexOf(other.claim) || (a < b ? -1 : a > b ? 1 : 0);
}

/**
 * Who serves each address and port of a Service, for clients on a node, each once. Its node ports stand at the node's own
 * addresses. `internalTrafficPolicy` is about cluster addresses: by others clients reach all endpoints, as by kube-proxy.
 */
export function servedBy(service: Service, slices: readonly EndpointSlice[], place: NodePlace): readonly Served[] {
  const all = new Map<ServiceKey, Served>();
  const listed = slices.map(list);
  const own = listed.map((slice) => ofNode(slice, place.node));
  let counted = 0;
  for (const { at, claim, portName } of claimsOf(service, place.addresses)) {
    const key = serviceKey(at);
    if (all.has(key)) continue;
    const isExcess = counted > NODE_SHARE.backends;
    const backends = isExcess
      ? []
      : sortedBackends(whoServes({ at, claim, portName }, service, { own, listed, place }));
    counted += backends.length;
    const left = at.scope === 'outside' && !servesOutside(service, backends, place) ? { left: true as const } : {};
    const affinity = service.affinitySeconds === null ? {} : { affinitySeconds: service.affinitySeconds };
    const clients = claim === 'balancer' ? clientsOf(service, at.address, place) : {};
    all.set(key, {
      ...at,
      ...affinity,
      ...clients,
      ...left,
      ...(isExcess ? { isExcess: true as const } : {}),
      backends,
      claim,
    });
  }
  if (serviceName(service) === API_SERVERS)
    for (const each of slices.flatMap(serversOf)) all.set(serviceKey(each), each);
  return [...all.values()];
}

/** What agents, kubelets and pods ask there is nobody else's: these addresses are in no table. */
function serversOf({ ports, endpoints }: EndpointSlice): readonly Served[] {
  return endpoints.flatMap(({ addresses }) =>
    addresses.flatMap((address) =>
      ports.flatMap(({ protocol, port }) =>
        [{}, { scope: 'outside' as const }].map((scope) => {
          return { address, protocol, port, ...scope, claim: 'server' as const, left: true as const, backends: [] };
        }),
      ),
    ),
  );
}

/**
 * Whoever is outside reaches those whom clients inside reach, by the node itself where they are elsewhere (decision 0042), or
 * with the policy Local the node's own, but not a pod of the node's own network, whose answers no hook would translate back.
 * Who asks for the node's own endpoints asks for no hints.
 */
function whoServes(asked: Claimed, service: Service, { own, listed, place }: Slices): readonly Backend[] {
  const isOutside = asked.at.scope === 'outside';
  const isLocal = isOutside ? service.outsideLocal : service.nodeLocal && asked.claim === 'cluster';
  const backends = isLocal ? backendsOf({ ...asked, place: null }, own) : backendsOf({ ...asked, place }, listed);
  return isOutside && !isLocal ? backends.filter((each) => !isOf(place, each)) : backends;
}

type Slices = { readonly own: readonly Listed[]; readonly listed: readonly Listed[]; readonly place: NodePlace };

function isOf({ addresses }: NodePlace, { address }: Backend): boolean {
  return addresses.some((each) => formatAddress(each) === formatAddress(address));
}

/** Whether a node serves whoever is outside: where there is nobody to serve, it refuses by itself, or others may. */
function servesOutside({ outsideLocal }: Service, backends: readonly Backend[], place: NodePlace): boolean {
  return outsideLocal ? !backends.some((each) => isOf(place, each)) : backends.length > 0;
}

/** Whom a balancer's address is for: a family that no range names is closed. */
function clientsOf(
  { balancerClients }: Service,
  { family }: Address,
  { addresses }: NodePlace,
): { readonly clients?: ServiceClients } {
  if (balancerClients === undefined) return {};
  const blocks = balancerClients.filter(({ address }) => address.family === family);
  const node = addresses.some((own) => blocks.some((block) => cidrContains(block, own)));
  return { clients: { blocks, node } };
}

/** The table by which flows are spread over backends. */
export function tableOf({ claim: _, isExcess: __, ...served }: Served): PlanService {
  return { ...served, places: maglevPlaces(served.backends) };
}

type Claimed = { readonly at: ServiceAddress; readonly claim: Claim; readonly portName: string };

/** Where a Service wants to be found, by falling right. One without cluster addresses is nobody's to serve. */
function claimsOf(service: Service, own: readonly Address[]): readonly Claimed[] {
  if (service.clusterAddresses.length === 0) return [];
  const { clusterAddresses, balancerAddresses, externalAddresses, ports } = service;
  const at = (addresses: readonly Address[], claim: Claim): Claimed[] =>
    addresses.flatMap((address) =>
      ports.map(({ name, protocol, port }) => ({ at: { address, protocol, port }, claim, portName: name })),
    );
  const families = new Set(clusterAddresses.map(({ family }) => family));
  const atNodes = ports.flatMap(({ name, protocol, nodePort }): Claimed[] =>
    nodePort === undefined
      ? []
      : own
          .filter(({ family }) => families.has(family))
          .map((address) => ({ at: { address, protocol, port: nodePort }, claim: 'node', portName: name })),
  );
  const outer = [
    ...atNodes,
    ...at(balancerAddresses.filter(isOrdinary), 'balancer'),
    ...at(externalAddresses.filter(isOrdinary), 'external'),
  ];
  const nodes = new Set(own.map(formatAddress));
  const fromOutside = outer
    .filter((each) => !takesAnswers(each, nodes))
    .map((each): Claimed => ({ ...each, at: { ...each.at, scope: 'outside' } }));
  return [...at(clusterAddresses, 'cluster'), ...outer, ...fromOutside];
}

/**
 * What comes to a node's own address by UDP may answer the node itself, or a pod in whose place it speaks: no tables here tell
 * it from what asks, as those of the node's netfilter would, and who writes `externalIPs` has no right to it.
 */
function takesAnswers({ at, claim }: Claimed, nodes: ReadonlySet<string>): boolean {
  return claim === 'external' && at.protocol === UDP && nodes.has(formatAddress(at.address));
}

/** A slice whose ports are found by protocol and name; of two of one name, the first counts. Ports may be thousands. */
type Listed = { readonly portOf: ReadonlyMap<string, number>; readonly endpoints: readonly SliceEndpoint[] };

function list({ ports, endpoints }: EndpointSlice): Listed {
  return { portOf: new Map(ports.toReversed().map((each) => [`${each.protocol} ${each.name}`, each.port])), endpoints };
}

function ofNode(slice: Listed, node: string): Listed {
  return { ...slice, endpoints: slice.endpoints.filter((endpoint) => endpoint.node === node) };
}

/** `place`: of the clients; null = whatever endpoints are asked for are as near as each other. */
type Asked = Claimed & { readonly place: NodePlace | null };

/**
 * Those that are ready, and of them the nearest; where none is ready, all that still serve while they terminate, as
 * kube-proxy does.
 */
function backendsOf({ at, portName, place, claim }: Asked, slices: readonly Listed[]): readonly Backend[] {
  const all = slices.flatMap(({ portOf, endpoints }) => {
    const port = portOf.get(`${at.protocol} ${portName}`);
    return port === undefined ? [] : endpoints.flatMap((endpoint) => listening(endpoint, { at, claim }, port));
  });
  const ready = all.filter(({ endpoint }) => endpoint.ready);
  const serving = ready.length > 0 ? ready : all.filter(({ endpoint }) => endpoint.serving);
  const near = ready.length > 0 && place !== null ? nearest(serving, place) : serving;
  return near.map(({ backend }) => backend);
}

/**
 * Families never cross, a Service is no backend of itself, and what no pod may send to is nobody's. At a node's address others
 * may listen beside a node port: pods of its network.
 */
function listening(
  endpoint: SliceEndpoint,
  { at, claim }: Pick<Claimed, 'at' | 'claim'>,
  port: number,
): { endpoint: SliceEndpoint; backend: Backend }[] {
  const isItself = (address: Address): boolean =>
    formatAddress(address) === formatAddress(at.address) && (claim !== 'node' || port === at.port);
  return endpoint.addresses
    .filter((address) => address.family === at.address.family && !isItself(address))
    .filter(isOrdinary)
    .map((address) => ({ endpoint, backend: { address, port } }));
}

/** The API server takes some of these: a tenant's slice may name what pods can't send to by themselves. */
function isOrdinary(address: Address): boolean {
  return !isGroup(address) && !isNowhere(address) && !isV4Mapped(address);
}
