// The Services of the kill tests: some whose ends never change, and one that changes all the time, ends and port and all.
import fc from 'fast-check';
import { diffWorlds } from '#cluster/world/diff.ts';
import type { Address } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import type { EndpointSlice, Service, ServiceEvent, ServicePort } from '#policy/service.ts';
import type { ClusterEvent, World } from '#policy/world.ts';
import { NAMESPACES } from '../arbitrary-policy.ts';
import { NODE_ADDRESSES } from './outside.ts';
import {
  address,
  addressesOf,
  BEGUN_PORT,
  CHURNING,
  HOST_PORT,
  NODE,
  OUTER_PORT,
  REMOTE,
  SERVED_PORT,
  SHUT_PORT,
  TRIED_PORTS,
} from './slots.ts';

/** What a cluster has of Services, by `namespace/name`. */
export type Serving = {
  readonly services: ReadonlyMap<string, Service>;
  readonly slices: ReadonlyMap<string, EndpointSlice>;
};

export type KillWorld = World & Serving;

/**
 * What becomes of the Service that changes: who is behind it, by numbers, and where they listen. Some may be no pods any more.
 * Null = it is gone, but for its slice.
 */
export type Behind = { readonly slots: readonly number[]; readonly target: number } | null;

/** By its number in the cluster's addresses. */
type Kept = {
  readonly name: string;
  readonly number: number;
  readonly slot: number;
  readonly at: number;
  /** Where the node serves it to clients outside. */
  readonly nodePort?: number;
};

const SPACE = NAMESPACES[0] ?? '';
/** Where the Services are asked, at addresses of their own. */
export const ASKED_PORT = 53;
const STEADY: Kept = { name: 'steady', number: 10, slot: 1, at: SERVED_PORT };
const SHUT: Kept = { name: 'shut', number: 11, slot: 2, at: SHUT_PORT, nodePort: 30_011 };
/** As it is at first: connections begin through it then, and stay with their end. */
const CHANGING: Kept = { name: 'changing', number: 12, slot: 1, at: BEGUN_PORT };

const OUTER: Kept = { name: 'outer', number: 13, slot: 1, at: OUTER_PORT, nodePort: 30_013 };
const HOST: Kept = { name: 'host', number: 14, slot: 1, at: HOST_PORT };

/** Ports beside those that are asked: more to write at each change. */
const MORE_PORTS = 6;

/** Who asks: a pod by its number, a machine beside the node, or the node itself. */
export type Asker = number | 'outside' | 'node';

/** Pairs that ask by a Service, at its address of each family, and who hears them where. */
export type Through = {
  readonly from: Asker;
  readonly to: number;
  readonly asked: { readonly address: Address; readonly port: number };
  readonly at: { readonly address: Address; readonly port: number };
};

/** New flows may always go this way. */
export const SERVED: readonly Through[] = [
  ...through(0, STEADY),
  ...through('outside', OUTER),
  ...through('node', HOST),
];
/** A flow that went this way at first goes on, whatever becomes of the Service. */
export const BEGUN: readonly Through[] = through(0, CHANGING);
/** Nobody ever gets there. */
export const REFUSED: readonly Through[] = [...through(0, SHUT), ...through(1, SHUT), ...through('outside', SHUT)];

export const arbitraryBehind: fc.Arbitrary<Behind> = fc.option(
  fc.record({
    slots: fc.uniqueArray(fc.constantFrom(0, 1, 2, ...CHURNING, ...CHURNING, ...REMOTE.slice(0, 1)), { maxLength: 4 }),
    target: fc.constantFrom(...TRIED_PORTS),
  }),
  { freq: 4 },
);

/** The Services as every test of these begins. */
export function firstServices(): Serving {
  const all = [STEADY, SHUT, CHANGING, OUTER, HOST];
  return {
    services: new Map(all.map((kept) => [`${SPACE}/${kept.name}`, serviceOf(kept)])),
    slices: new Map(all.map((kept) => [`${SPACE}/${kept.name}`, sliceOf(kept.name, [kept.slot], kept.at)])),
  };
}

/** Where the changing Service is asked, by family. */
export function changingAddress(family: 4 | 6): Address {
  return clusterAddress(CHANGING, family);
}

/** Who is behind the changing Service now. */
export function behind({ services, slices }: Serving): {
  readonly addresses: readonly Address[];
  readonly port: number;
} {
  const key = `${SPACE}/${CHANGING.name}`;
  const slice = services.has(key) ? slices.get(key) : undefined;
  return {
    addresses: slice?.endpoints.flatMap(({ addresses }) => addresses) ?? [],
    port: slice?.ports[0]?.port ?? 0,
  };
}

/** The cluster after such a change. */
export function withBehind<W extends Serving>(world: W, change: Behind): W {
  const key = `${SPACE}/${CHANGING.name}`;
  const services = new Map(world.services);
  const slices = new Map(world.slices);
  if (change === null) services.delete(key);
  else {
    services.set(key, serviceOf(CHANGING));
    slices.set(key, sliceOf(CHANGING.name, change.slots, change.target));
  }
  return { ...world, services, slices };
}

/** Two clusters → what agents are told of, Services after all else. What says nothing of Services has none. */
export function diffClusters(
  before: World & Partial<Serving>,
  after: World & Partial<Serving>,
): readonly ClusterEvent[] {
  return [
    ...diffWorlds(before, after),
    ...changes(before.services, after.services, (key, value) => ({ kind: 'service', key, value })),
    ...changes(before.slices, after.slices, (key, value) => ({ kind: 'endpointslice', key, value })),
  ];
}

function changes<Value>(
  before: ReadonlyMap<string, Value> = new Map(),
  after: ReadonlyMap<string, Value> = new Map(),
  event: (key: string, value: Value | null) => ServiceEvent,
): readonly ServiceEvent[] {
  const changed = [...after].filter(([key, value]) => before.get(key) !== value);
  const gone = [...before.keys()].filter((key) => !after.has(key));
  return [...changed.map(([key, value]) => event(key, value)), ...gone.map((key) => event(key, null))];
}

function through(from: Asker, kept: Kept): readonly Through[] {
  return addressesOf(kept.slot).map((at) => ({
    ...{ from, to: kept.slot, at: { address: at, port: kept.at } },
    asked:
      from === 'outside'
        ? { address: NODE_ADDRESSES[at.family], port: kept.nodePort ?? 0 }
        : { address: clusterAddress(kept, at.family), port: ASKED_PORT },
  }));
}

function clusterAddress({ number }: Kept, family: 4 | 6): Address {
  return address(family === 4 ? `10.96.0.${number}` : `fd96::${number}`);
}

function serviceOf(kept: Kept): Service {
  return {
    ...{ namespace: SPACE, name: kept.name, ports: portsAt((at) => ASKED_PORT + at, kept.nodePort) },
    clusterAddresses: [clusterAddress(kept, 4), clusterAddress(kept, 6)],
    ...{
      balancerAddresses: [],
      externalAddresses: [],
      nodeLocal: false,
      outsideLocal: kept.nodePort !== undefined,
      affinitySeconds: null,
    },
  };
}

/** A slice has one family in a real cluster; the tables take those that fit the address asked. */
function sliceOf(name: string, slots: readonly number[], target: number): EndpointSlice {
  return {
    ...{ namespace: SPACE, service: name, ports: portsAt(() => target) },
    endpoints: slots.flatMap((slot) =>
      addressesOf(slot).map((each) => ({ addresses: [each], ready: true, serving: true, node: NODE })),
    ),
  };
}

/** The first one is served at `nodePort`, too. */
function portsAt(port: (at: number) => number, nodePort?: number): readonly ServicePort[] {
  return Array.from({ length: MORE_PORTS + 1 }, (_, at) => at).flatMap((at) =>
    [TCP, UDP].map((protocol) => ({
      ...{ name: `${protocol}-${at}`, protocol, port: port(at) },
      ...(at === 0 && nodePort !== undefined ? { nodePort } : {}),
    })),
  );
}
