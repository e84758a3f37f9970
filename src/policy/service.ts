// Services and their endpoints as far as packets are concerned, and the events that change them. No verdict depends on them.
import type { Address } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import type { Protocol } from '#net/protocol.ts';

/** A port of a Service. Its name is '' where it has none: then it is the only one. */
export type ServicePort = {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** Where nodes serve it at their own addresses; absent = nowhere. */
  readonly nodePort?: number;
};

/** A Service as far as its clients see it. Headless ones have no cluster addresses, and no tables. */
export type Service = {
  readonly namespace: string;
  readonly name: string;
  /** One for each of its families. */
  readonly clusterAddresses: readonly Address[];
  /** Those of its balancer that leaves packets as they are (`status.loadBalancer.ingress`). */
  readonly balancerAddresses: readonly Address[];
  /** Whom its balancer's addresses are for (`loadBalancerSourceRanges`); absent = whoever asks. */
  readonly balancerClients?: readonly Cidr[];
  /** `externalIPs`: whatever its author wrote. */
  readonly externalAddresses: readonly Address[];
  readonly ports: readonly ServicePort[];
  /** `internalTrafficPolicy: Local`: a node's pods get the endpoints of that node, or none. */
  readonly nodeLocal: boolean;
  /** `externalTrafficPolicy: Local`: whoever is outside of the cluster gets endpoints of the node that it asks, or none. */
  readonly outsideLocal: boolean;
  /** `sessionAffinity: ClientIP`: for so long after its last new flow a client stays with its backend; null = no affinity. */
  readonly affinitySeconds: number | null;
  /** Where its balancer asks each node for endpoints of its own; absent = nowhere. */
  readonly healthPort?: number;
};

/**
 * One endpoint of a slice. `ready` and `serving` as the API's conditions, absent ones filled in (ready; serving as ready):
 * one that terminates is not ready, and serves until it fails its probe.
 */
export type SliceEndpoint = {
  readonly addresses: readonly Address[];
  readonly ready: boolean;
  readonly serving: boolean;
  /** Name of its node; '' where the slice names none. */
  readonly node: string;
  /** For whose clients it is meant; absent where the slice does not say. */
  readonly hints?: TopologyHints;
};

/** Names of nodes and of zones, as `hints.forNodes` and `hints.forZones` of a slice's endpoint have them. */
export type TopologyHints = { readonly nodes: readonly string[]; readonly zones: readonly string[] };

/** A slice of the Service that its label names. `ports` are where the endpoints listen, by the Service's port names. */
export type EndpointSlice = {
  readonly namespace: string;
  readonly service: string;
  readonly ports: readonly ServicePort[];
  readonly endpoints: readonly SliceEndpoint[];
};

/** One change; null value = gone. `key`: `namespace/name` of the object. */
export type ServiceEvent =
  | { readonly kind: 'service'; readonly key: string; readonly value: Service | null }
  | { readonly kind: 'endpointslice'; readonly key: string; readonly value: EndpointSlice | null };

/** Whether an event is about Services. */
export function isServiceEvent(event: { readonly kind: string }): event is ServiceEvent {
  return event.kind === 'service' || event.kind === 'endpointslice';
}

/** `namespace/name`. */
export function serviceName({ namespace, name }: Pick<Service, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}

/** The namespace in a `serviceName`. */
export function namespaceOf(service: string): string {
  return service.slice(0, service.indexOf('/'));
}
