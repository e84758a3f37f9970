// Services and EndpointSlices → tables: who serves which address and port, against kube-proxy's rules written out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '#net/address.ts';
import { formatCidr, parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import type { EndpointSlice, Service, ServicePort, SliceEndpoint } from '#policy/service.ts';
import { serviceTables } from './tables.ts';

function address(text: string): NonNullable<ReturnType<typeof parseAddress>> {
  const found = parseAddress(text);
  assert.ok(found, text);
  return found;
}

/** An endpoint with hints: names of nodes, and of zones. */
function hinted(text: string, nodes: string, zones: string, state: Partial<SliceEndpoint> = {}): SliceEndpoint {
  const names = (list: string): string[] => list.split(' ').filter((name) => name !== '');
  return endpoint(text, { hints: { nodes: names(nodes), zones: names(zones) }, ...state });
}

function endpoint(text: string, state: Partial<SliceEndpoint> = {}): SliceEndpoint {
  return { addresses: [address(text)], ready: true, serving: true, node: '', ...state };
}

const DNS: Service = {
  namespace: 'kube-system',
  name: 'dns',
  clusterAddresses: [address('10.96.0.10'), address('fd96::10')],
  balancerAddresses: [],
  externalAddresses: [],
  ports: [
    { name: 'dns', protocol: UDP, port: 53 },
    { name: 'dns-tcp', protocol: TCP, port: 53 },
  ],
  nodeLocal: false,
  outsideLocal: false,
  affinitySeconds: null,
};

/** The node's own. */
const NODE = [address('192.0.2.1'), address('2001:db8::1')];

const PORTS = [
  { name: 'dns', protocol: UDP, port: 5353 },
  { name: 'dns-tcp', protocol: TCP, port: 5354 },
];

function slice(endpoints: readonly SliceEndpoint[], more: Partial<EndpointSlice> = {}): EndpointSlice {
  return { namespace: 'kube-system', service: 'dns', ports: PORTS, endpoints, ...more };
}

/** `address protocol port → backends` of every table. */
function told(services: readonly Service[], slices: readonly EndpointSlice[]): readonly string[] {
  return [...serviceTables(services, slices, { node: 'node-a', zone: '', addresses: NODE })].map(
    ([key, { backends, places }]) => {
      assert.deepEqual(new Set(places), new Set(backends.keys()), key);
      return [key, '→', ...backends.map((each) => `${formatAddress(each.address)}#${each.port}`)].join(' ');
    },
  );
}

test('each address and port of a Service has the endpoints of its family, where they listen under its name', () => {
  const v4 = slice([endpoint('10.1.0.2'), endpoint('10.1.0.1')]);
  const v6 = slice([endpoint('fd01::1')]);
  assert.deepEqual(told([DNS], [v4, v6]), [
    '10.96.0.10 17 53 → 10.1.0.1#5353 10.1.0.2#5353',
    '10.96.0.10 6 53 → 10.1.0.1#5354 10.1.0.2#5354',
    'fd96::10 17 53 → fd01::1#5353',
    'fd96::10 6 53 → fd01::1#5354',
  ]);
});

test('an endpoint in two slices counts once, and slices of others count nothing', () => {
  const [port] = PORTS;
  const only = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: DNS.ports.slice(0, 1) };
  assert.ok(port);
  const slices = [
    slice([endpoint('10.1.0.1')]),
    slice([endpoint('10.1.0.1'), endpoint('10.1.0.3')], { ports: [port] }),
    slice([endpoint('10.1.0.9')], { namespace: 'other' }),
    slice([endpoint('10.1.0.8')], { service: 'other' }),
    slice([endpoint('10.1.0.7')], { ports: [{ ...port, name: 'another' }] }),
  ];
  assert.deepEqual(told([only], slices), ['10.96.0.10 17 53 → 10.1.0.1#5353 10.1.0.3#5353']);
});

test('terminating endpoints serve only where no other does; what does not serve never', () => {
  const only = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: DNS.ports.slice(0, 1) };
  const terminating = endpoint('10.1.0.2', { ready: false });
  const failed = endpoint('10.1.0.3', { ready: false, serving: false });
  assert.deepEqual(told([only], [slice([endpoint('10.1.0.1'), terminating, failed])]), [
    '10.96.0.10 17 53 → 10.1.0.1#5353',
  ]);
  assert.deepEqual(told([only], [slice([terminating, failed])]), ['10.96.0.10 17 53 → 10.1.0.2#5353']);
  assert.deepEqual(told([only], [slice([failed])]), ['10.96.0.10 17 53 →']);
  assert.deepEqual(told([only], []), ['10.96.0.10 17 53 →']);
});

test('a headless Service has no tables; of two that claim an address the first by name has it', () => {
  assert.deepEqual(told([{ ...DNS, clusterAddresses: [] }], [slice([endpoint('10.1.0.1')])]), []);
  const one = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: DNS.ports.slice(0, 1) };
  const rival = { ...one, name: 'a-rival' };
  const slices = [slice([endpoint('10.1.0.1')]), slice([endpoint('10.1.0.2')], { service: 'a-rival' })];
  const expected = ['10.96.0.10 17 53 → 10.1.0.2#5353'];
  assert.deepEqual(told([one, rival], slices), expected);
  assert.deepEqual(told([rival, one], slices), expected);
});

test('a node port is at the node’s addresses of the Service’s families, others beside the cluster’s addresses', () => {
  const [first] = DNS.ports;
  assert.ok(first);
  const outer = {
    ...DNS,
    clusterAddresses: DNS.clusterAddresses.slice(0, 1),
    balancerAddresses: [address('203.0.113.1'), address('127.0.0.1')],
    externalAddresses: [address('203.0.113.2'), address('203.0.113.1'), address('224.0.0.1')],
    ports: [{ ...first, nodePort: 30_053 }],
    nodeLocal: true,
  };
  const endpoints = [endpoint('10.1.0.1', { node: 'node-a' }), endpoint('10.1.1.1', { node: 'node-b' })];
  const both = '10.1.0.1#5353 10.1.1.1#5353';
  assert.deepEqual(told([outer], [slice(endpoints)]), [
    '10.96.0.10 17 53 → 10.1.0.1#5353',
    `192.0.2.1 17 30053 → ${both}`,
    `192.0.2.1 17 30053 outside → ${both}`,
    `203.0.113.1 17 53 → ${both}`,
    `203.0.113.1 17 53 outside → ${both}`,
    `203.0.113.2 17 53 → ${both}`,
    `203.0.113.2 17 53 outside → ${both}`,
  ]);
  assert.deepEqual(told([{ ...outer, clusterAddresses: [] }], [slice(endpoints)]), [], 'headless');
});

test('what an author writes as external takes nothing from cluster addresses, node ports and balancers', () => {
  const [first] = DNS.ports;
  assert.ok(first);
  const one = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: [{ ...first, nodePort: 53 }] };
  const owner = { ...one, balancerAddresses: [address('203.0.113.1')] };
  const taken = ['10.96.0.10', '192.0.2.1', '203.0.113.1'].map((each) => address(each));
  const thief = {
    ...{ ...one, name: 'a-thief', clusterAddresses: [address('10.96.0.66')], ports: [first] },
    externalAddresses: taken,
  };
  const slices = [slice([endpoint('10.1.0.1')]), slice([endpoint('10.1.0.66')], { service: 'a-thief' })];
  const inside = ['10.96.0.10 17 53', '10.96.0.66 17 53', '192.0.2.1 17 53', '203.0.113.1 17 53'];
  const expected = [...inside, '192.0.2.1 17 53 outside', '203.0.113.1 17 53 outside'];
  for (const services of [
    [owner, thief],
    [thief, owner],
  ]) {
    assert.deepEqual(
      told(services, slices).toSorted(),
      expected.map((each) => `${each} → 10.1.0.${each.includes('.66 ') ? 66 : 1}#5353`).toSorted(),
    );
  }
});

test('nobody gets the addresses where API servers listen, neither inside nor outside', () => {
  const https = [{ name: 'https', protocol: TCP, port: 443 }];
  const own = {
    ...DNS,
    namespace: 'default',
    name: 'kubernetes',
    clusterAddresses: [address('10.96.0.1')],
    ports: https,
  };
  const listens = slice([endpoint('198.51.100.7', { node: 'node-a' })], {
    ...{ namespace: 'default', service: 'kubernetes' },
    ports: [{ name: 'https', protocol: TCP, port: 6443 }],
  });
  const thief = {
    ...{ ...DNS, name: 'a-thief', clusterAddresses: [address('10.96.0.66')] },
    ports: [6443, 6444].map((port) => ({ name: `${port}`, protocol: TCP, port })),
    ...{ externalAddresses: [address('198.51.100.7')], balancerAddresses: [address('198.51.100.7')] },
  };
  const taken = (services: readonly Service[]): readonly string[] =>
    told(services, [listens]).filter((each) => each.startsWith('198.51.100.7'));
  assert.deepEqual(
    taken([thief]).map((each) => each.split(' ')[2]),
    ['6443', '6444'],
  );
  for (const services of [
    [own, thief],
    [thief, own],
  ]) {
    assert.deepEqual(taken(services), ['198.51.100.7 6 6444 →']);
    assert.ok(told(services, [listens]).includes('10.96.0.1 6 443 → 198.51.100.7#6443'));
  }
});

test('a slice that says API servers listen at a Service’s own address takes nothing from it', () => {
  const [, first] = DNS.ports;
  assert.ok(first);
  const one = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: [{ ...first, nodePort: 30_053 }] };
  const kubernetes = { ...DNS, namespace: 'default', name: 'kubernetes', clusterAddresses: [address('10.96.0.1')] };
  const forged = [first.port, 30_053].map((port) =>
    slice([endpoint('10.96.0.10'), endpoint('192.0.2.1')], {
      ...{ namespace: 'default', service: 'kubernetes' },
      ports: [{ name: 'dns-tcp', protocol: TCP, port }],
    }),
  );
  const own = [slice([endpoint('10.1.0.1', { node: 'node-a' })])];
  const asked = (slices: readonly EndpointSlice[]): readonly string[] =>
    told([one, kubernetes], slices).filter((each) => /^(10\.96\.0\.10|192\.0\.2\.1) 6 (53|30053) /.test(each));
  assert.equal(asked(own).length, 3);
  assert.deepEqual(asked([...own, ...forged]), asked(own));
});

test('a balancer’s ranges are for its own addresses alone, by family, and a family that has none is closed', () => {
  const [first] = DNS.ports;
  assert.ok(first);
  const limitsOf = (ranges: readonly string[]): readonly string[] => {
    const balancerClients = ranges.flatMap((text) => parseCidr(text)?.cidr ?? []);
    const service = {
      ...{ ...DNS, ports: [{ ...first, nodePort: 30_053 }], balancerClients },
      balancerAddresses: [address('203.0.113.1'), address('2001:db8:1::1')],
      externalAddresses: [address('203.0.113.9')],
    };
    const slices = [slice([endpoint('10.1.0.1', { node: 'node-a' }), endpoint('fd01::1', { node: 'node-a' })])];
    return [...serviceTables([service], slices, { node: 'node-a', zone: '', addresses: NODE })].flatMap(
      ([key, { clients }]) => {
        return clients === undefined ? [] : [[key, clients.node, ...clients.blocks.map(formatCidr)].join(' ')];
      },
    );
  };
  const keys = (v4: string, v6: string): readonly string[] => [
    ...[`203.0.113.1 17 53 ${v4}`, `2001:db8:1::1 17 53 ${v6}`],
    ...[`203.0.113.1 17 53 outside ${v4}`, `2001:db8:1::1 17 53 outside ${v6}`],
  ];
  assert.deepEqual(limitsOf(['198.51.100.0/24']), keys('false 198.51.100.0/24', 'false'));
  assert.deepEqual(
    limitsOf(['192.0.2.0/24', '2001:db8::/64', '10.0.0.0/8']),
    keys('true 192.0.2.0/24 10.0.0.0/8', 'true 2001:db8::/64'),
  );
});

test('beside a node port a pod of the node’s network may serve it, but not at the port itself', () => {
  const [first] = DNS.ports;
  assert.ok(first);
  const one = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1) };
  const at = (nodePort: number): readonly string[] =>
    told([{ ...one, ports: [{ ...first, nodePort }] }], [slice([endpoint('192.0.2.1')])]).slice(1);
  assert.deepEqual(at(30_053), ['192.0.2.1 17 30053 → 192.0.2.1#5353']);
  assert.deepEqual(at(5353), ['192.0.2.1 17 5353 →']);
});

test('whoever is outside reaches endpoints of all nodes, or with the policy Local those of the node, but none of its own network', () => {
  const [first] = DNS.ports;
  assert.ok(first);
  const one = {
    ...{ ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: [first] },
    externalAddresses: [address('203.0.113.2')],
  };
  const here = endpoint('10.1.0.1', { node: 'node-a' });
  const leaving = endpoint('10.1.0.2', { node: 'node-a', ready: false });
  const there = endpoint('10.1.1.1', { node: 'node-b' });
  const ofNode = endpoint('192.0.2.1', { node: 'node-a' });
  const outside = (outsideLocal: boolean, ...endpoints: readonly SliceEndpoint[]): readonly string[] =>
    told([{ ...one, outsideLocal }], [slice(endpoints)]).filter((each) => each.includes('outside'));
  const at = '203.0.113.2 17 53 outside →';
  assert.deepEqual(outside(true, here, leaving, there), [`${at} 10.1.0.1#5353`]);
  assert.deepEqual(outside(true, leaving, there), [`${at} 10.1.0.2#5353`]);
  assert.deepEqual(outside(true, here, ofNode), []);
  assert.deepEqual(outside(true, there), [at]);
  assert.deepEqual(outside(false, here, leaving, there), [`${at} 10.1.0.1#5353 10.1.1.1#5353`]);
  assert.deepEqual(outside(false, leaving, there), [`${at} 10.1.1.1#5353`]);
  assert.deepEqual(outside(false, here, ofNode), [`${at} 10.1.0.1#5353`]);
  assert.deepEqual(outside(false, ofNode), [], 'nobody is left');
  const hinted = [there, endpoint('10.1.2.1', { node: 'node-c' })].map((each, index) => {
    return { ...each, hints: { zones: [], nodes: [index === 0 ? 'node-b' : 'node-a'] } };
  });
  assert.deepEqual(outside(false, ...hinted), [`${at} 10.1.2.1#5353`], 'as hints say for clients of this node');
  assert.deepEqual(outside(false), [], 'nobody at all: the node refuses');
});

test('outside, too, what an author writes takes no node port of a Service that is not served here, and no cluster address', () => {
  const one = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1) };
  const ports = [{ name: 'dns-tcp', protocol: TCP, port: 53, nodePort: 30_053 }];
  const victim = { ...one, name: 'z', ports };
  const author = {
    ...{ ...one, namespace: 'team-1', name: 'a', clusterAddresses: [address('10.96.0.77')] },
    externalAddresses: [address('192.0.2.1'), address('10.96.0.10'), address('203.0.113.9')],
    ports: [...ports, { name: 'dns-tcp-2', protocol: TCP, port: 30_053 }].map(
      ({ nodePort: _, ...port }: ServicePort) => port,
    ),
  };
  const endpoints = [endpoint('10.1.0.66', { node: 'node-a' })];
  const theirs = slice(endpoints, {
    ...{ namespace: 'team-1', service: 'a' },
    ports: ['dns-tcp', 'dns-tcp-2'].map((name) => ({ name, protocol: TCP, port: 1 })),
  });
  const elsewhere = slice([endpoint('10.1.1.1', { node: 'node-b' })], { service: 'z' });
  const outside = told([author, victim], [theirs, elsewhere]).filter((each) => each.includes('outside'));
  assert.deepEqual(
    outside.map((each) => each.split(' outside')[0]),
    ['192.0.2.1 6 30053', '192.0.2.1 6 53', '203.0.113.9 6 53', '203.0.113.9 6 30053'],
  );
  assert.match(outside.find((each) => each.startsWith('192.0.2.1 6 30053')) ?? '', /→ 10\.1\.1\.1#/, 'its own');
});

test('at a node’s own address externalIPs get no datagrams from outside: they may be answers; a node port does', () => {
  const one = {
    ...{ ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1) },
    ...{ externalAddresses: [address('192.0.2.1')], ports: DNS.ports.map((port) => ({ ...port, nodePort: 30_053 })) },
  };
  const here = endpoint('10.1.0.1', { node: 'node-a' });
  const outside = told([one], [slice([here])]).filter((each) => each.includes('outside'));
  assert.deepEqual(
    outside.map((each) => each.split(' outside')[0]),
    ['192.0.2.1 17 30053', '192.0.2.1 6 30053', '192.0.2.1 6 53'],
  );
});

test('a Service is no backend of itself', () => {
  const one = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: DNS.ports.slice(0, 1) };
  assert.deepEqual(told([one], [slice([endpoint('10.96.0.10')])]), ['10.96.0.10 17 53 →']);
});

test('groups, broadcast, loopback and mapped addresses are no backends: no pod may send there by itself', () => {
  const special = ['224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255', '0.0.0.0', '127.0.0.1'];
  const special6 = ['ff02::1', 'ff05::2', '::', '::1', '::ffff:10.1.0.1'];
  const one = { ...DNS, ports: DNS.ports.slice(0, 1) };
  const all = slice([...special, ...special6, '10.1.0.1', 'fd01::1'].map((each) => endpoint(each)));
  assert.deepEqual(told([one], [all]), ['10.96.0.10 17 53 → 10.1.0.1#5353', 'fd96::10 17 53 → fd01::1#5353']);
});

test('internalTrafficPolicy Local: only endpoints of the client’s node, or nobody', () => {
  const near = {
    ...DNS,
    clusterAddresses: DNS.clusterAddresses.slice(0, 1),
    ports: DNS.ports.slice(0, 1),
    nodeLocal: true,
  };
  const here = endpoint('10.1.0.1', { node: 'node-a' });
  const leaving = endpoint('10.1.0.2', { node: 'node-a', ready: false });
  const there = endpoint('10.1.1.1', { node: 'node-b' });
  assert.deepEqual(told([near], [slice([there, leaving, here])]), ['10.96.0.10 17 53 → 10.1.0.1#5353']);
  assert.deepEqual(told([near], [slice([there, leaving])]), ['10.96.0.10 17 53 → 10.1.0.2#5353']);
  assert.deepEqual(told([near], [slice([there, endpoint('10.1.0.9')])]), ['10.96.0.10 17 53 →']);
});

/** Whom clients of a node ask, of all the endpoints of the first port. */
function nearOf(endpoints: readonly SliceEndpoint[], place: { node?: string; zone?: string; local?: true }): string {
  const { node = 'node-a', zone = 'zone-1', local = false } = place;
  const only = { ...DNS, clusterAddresses: DNS.clusterAddresses.slice(0, 1), ports: DNS.ports.slice(0, 1) };
  const [table] = serviceTables([{ ...only, nodeLocal: local }], [slice(endpoints)], {
    node,
    zone,
    addresses: [],
  }).values();
  return (table?.backends ?? []).map(({ address: { words } }) => (words[0] ?? 0) & 0xff).join(' ');
}

test('hints for zones are followed where every ready endpoint has one, and one is for the node’s zone', () => {
  const zones = [hinted('10.1.0.1', '', 'zone-1'), hinted('10.1.0.2', '', 'zone-2 zone-3')];
  assert.equal(nearOf(zones, {}), '1');
  assert.equal(nearOf(zones, { zone: 'zone-3' }), '2');
  assert.equal(nearOf(zones, { zone: 'zone-9' }), '1 2', 'nobody is for this zone');
  assert.equal(nearOf(zones, { zone: '' }), '1 2', 'the node is in no zone');
  assert.equal(nearOf([...zones, endpoint('10.1.0.3')], {}), '1 2 3', 'one has no hint');
  const failed = endpoint('10.1.0.3', { ready: false, serving: false });
  assert.equal(nearOf([...zones, failed], {}), '1', 'who is not ready needs none');
});

test('hints for nodes go before those for zones, and are whole by themselves', () => {
  const both = [hinted('10.1.0.1', 'node-a', 'zone-1'), hinted('10.1.0.2', 'node-b', 'zone-1')];
  assert.equal(nearOf(both, {}), '1');
  assert.equal(nearOf(both, { node: 'node-c' }), '1 2', 'its zone has both');
  assert.equal(nearOf(both, { node: 'node-c', zone: 'zone-2' }), '1 2');
  const parts = [hinted('10.1.0.1', 'node-a', 'zone-2'), hinted('10.1.0.2', '', 'zone-1')];
  assert.equal(nearOf(parts, {}), '2', 'not all have one for nodes');
});

test('who terminates is taken whatever its hints say, and a node’s own endpoints are not chosen by hints', () => {
  const terminating = { ready: false, serving: true };
  const leaving = [hinted('10.1.0.1', '', 'zone-1', terminating), hinted('10.1.0.2', '', 'zone-2', terminating)];
  assert.equal(nearOf(leaving, {}), '1 2');
  assert.equal(nearOf([...leaving, hinted('10.1.0.3', '', 'zone-2')], {}), '3');
  const own = [hinted('10.1.0.1', '', 'zone-1'), hinted('10.1.0.2', '', 'zone-2', { node: 'node-a' })];
  assert.equal(nearOf(own, { local: true }), '2');
});
