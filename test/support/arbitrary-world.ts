// Random worlds and the events that change them, for every property that compares a fast path with evaluate().
import fc from 'fast-check';
import { type Address, parseAddress } from '#net/address.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import type { Flow } from '#policy/verdict.ts';
import {
  impliedNamespace,
  type Mode,
  type Namespace,
  type Node,
  type Pod,
  podKey,
  type World,
  type WorldEvent,
} from '#policy/world.ts';
import { arbitraryLabels, arbitraryPolicy, NAMESPACES, PORT_NAMES, PORTS, PROTOCOLS } from './arbitrary-policy.ts';

/** Every address that pods, nodes and flows of random worlds have: pod blocks, node addresses, outside. */
export const ADDRESSES: readonly Address[] = [
  ...['10.0.1.1', '10.0.1.2', '10.0.1.3', '10.0.2.1', '10.0.2.2', '10.0.2.3'],
  ...['fd00:0:0:1::1', 'fd00:0:0:1::2', 'fd00:0:0:2::1', 'fd00:0:0:2::2'],
  ...['10.0.3.129', '10.0.3.1', 'fd00:0:0:3::9'],
  ...['192.168.0.1', '192.168.0.2', 'fd00:ffff::1', 'fd00:ffff::2'],
  ...['8.8.8.8', '1.1.1.1', '192.168.9.9', '2001:db8::1', '2606:4700::1'],
].map(address);

const POD_ADDRESSES = ADDRESSES.slice(0, 10);
const NODE_NAMES = ['n1', 'n2'] as const;
const NODE_ADDRESSES = { n1: ['192.168.0.1', 'fd00:ffff::1'], n2: ['192.168.0.2', 'fd00:ffff::2'] } as const;
const POD_BLOCKS: readonly Cidr[] = [
  '10.0.1.0/24',
  '10.0.2.0/24',
  '10.0.0.0/16',
  '10.0.3.0/24',
  'fd00:0:0:1::/64',
  'fd00::/32',
].map(cidr);

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`not an address: ${text}`);
  return parsed;
}

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (parsed === null) throw new Error(`not a CIDR: ${text}`);
  return parsed.cidr;
}

const namespace: fc.Arbitrary<Namespace> = fc
  .tuple(
    fc.constantFrom(...NAMESPACES),
    arbitraryLabels,
    fc.constantFrom<Mode | undefined>('audit', 'enforce', undefined),
  )
  .map(([name, labels, mode]) => ({
    name,
    labels: { ...labels, ...impliedNamespace(name).labels },
    ...(mode === undefined ? {} : { mode }),
  }));

const node: fc.Arbitrary<Node> = fc
  .record({
    name: fc.constantFrom(...NODE_NAMES),
    labels: arbitraryLabels,
    podCidrs: fc.subarray([...POD_BLOCKS], { maxLength: 3 }),
  })
  .map((value) => ({ ...value, addresses: NODE_ADDRESSES[value.name].map(address) }));

const namedPort = fc.record({
  name: fc.constantFrom(...PORT_NAMES),
  protocol: fc.constantFrom(TCP, TCP, UDP),
  port: fc.constantFrom(...PORTS.filter((port) => port > 0)),
});

const podAddresses: fc.Arbitrary<Address[]> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Address[]>([]) },
  { weight: 9, arbitrary: fc.subarray([...POD_ADDRESSES], { minLength: 1, maxLength: 2 }) },
);

/** Pods pod0…pod6. Two may claim one address, as a finished pod and its successor do, or a late delete makes it look. */
const pod: fc.Arbitrary<Pod> = fc
  .record({
    number: fc.nat({ max: 6 }),
    namespace: fc.constantFrom(...NAMESPACES),
    labels: arbitraryLabels,
    node: fc.constantFrom('', ...NODE_NAMES),
    addresses: podAddresses,
    ports: fc.array(namedPort, { maxLength: 4 }),
    hostNetwork: weighted(1, 9),
    finished: weighted(1, 9),
  })
  .map(({ number, ...value }) => {
    const name = `pod${number}`;
    const workload = { kind: 'Pod', namespace: value.namespace, name };
    const addresses = value.hostNetwork && value.node !== '' ? hostAddresses(value.node) : value.addresses;
    return { ...value, key: podKey(value.namespace, name), name, addresses, workload };
  });

function hostAddresses(node: string): readonly Address[] {
  return node === 'n1' || node === 'n2' ? NODE_ADDRESSES[node].map(address) : [];
}

function weighted(yes: number, no: number): fc.Arbitrary<boolean> {
  return fc.oneof({ weight: no, arbitrary: fc.constant(false) }, { weight: yes, arbitrary: fc.constant(true) });
}

const GONE = weighted(1, 3);

function arbitraryEvent(policies: 'network' | 'tiered'): fc.Arbitrary<WorldEvent> {
  const set: fc.Arbitrary<WorldEvent> = fc.oneof(
    { weight: 2, arbitrary: namespace.map((value): WorldEvent => ({ kind: 'namespace', name: value.name, value })) },
    { weight: 1, arbitrary: node.map((value): WorldEvent => ({ kind: 'node', name: value.name, value })) },
    { weight: 6, arbitrary: pod.map((value): WorldEvent => ({ kind: 'pod', key: value.key, value })) },
    {
      weight: 5,
      arbitrary: arbitraryPolicy(policies).map((value): WorldEvent => ({ kind: 'policy', key: value.key, value })),
    },
  );
  return fc.tuple(set, GONE).map(([event, gone]) => (gone ? { ...event, value: null } : event));
}

/** Histories: batches of events; a key may come, change, go and come back. */
export function arbitraryHistory(policies: 'network' | 'tiered'): fc.Arbitrary<WorldEvent[][]> {
  return fc.array(fc.array(arbitraryEvent(policies), { minLength: 1, maxLength: 5, size: 'max' }), {
    minLength: 2,
    maxLength: 8,
    size: 'max',
  });
}

/** Worlds, by nothing but their objects. */
export function arbitraryWorld(policies: 'network' | 'tiered'): fc.Arbitrary<World> {
  return fc
    .record({
      namespaces: fc.array(namespace, { maxLength: 3 }),
      nodes: fc.array(node, { maxLength: 2 }),
      pods: fc.array(pod, { minLength: 3, maxLength: 9, size: 'max' }),
      policies: fc.array(arbitraryPolicy(policies), { minLength: 2, maxLength: 6, size: 'max' }),
    })
    .map((objects) => ({
      namespaces: new Map(objects.namespaces.map((value) => [value.name, value])),
      nodes: new Map(objects.nodes.map((value) => [value.name, value])),
      pods: new Map(objects.pods.map((value) => [value.key, value])),
      policies: new Map(objects.policies.map((value) => [value.key, value])),
    }));
}

/** Flows among the addresses of random worlds; pods more often than others. */
export const arbitraryFlow: fc.Arbitrary<Flow> = fc
  .tuple(fc.constantFrom<4 | 6>(4, 4, 6), fc.nat(), fc.nat(), fc.constantFrom(...PROTOCOLS), fc.constantFrom(...PORTS))
  .map(([family, a, b, protocol, port]) => ({ from: pick(family, a), to: pick(family, b), protocol, port }));

function pick(family: 4 | 6, number: number): Address {
  const pods = POD_ADDRESSES.filter((one) => one.family === family);
  const all = [...pods, ...pods, ...pods, ...pods, ...pods, ...ADDRESSES.filter((one) => one.family === family)];
  const picked = all[number % all.length];
  if (picked === undefined) throw new Error(`no address of family ${family}`);
  return picked;
}

/** The events that make a world out of nothing. */
export function worldEvents(world: World): WorldEvent[] {
  return [
    ...[...world.namespaces].map(([name, value]): WorldEvent => ({ kind: 'namespace', name, value })),
    ...[...world.nodes].map(([name, value]): WorldEvent => ({ kind: 'node', name, value })),
    ...[...world.pods].map(([key, value]): WorldEvent => ({ kind: 'pod', key, value })),
    ...[...world.policies].map(([key, value]): WorldEvent => ({ kind: 'policy', key, value })),
  ];
}

/** The world that events leave. */
export function worldOf(events: readonly WorldEvent[]): World {
  const world = { namespaces: new Map(), nodes: new Map(), pods: new Map(), policies: new Map() };
  for (const event of events) {
    const map: Map<string, unknown> = mapOf(world, event);
    const key = event.kind === 'namespace' || event.kind === 'node' ? event.name : event.key;
    map.delete(key);
    if (event.value !== null) map.set(key, event.value);
  }
  return world;
}

type MutableWorld = { [Part in keyof World]: Map<string, unknown> };

function mapOf(world: MutableWorld, event: WorldEvent): Map<string, unknown> {
  switch (event.kind) {
    case 'namespace':
      return world.namespaces;
    case 'node':
      return world.nodes;
    case 'pod':
      return world.pods;
    case 'policy':
      return world.policies;
  }
}
