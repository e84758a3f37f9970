// Which way each node's pods are reached, held against RFC 7348 (what VXLAN adds) and hand-drawn networks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '#net/address.ts';
import { formatCidr, parseCidr } from '#net/cidr.ts';
import { type ClusterNode, macOf, type NodePlan, planNode, type RouteMode, type Subnet } from './node-plan.ts';

function node(name: string, addresses: readonly string[], blocks: readonly string[]): ClusterNode {
  const podCidrs = blocks.flatMap((text) => parseCidr(text)?.cidr ?? []);
  return { name, addresses: addresses.flatMap((text) => parseAddress(text) ?? []), podCidrs };
}

function subnet(text: string, index = 2, mtu = 1500): Subnet {
  const [address = '', length] = text.split('/');
  const parsed = parseAddress(address);
  assert.ok(parsed, text);
  return { index, mtu, address: parsed, length: Number(length) };
}

const SELF = node('self', ['192.0.2.1', 'fd00::1'], ['10.1.0.0/24', 'fd01::/64']);
const SUBNETS = [subnet('192.0.2.1/25'), subnet('fd00::1/64')];

function plan(
  others: readonly ClusterNode[],
  more: { subnets?: readonly Subnet[]; mode?: RouteMode; self?: ClusterNode } = {},
): NodePlan {
  const { subnets = SUBNETS, mode = 'auto', self = SELF } = more;
  return planNode({ self, nodes: [self, ...others], subnets, mode });
}

/** `destination by gateway on link`, `tunnel` for 0; those for pods alone are marked. */
function ways({ routes }: NodePlan): readonly string[] {
  return routes.map(({ destination, gateway, index, fromPods }) => {
    return `${formatCidr(destination)} by ${formatAddress(gateway)} on ${index ?? 'tunnel'}${fromPods ? ' for pods' : ''}`;
  });
}

const NEAR = node('near', ['192.0.2.3', 'fd00::3'], ['10.3.0.0/24', 'fd03::/64']);
const FAR = node('far', ['192.0.2.200', 'fd00:1::2'], ['10.2.0.0/24', 'fd02::/64']);

test('a node in a subnet of this one is reached directly, the MTU is the link’s', () => {
  const found = plan([NEAR]);
  assert.deepEqual(ways(found), ['10.3.0.0/24 by 192.0.2.3 on 2', 'fd03::/64 by fd00::3 on 2']);
  assert.deepEqual([found.mtu, found.tunnel?.ends.length, found.problems], [1500, 0, []]);
  const sources = found.routes.map(({ source }) => source && formatAddress(source));
  assert.deepEqual(sources, ['192.0.2.1', 'fd00::1']);
});

test('another is reached by the tunnel, its own addresses by pods alone, and links carry 50 bytes less', () => {
  const found = plan([NEAR, FAR]);
  assert.deepEqual(ways(found).slice(0, 4), [
    '10.2.0.0/24 by 10.2.0.0 on tunnel',
    'fd02::/64 by fd02:: on tunnel',
    '192.0.2.200/32 by 10.2.0.0 on tunnel for pods',
    'fd00:1::2/128 by fd02:: on tunnel for pods',
  ]);
  assert.equal(found.routes.length, 6);
  assert.deepEqual([found.mtu, found.tunnel?.mtu], [1450, 1450]);
  const [end] = found.tunnel?.ends ?? [];
  assert.deepEqual([end?.mac, end && formatAddress(end.address)], [macOf('far'), '192.0.2.200']);
});

test('a node that is near in one family alone is reached by the tunnel in both', () => {
  const half = node('half', ['192.0.2.3', 'fd00:1::3'], ['10.3.0.0/24', 'fd03::/64']);
  assert.ok(plan([half]).routes.every(({ index }) => index === null));
  assert.deepEqual(ways(plan([node('four', ['192.0.2.3', 'fd00:1::3'], ['10.3.0.0/24'])])), [
    '10.3.0.0/24 by 192.0.2.3 on 2',
  ]);
});

test('where the tunnel is asked for, it is used for all; by IPv6 it takes 70 bytes', () => {
  assert.ok(plan([NEAR], { mode: 'vxlan' }).routes.every(({ index }) => index === null));
  const self = node('self', ['fd00::1'], ['fd01::/64']);
  assert.equal(plan([node('far', ['fd00:1::2'], ['fd02::/64'])], { self }).mtu, 1430);
});

test('a node without an address of the tunnel’s family is told of; nothing else is lost', () => {
  const found = plan([node('six', ['fd00:1::2'], ['fd02::/64']), NEAR]);
  assert.deepEqual(found.problems, [
    "pods of node six can't be reached: it has no InternalIP of IPv4, as this node has",
  ]);
  assert.equal(found.routes.length, 2);
});

test('the MTU is that of links with this node’s addresses, and of any where these are on none', () => {
  const docker = subnet('172.17.0.1/16', 5, 1300);
  assert.equal(plan([NEAR], { subnets: [...SUBNETS, docker] }).mtu, 1500);
  assert.equal(plan([NEAR], { subnets: [subnet('198.51.100.1/24', 3, 9000), docker] }).mtu, 1250);
  assert.equal(plan([NEAR], { subnets: [] }).mtu, null);
});

test('blocks that overlap are the first node’s by name, whatever the sizes; nobody takes this node’s or a node’s address', () => {
  const cases: readonly (readonly [first: string, second: string])[] = [
    ['10.5.0.0/24', '10.5.0.0/24'],
    ['10.5.0.0/24', '10.5.0.128/25'],
    ['10.5.0.128/25', '10.5.0.0/24'],
  ];
  for (const [first, second] of cases) {
    const found = plan([node('b', ['192.0.2.5'], [second]), node('a', ['192.0.2.4'], [first])]);
    assert.deepEqual(ways(found), [`${first} by 192.0.2.4 on 2`]);
    assert.deepEqual(found.problems, [
      `podCIDR ${second} of node b gets no route: it overlaps with a podCIDR of node a`,
    ]);
  }
  for (const block of ['10.1.0.0/24', '10.0.0.0/8', '0.0.0.0/0', '192.0.2.0/24', '192.0.2.3/32', 'fd01::8/128']) {
    const found = plan([node('a', ['192.0.2.4', 'fd00::4'], [block]), NEAR]);
    assert.equal(found.routes.length, 2, block);
    assert.equal(found.problems.length, 1, block);
  }
});

test('5 000 nodes take no longer than a moment', () => {
  const many = Array.from({ length: 5000 }, (_, at) => {
    const [high, low] = [(at >> 8) + 1, at & 255];
    return node(
      `n${at}`,
      [`203.0.${high}.${low}`, `fd00:2::${at.toString(16)}`],
      [`10.${100 + high}.${low}.0/24`, `fd05:${at.toString(16)}::/64`],
    );
  });
  const startedMs = performance.now();
  const found = plan(many);
  assert.deepEqual([found.problems, found.routes.length], [[], 20_000]);
  assert.ok(performance.now() - startedMs < 2000);
});
