// What a balancer asks a node (`spec.healthCheckNodePort`): whether it has endpoints of a Service whose outside clients reach a
// node's own endpoints alone.
import { type Address, formatAddress } from '#net/address.ts';
import { type EndpointSlice, type Service, serviceName } from '#policy/service.ts';
import type { NodePlace } from './topology.ts';

/** Where a balancer asks for a Service, and what it is to be told: how many of the node's endpoints it may send to. */
export type BalancerCheck = {
  /** `namespace/name`. */
  readonly service: string;
  readonly address: Address;
  readonly port: number;
  readonly localEndpoints: number;
};

/**
 * The checks of a Service, one for each of the node's own addresses of its families; the endpoints of that family count, each
 * address once, where they are ready: as with kube-proxy. None counts where one is on the host network: Moat serves nobody
 * outside then (docs/services.md).
 */
export function balancerChecks(
  service: Service,
  slices: readonly EndpointSlice[],
  { node, addresses }: NodePlace,
): readonly BalancerCheck[] {
  const { healthPort, clusterAddresses } = service;
  if (healthPort === undefined) return [];
  const families = new Set(clusterAddresses.map(({ family }) => family));
  const own = new Set(addresses.map(formatAddress));
  return addresses
    .filter(({ family }) => families.has(family))
    .map((address) => {
      const ready = slices
        .flatMap(({ endpoints }) => endpoints)
        .filter((endpoint) => endpoint.ready && endpoint.node === node)
        .flatMap((endpoint) => endpoint.addresses)
        .filter(({ family }) => family === address.family);
      const names = new Set(ready.map(formatAddress));
      const localEndpoints = [...names].some((name) => own.has(name)) ? 0 : names.size;
      return { service: serviceName(service), address, port: healthPort, localEndpoints };
    });
}
