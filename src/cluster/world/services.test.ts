// Service and EndpointSlice objects as the API gives them: absent fields as the API means them, and what is not done is said.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress } from '#net/address.ts';
import { formatCidr } from '#net/cidr.ts';
import { SCTP, TCP, UDP } from '#net/protocol.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { Notes } from './notes.ts';
import { readService, readSlice } from './services.ts';

function notesOf(kind: string, content: object): Notes & { readonly diagnostics: Diagnostic[] } {
  const object = { apiVersion: 'v1', kind, namespace: 'shop', name: 'db', content, origin: null };
  return { object, diagnostics: [] };
}

function service(spec: object, labels: object = {}): readonly [ReturnType<typeof readService>, readonly string[]] {
  const notes = notesOf('Service', { metadata: { name: 'db', labels }, spec });
  return [readService(notes), notes.diagnostics.map(({ code, path }) => `${code} ${path}`)];
}

test('a Service has its cluster addresses and ports; TCP where no protocol stands', () => {
  const ports = [
    { name: 'a', port: 80 },
    { name: 'b', port: 53, protocol: 'UDP' },
    { name: 'c', port: 9, protocol: 'SCTP' },
  ];
  const [read, said] = service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1', 'fd96::1'], ports });
  assert.deepEqual(read.clusterAddresses.map(formatAddress), ['10.96.0.1', 'fd96::1']);
  assert.deepEqual(read.ports, [
    { name: 'a', protocol: TCP, port: 80 },
    { name: 'b', protocol: UDP, port: 53 },
    { name: 'c', protocol: SCTP, port: 9 },
  ]);
  assert.deepEqual([read.nodeLocal, said], [false, []]);
  assert.equal(service({ internalTrafficPolicy: 'Local' })[0].nodeLocal, true);
  assert.deepEqual([read.outsideLocal, service({ externalTrafficPolicy: 'Local' })[0].outsideLocal], [false, true]);
});

test('a Service keeps its clients for as long as it says, three hours by default, and a day at most', () => {
  const seconds = (spec: object): number | null => service(spec)[0].affinitySeconds;
  const of = (timeoutSeconds: number): object => ({
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds } },
  });
  assert.deepEqual([seconds({}), seconds({ sessionAffinity: 'None' })], [null, null]);
  assert.deepEqual(
    [seconds({ sessionAffinity: 'ClientIP' }), seconds(of(10)), seconds(of(90_000))],
    [10_800, 10, 86_400],
  );
  assert.equal(seconds({ ...of(10), sessionAffinity: 'None' }), null);
});

test('headless Services, those that are names, and those without an address yet have none', () => {
  for (const spec of [
    { clusterIP: 'None', clusterIPs: ['None'] },
    { type: 'ExternalName', externalName: 'example.org' },
    { clusterIP: '' },
  ]) {
    assert.deepEqual(service(spec)[0].clusterAddresses, []);
  }
});

test('a Service whose label gives it to another proxy, or to none, has no addresses, and nothing is said of it', () => {
  const spec = { clusterIP: '10.96.0.1', type: 'NodePort' };
  for (const label of ['service-proxy-name', 'headless'].map((each) => `service.kubernetes.io/${each}`)) {
    for (const value of ['', 'foo-bar']) {
      const [read, said] = service(spec, { [label]: value });
      assert.deepEqual([read.clusterAddresses, said], [[], []], label);
    }
  }
  assert.equal(service(spec, { 'kubernetes.io/service-proxy-name': 'foo' })[0].clusterAddresses.length, 1);
});

test('what makes no sense is left out, and said', () => {
  const [read, faults] = service({ clusterIPs: ['x'], ports: [{ port: 0 }, { port: 80, protocol: 'X' }] });
  assert.deepEqual([read.clusterAddresses, read.ports], [[], []]);
  assert.equal(faults.length, 3);
});

test('a balancer asks for endpoints where its clients reach a node’s own alone, at the port that the API server gave out', () => {
  const asked = (spec: object): readonly unknown[] => {
    const [{ healthPort }, said] = service({ healthCheckNodePort: 32_000, ...spec });
    return [healthPort, said.length];
  };
  const local = { type: 'LoadBalancer', externalTrafficPolicy: 'Local' };
  assert.deepEqual(asked(local), [32_000, 0]);
  assert.deepEqual(asked({ ...local, healthCheckNodePort: 0 }), [undefined, 0]);
  assert.deepEqual(asked({ ...local, healthCheckNodePort: 'x' }), [undefined, 1]);
  assert.deepEqual(asked({ ...local, type: 'NodePort' }), [undefined, 0]);
  assert.equal(asked({ ...local, externalTrafficPolicy: 'Cluster' })[0], undefined);
  assert.equal(
    service({ ...local, healthCheckNodePort: 32_000 }, { 'service.kubernetes.io/headless': '' })[0].healthPort,
    undefined,
  );
});

test('a Service has node ports where its type has them, addresses of its balancer that proxies nothing, and external ones', () => {
  const spec = {
    ...{ type: 'LoadBalancer', clusterIP: '10.96.0.1', externalIPs: ['192.0.2.9'] },
    ports: [{ port: 80, nodePort: 30_080 }],
  };
  const ingress = [
    { ip: '203.0.113.1', ipMode: 'VIP' },
    { ip: '203.0.113.2', ipMode: 'Proxy' },
    { hostname: 'x.test' },
  ];
  const read = (more: object): ReturnType<typeof readService> =>
    readService(
      notesOf('Service', { metadata: {}, spec: { ...spec, ...more }, status: { loadBalancer: { ingress } } }),
    );
  const outer = (more: object): readonly string[] => {
    const { balancerAddresses, externalAddresses, ports } = read(more);
    const nodePorts = ports.map(({ nodePort = 0 }) => String(nodePort));
    return [...[...balancerAddresses, ...externalAddresses].map(formatAddress), ...nodePorts];
  };
  assert.deepEqual(outer({}), ['203.0.113.1', '192.0.2.9', '30080']);
  assert.deepEqual(outer({ type: 'NodePort' }), ['192.0.2.9', '30080']);
  assert.deepEqual(outer({ type: 'ClusterIP' }), ['192.0.2.9', '0']);
  assert.deepEqual(outer({ loadBalancerSourceRanges: ['0.0.0.0/0'] }), ['203.0.113.1', '192.0.2.9', '30080']);
});

test('ranges of a balancer’s clients are blocks; what is none lets in nobody, and is said; all addresses limit nobody', () => {
  const limits = (ranges: readonly unknown[], type = 'LoadBalancer'): readonly [readonly string[] | null, number] => {
    const spec = { type, externalTrafficPolicy: 'Local', loadBalancerSourceRanges: ranges };
    const [{ balancerClients }, said] = service(spec);
    return [balancerClients?.map(formatCidr) ?? null, said.length];
  };
  assert.deepEqual(limits([]), [null, 0]);
  assert.deepEqual(limits(['0.0.0.0/0']), [null, 0]);
  assert.deepEqual(limits(['0.0.0.0/0', ' ::/0 ']), [null, 0]);
  assert.deepEqual(limits([' 192.0.2.7/24', '2001:db8::/64']), [['192.0.2.0/24', '2001:db8::/64'], 0]);
  assert.deepEqual(limits(['192.0.2.0/24', '0.0.0.0/0']), [['192.0.2.0/24', '0.0.0.0/0'], 0]);
  assert.deepEqual(limits(['192.0.2.0', 7]), [[], 2]);
  assert.deepEqual(limits(Array(4096).fill('10.0.0.0/8'))[0]?.length, 4096);
  assert.deepEqual(limits(Array(4097).fill('10.0.0.0/8')), [[], 1]);
  assert.deepEqual(limits(['192.0.2.0/24'], 'NodePort'), [null, 0], 'they are a balancer’s');
});

test('endpoints are ready where nothing is said, and serve where they are ready', () => {
  const labels = { 'kubernetes.io/service-name': 'db' };
  const endpoints = [
    { addresses: ['10.1.0.1', '10.1.0.9'], nodeName: 'node-a' },
    { addresses: ['10.1.0.2'], conditions: { ready: false } },
    { addresses: ['10.1.0.3'], conditions: { ready: false, serving: true, terminating: true } },
  ];
  const raw = { metadata: { labels }, addressType: 'IPv4', endpoints, ports: [{ port: 8080 }, { name: 'all' }] };
  const slice = readSlice(notesOf('EndpointSlice', raw));
  const told = slice?.endpoints.map(({ addresses, ready, serving, node }) =>
    [addresses.map(formatAddress), ready, serving, node].join(' '),
  );
  assert.deepEqual(told, ['10.1.0.1 true true node-a', '10.1.0.2 false false ', '10.1.0.3 false true ']);
  assert.deepEqual(slice?.ports, [{ name: '', protocol: TCP, port: 8080 }]);
  assert.ok(slice?.endpoints.every(({ hints }) => hints === undefined));
  assert.equal(readSlice(notesOf('EndpointSlice', { ...raw, addressType: 'FQDN' })), null);
  assert.equal(readSlice(notesOf('EndpointSlice', { ...raw, metadata: {} })), null);
});

test('an endpoint’s hints are the names of nodes and zones; what is no name is left out, and said', () => {
  const labels = { 'kubernetes.io/service-name': 'db' };
  const hints = [
    { forZones: [{ name: 'zone-1' }, { name: 'zone-2' }], forNodes: [{ name: 'node-a' }] },
    { forZones: [{ name: 'zone-1' }] },
    { forZones: [] },
    { forZones: [{ name: 7 }], forNodes: 'node-a' },
  ];
  const endpoints = hints.map((each, index) => ({ addresses: [`10.1.0.${index}`], hints: each }));
  const notes = notesOf('EndpointSlice', { metadata: { labels }, addressType: 'IPv4', endpoints, ports: [] });
  assert.deepEqual(
    readSlice(notes)?.endpoints.map((each) => each.hints),
    [{ nodes: ['node-a'], zones: ['zone-1', 'zone-2'] }, { nodes: [], zones: ['zone-1'] }, undefined, undefined],
  );
  assert.deepEqual(
    notes.diagnostics.map(({ path }) => path),
    ['endpoints[3].hints.forNodes', 'endpoints[3].hints.forZones[0].name'],
  );
});
