// Services and slices as they come and go: whatever came when, a datapath has the tables of what there is in the end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ServiceAddress, type ServiceKey, type Step, serviceKey } from '#compile/plan.ts';
import { parseAddress } from '#net/address.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { type EndpointSlice, isServiceEvent, type Service } from '#policy/service.ts';
import type { ClusterEvent, Node } from '#policy/world.ts';
import { holds } from '#test/support/property.ts';
import { ServiceBook } from './book.ts';
import { serviceTables } from './tables.ts';
import type { NodePlace } from './topology.ts';

const address = (text: string): NonNullable<ReturnType<typeof parseAddress>> => {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
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
const arbitraryService = fc.record({
  namespace: fc.constant('ns'),
  name: fc.constantFrom('x', 'y', 'z'),
  clusterAddresses: fc.subarray(['10.96.0.1', '10.96.0.2', 'fd96::1'].map(address)),
  balancerAddresses: fc.subarray(['203.0.113.1', '10.96.0.1'].map(address)),
  externalAddresses: fc.subarray(['203.0.113.1', '10.96.0.2', '192.0.2.1'].map(address)),
  ports: arbitraryPorts,
  nodeLocal: fc.boolean(),
  outsideLocal: fc.boolean(),
  affinitySeconds: fc.constantFrom(null, 10, 20),
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
function follow(told: Map<ServiceKey, unknown>, steps: readonly Step[]): void {
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
    const told = new Map<ServiceKey, unknown>();
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
    }
    book.note([...book.known()]);
    follow(told, book.steps());
    assert.equal(told.size, 0, 'what was known can be taken back');
    assert.deepEqual([...book.known()], []);
  });
  holds(context, property, 100);
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
