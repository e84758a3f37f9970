// Services and slices as they come and go: whatever came when, a datapath has the tables of what there is in the end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { type PlanService, type ServiceAddress, type ServiceKey, type Step, serviceKey } from '#compile/plan.ts';
import { parseAddress } from '#net/address.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { type EndpointSlice, isServiceEvent, type Service } from '#policy/service.ts';
import type { ClusterEvent, Node } from '#policy/world.ts';
import { holds } from '#test/support/property.ts';
import { ServiceBook } from './book.ts';
import { balancerChecks } from './checks.ts';
import { NODE_SHARE, serviceShortageText } from './shares.ts';
import { serviceTables } from './tables.ts';
import type { NodePlace } from './topology.ts';

const address = (text: string): NonNullable<ReturnType<typeof parseAddress>> => {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
};
const block = (text: string): Cidr => {
  const found = parseCidr(text);
  assert.ok(found, text);
  return found.cidr;
};
const PORTS = [
  { name: 'a', protocol: TCP, port: 80, nodePort: 30_080 },
  { name: 'b', protocol: UDP, port: 53 },
];

const ZONE = 'topology.kubernetes.io/zone';

function nodeIn(name: string, zone: string, addresses: readonly string[]): Node {
  return { name, labels: { [ZONE]: zone }, addresses: addresses.map((text) => address(text)), podCidrs: [] };
}

const arbitraryPorts = fc.subarray(PORTS, { minLength: 1 });
const arbitraryUnlimited = fc.record({
  namespace: fc.constant('ns'),
  name: fc.constantFrom('x', 'y', 'z'),
  clusterAddresses: fc.subarray(['10.96.0.1', '10.96.0.2', 'fd96::1'].map(address)),
  balancerAddresses: fc.subarray(['203.0.113.1', '10.96.0.1'].map(address)),
  externalAddresses: fc.subarray(['203.0.113.1', '10.96.0.2', '192.0.2.1'].map(address)),
  ports: arbitraryPorts,
  nodeLocal: fc.boolean(),
  outsideLocal: fc.boolean(),
  affinitySeconds: fc.constantFrom(null, 10, 20),
  healthPort: fc.constantFrom(32_000, 32_001),
});
const arbitraryClients = fc.option(fc.subarray(['192.0.2.0/24', '10.0.0.0/8', '::/0'].map(block)));
const arbitraryService = fc.tuple(arbitraryUnlimited, arbitraryClients).map(([service, balancerClients]): Service => {
  return balancerClients === null ? service : { ...service, balancerClients };
});
const arbitraryEndpoint = fc.record({
  addresses: fc.constantFrom('10.1.0.1', '10.1.0.2', '10.1.0.3', 'fd01::1', '192.0.2.1').map((text) => [address(text)]),
  ready: fc.boolean(),
  serving: fc.boolean(),
  node: fc.constantFrom('node-a', 'node-b', ''),
  hints: fc.record({ nodes: fc.subarray(['node-a', 'node-b']), zones: fc.subarray(['zone-1', 'zone-2']) }),
});
const arbitrarySlice = fc.record({
  namespace: fc.constant('ns'),
  service: fc.constantFrom('x', 'y', 'z'),
  ports: arbitraryPorts,
  endpoints: fc.array(arbitraryEndpoint, { maxLength: 4 }),
});
const arbitraryZone: fc.Arbitrary<ClusterEvent> = fc
  .record({
    name: fc.constantFrom('node-a', 'node-b'),
    zone: fc.constantFrom('zone-1', 'zone-2', null),
    addresses: fc.subarray(['192.0.2.1', '192.0.2.2', '2001:db8::1']),
  })
  .map(({ name, zone, addresses }) => ({
    kind: 'node',
    name,
    value: zone === null ? null : nodeIn(name, zone, addresses),
  }));
const arbitraryEvent: fc.Arbitrary<ClusterEvent> = fc.oneof(
  arbitraryZone,
  arbitraryService.map((value): ClusterEvent => ({ kind: 'service', key: `ns/${value.name}`, value })),
  fc.constantFrom('x', 'y', 'z').map((name): ClusterEvent => ({ kind: 'service', key: `ns/${name}`, value: null })),
  fc
    .record({ key: fc.constantFrom('ns/1', 'ns/2', 'ns/3'), value: fc.option(arbitrarySlice) })
    .map((change): ClusterEvent => ({ kind: 'endpointslice', ...change })),
);

/** What a datapath holds after steps: who is asked at a place, by address and port. */
function follow(told: Map<ServiceKey, PlanService>, steps: readonly Step[]): void {
  for (const step of steps) {
    assert.equal(step.kind, 'service');
    if (step.kind !== 'service') continue;
    const key = serviceKey(step.at);
    assert.notDeepEqual(step.value, told.get(key) ?? null, `${key}: nothing new`);
    if (step.value === null) told.delete(key);
    else told.set(key, step.value);
  }
}

test('after any history a datapath has the tables of all that there is, and is told of nothing twice', (context) => {
  const history = fc.array(fc.array(arbitraryEvent, { minLength: 1, maxLength: 4 }), { maxLength: 12 });
  const property = fc.property(history, (batches) => {
    const book = new ServiceBook('node-a');
    const services = new Map<string, Service>();
    const slices = new Map<string, EndpointSlice>();
    const told = new Map<ServiceKey, PlanService>();
    let place: NodePlace = { node: 'node-a', zone: '', addresses: [] };
    for (const batch of batches) {
      book.note(batch);
      follow(told, book.steps());
      for (const event of batch) {
        if (event.kind === 'node' && event.name === 'node-a') {
          place = { ...place, zone: event.value?.labels[ZONE] ?? '', addresses: event.value?.addresses ?? [] };
        }
        if (!isServiceEvent(event)) continue;
        const { kind, key, value } = event;
        const map: Map<string, unknown> = kind === 'service' ? services : slices;
        if (value === null) map.delete(key);
        else map.set(key, value);
      }
      assert.deepEqual(told, serviceTables([...services.values()], [...slices.values()], place));
      const checks = [...services].flatMap(([key, service]) =>
        balancerChecks(
          service,
          [...slices.values()].filter((slice) => `ns/${slice.service}` === key),
          place,
        ),
      );
      assert.deepEqual(new Set(book.balancerChecks), new Set(checks));
    }
    book.note([...book.known()]);
    follow(told, book.steps());
    assert.equal(told.size, 0, 'what was known can be taken back');
    assert.deepEqual([[...book.known()], book.balancerChecks], [[], []]);
  });
  holds(context, property, 100);
});

const SHARE = { ports: 6, places: 300, backends: 8 };

/** A Service of so many TCP ports and its slice, whose endpoints are so many. */
function crowd(
  namespace: string,
  number: number,
  { ports, endpoints }: { ports: number; endpoints: number },
): ClusterEvent[] {
  const of = { namespace, name: `s${number}` };
  const key = `${namespace}/s${number}`;
  const all = Array.from({ length: ports }, (_, at) => ({ name: `p${at}`, protocol: TCP, port: 1 + at }));
  const clusterAddresses = [address(`10.96.${namespace.length}.${number}`)];
  const rest = { nodeLocal: false, outsideLocal: false, affinitySeconds: null };
  return [
    {
      kind: 'service',
      key,
      value: { ...of, clusterAddresses, balancerAddresses: [], externalAddresses: [], ports: all, ...rest },
    },
    {
      kind: 'endpointslice',
      key,
      value: {
        ...{ namespace, service: of.name, ports: all },
        endpoints: Array.from({ length: endpoints }, (_, at) => ({
          ...{ addresses: [address(`10.1.${number}.${at}`)], ready: true, serving: true, node: '' },
        })),
      },
    },
  ];
}

test('no namespace takes more than its share, whatever comes when; what has room is whole, and others’ is untouched', (context) => {
  const change = fc.record({
    namespace: fc.constantFrom('a', 'bb'),
    number: fc.nat({ max: 4 }),
    ports: fc.nat({ max: 4 }),
    endpoints: fc.nat({ max: 5 }),
  });
  const property = fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
    const [book, alone] = [new ServiceBook('node-a', SHARE), new ServiceBook('node-a', SHARE)];
    const whole = new ServiceBook('node-a');
    const [told, toldAlone, all] = [0, 1, 2].map(() => new Map<ServiceKey, PlanService>());
    assert.ok(told && toldAlone && all);
    for (const { namespace, number, ports, endpoints } of changes) {
      const events = crowd(namespace, number, { ports, endpoints });
      for (const [one, into] of [
        [book, told],
        [whole, all],
      ] as const) {
        one.note(events);
        follow(into, one.steps());
      }
      if (namespace === 'a') alone.note(events);
      follow(toldAlone, alone.steps());
      const values: readonly (readonly [ServiceKey, PlanService])[] = [...told];
      const ofA = values.filter(([key]) => key.includes('10.96.1.'));
      assert.deepEqual(new Map(ofA), toldAlone, 'what another namespace does is nothing to this one');
      for (const prefix of ['10.96.1.', '10.96.2.']) {
        const of = values.filter(([key]) => key.includes(prefix)).map(([, value]) => value);
        assert.ok(of.length <= SHARE.ports);
        assert.ok(of.reduce((sum, { places }) => sum + places.length, 0) <= SHARE.places);
        assert.ok(of.reduce((sum, { backends }) => sum + backends.length, 0) <= SHARE.backends);
      }
      for (const [key, value] of values)
        if (value.backends.length > 0) assert.deepEqual(value, all.get(key), 'whole, or refused');
      const refused: number = [...all].filter(([key, value]) => !isDeepStrictEqual(told.get(key), value)).length;
      assert.equal(
        book.shortages.reduce((sum, { ports }) => sum + ports, 0),
        refused,
        'all that is short is told',
      );
    }
    book.note([...book.known()]);
    follow(told, book.steps());
    assert.deepEqual([told.size, book.shortages], [0, []]);
  });
  holds(context, property, 150);
});

test('what found no room is served as soon as its namespace gives some back, and says so until then', () => {
  const book = new ServiceBook('node-a', SHARE);
  const told = new Map<ServiceKey, PlanService>();
  const change = (number: number, ports: number, endpoints: number): void => {
    book.note(crowd('a', number, { ports, endpoints }));
    follow(told, book.steps());
  };
  const backends = (): readonly number[] => [...told.values()].map((value) => value.backends.length);
  change(1, 2, 3);
  change(2, 1, 3);
  assert.deepEqual(backends(), [3, 3, 0]);
  assert.equal(
    book.shortages.map(serviceShortageText).join(),
    "the Services of namespace a ask for more than their share of this node, 8 backends: 1 of their ports are refused (Service a/s2, port 1, among others), and no others'; give them fewer ports or fewer endpoints",
  );
  change(1, 1, 3);
  assert.deepEqual(backends(), [3, 3]);
  assert.deepEqual(book.shortages, []);
});

test('a Service of more backends than any namespace may have is worked out no further than that, and refused beyond', () => {
  const book = new ServiceBook('node-a');
  const [ports, endpoints] = [4000, 250];
  book.note(crowd('a', 1, { ports, endpoints }));
  const steps = book.steps();
  const served = steps.filter((step) => step.kind === 'service' && (step.value?.backends.length ?? 0) > 0);
  const places = served.reduce(
    (sum, step) => sum + (step.kind === 'service' ? (step.value?.places.length ?? 0) : 0),
    0,
  );
  assert.equal(steps.length, ports);
  assert.ok(served.length > 0 && served.length * endpoints <= NODE_SHARE.backends && places <= NODE_SHARE.places);
  assert.deepEqual(
    book.shortages.map(({ ports: short }) => short),
    [ports - served.length],
  );
});

test('blocks of a balancer’s clients take room of their namespace’s share', () => {
  const book = new ServiceBook('node-a', SHARE);
  const told = new Map<ServiceKey, PlanService>();
  const limited = (blocks: number): void => {
    const [service, slice] = crowd('a', 1, { ports: 1, endpoints: 1 });
    assert.ok(service?.kind === 'service' && service.value !== null && slice);
    const balancerClients = Array.from({ length: blocks }, (_, host) => block(`198.51.${host >> 8}.${host & 255}/32`));
    const value = { ...service.value, balancerAddresses: [address('203.0.113.1')], balancerClients };
    book.note([{ ...service, value }, slice]);
    follow(told, book.steps());
  };
  const served = (): unknown =>
    told.get(serviceKey({ address: address('203.0.113.1'), protocol: TCP, port: 1 }))?.backends.length;
  // For clients of the node, and for those outside.
  limited(18);
  assert.deepEqual([served(), book.shortages], [1, []]);
  limited(38);
  assert.deepEqual([served(), book.shortages.map(({ spent }) => spent)], [0, ['places']]);
});

test('what changes nothing for packets is no step: a slice of nobody, the same backends in another slice', () => {
  const book = new ServiceBook('node-a');
  const service: Service = {
    ...{ namespace: 'ns', name: 'x', clusterAddresses: [address('10.96.0.1')], ports: PORTS.slice(0, 1) },
    ...{ balancerAddresses: [], externalAddresses: [] },
    nodeLocal: false,
    outsideLocal: false,
    affinitySeconds: null,
  };
  const endpoint = { addresses: [address('10.1.0.1')], ready: true, serving: true, node: 'node-b' };
  const slice: EndpointSlice = { namespace: 'ns', service: 'x', ports: PORTS, endpoints: [endpoint] };
  book.note([{ kind: 'endpointslice', key: 'ns/1', value: slice }]);
  assert.deepEqual(book.steps(), []);
  book.note([{ kind: 'service', key: 'ns/x', value: service }]);
  const [step] = book.steps();
  const at: ServiceAddress = { address: address('10.96.0.1'), protocol: TCP, port: 80 };
  assert.ok(step?.kind === 'service' && step.value !== null);
  assert.deepEqual([step.at, step.value.backends], [at, [{ address: address('10.1.0.1'), port: 80 }]]);
  book.note([
    { kind: 'endpointslice', key: 'ns/2', value: slice },
    { kind: 'endpointslice', key: 'ns/1', value: null },
    { kind: 'endpointslice', key: 'ns/3', value: { ...slice, service: 'another' } },
  ]);
  assert.deepEqual(book.steps(), []);
});
