// Services and EndpointSlices → what datapaths translate by. Pure: the same objects give the same tables, on every node.
import type { Backend, PlanService, ServiceAddress, ServiceKey } from '#compile/plan.ts';
import { serviceKey } from '#compile/plan.ts';
import { type Address, formatAddress, isGroup, isNowhere, isV4Mapped } from '#net/address.ts';
import { type EndpointSlice, type Service, type SliceEndpoint, serviceName } from '#policy/service.ts';
import { maglevPlaces, sortedBackends } from './maglev.ts';
import { type NodePlace, nearest } from './topology.ts';

/** Who serves at an address and port. */
export type Served = Omit<PlanService, 'places'>;

/** What a node's datapath needs of all Services. Of two that claim one address and port, the first by name has it. */
export function serviceTables(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  node: string,
  zone = '',
): ReadonlyMap<ServiceKey, PlanService> {
  const slicesOf = Map.groupBy(slices, ({ namespace, service }) => `${namespace}/${service}`);
  const tables = new Map<ServiceKey, PlanService>();
  for (const service of [...services].sort(byName)) {
    for (const served of servedBy(service, slicesOf.get(serviceName(service)) ?? [], node, zone)) {
      const key = serviceKey(served);
      if (!tables.has(key)) tables.set(key, tableOf(served));
    }
  }
  return tables;
}

/** Who serves each address and port of a Service, for clients on a node. `zone`: of the node; '' = it has none. */
export function servedBy(
  service: Service,
  slices: readonly EndpointSlice[],
  node: string,
  zone = '',
): readonly Served[] {
  return service.clusterAddresses.flatMap((address) =>
    service.ports.map((port) => {
      const at = { address, protocol: port.protocol, port: port.port };
      // Who asks for the node's own endpoints asks for no hints.
      const asked = service.nodeLocal ? slices.map((slice) => ofNode(slice, node)) : slices;
      const place = service.nodeLocal ? null : { node, zone };
      const backends = sortedBackends(backendsOf({ at, portName: port.name, place }, asked));
      return service.affinitySeconds === null
        ? { ...at, backends }
        : { ...at, backends, affinitySeconds: service.affinitySeconds };
    }),
  );
}

/** The table by which flows are spread over backends. */
export function tableOf(served: Served): PlanService {
  return { ...served, places: maglevPlaces(served.backends) };
}

function ofNode(slice: EndpointSlice, node: string): EndpointSlice {
  return { ...slice, endpoints: slice.endpoints.filter((endpoint) => endpoint.node === node) };
}

/** `place`: of the clients; null = whatever endpoints are asked for are as near as each other. */
type Asked = { readonly at: ServiceAddress; readonly portName: string; readonly place: NodePlace | null };

/**
 * Those that are ready, and of them the nearest; where none is ready, all that still serve while they terminate, as
 * kube-proxy does.
 */
function backendsOf({ at, portName, place }: Asked, slices: readonly EndpointSlice[]): readonly Backend[] {
  const all = slices.flatMap(({ ports, endpoints }) => {
    const port = ports.find(({ name, protocol }) => name === portName && protocol === at.protocol);
    return port === undefined ? [] : endpoints.flatMap((endpoint) => listening(endpoint, at, port.port));
  });
  const ready = all.filter(({ endpoint }) => endpoint.ready);
  const serving = ready.length > 0 ? ready : all.filter(({ endpoint }) => endpoint.serving);
  const near = ready.length > 0 && place !== null ? nearest(serving, place) : serving;
  return near.map(({ backend }) => backend);
}

/** Families never cross, a Service is no backend of itself, and what no pod may send to is nobody's. */
function listening(
  endpoint: SliceEndpoint,
  at: ServiceAddress,
  port: number,
): { endpoint: SliceEndpoint; backend: Backend }[] {
  return endpoint.addresses
    .filter((address) => address.family === at.address.family && formatAddress(address) !== formatAddress(at.address))
    .filter((address) => !isSpecial(address))
    .map((address) => ({ endpoint, backend: { address, port } }));
}

/** The API server takes some of these: a tenant's slice may name what pods can't send to by themselves. */
function isSpecial(address: Address): boolean {
  return isGroup(address) || isNowhere(address) || isV4Mapped(address);
}

function byName(a: Service, b: Service): number {
  return serviceName(a) < serviceName(b) ? -1 : 1;
}
