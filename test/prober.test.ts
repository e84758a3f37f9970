// The prober on bare namespaces, with no datapath: answers come from our payload, and silence alone proves nothing.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { type Address, parseAddress } from '#net/address.ts';
import { ICMP, SCTP, TCP, UDP } from '#net/protocol.ts';
import { podKey } from '#policy/world.ts';
import { listNetns, SandboxNetwork } from '#sandbox/network.ts';
import { type ProbeResult, probeByPackets, SourcePorts } from '#sandbox/probe.ts';
import type { PacketEnd } from '#sandbox/probe-tasks.ts';
import { SharedSockets } from '#sandbox/shared-sockets.ts';
import { needsRoot } from '#test/support/needs.ts';

const INSTANCE = `pr${process.pid}`;
const gear = { sockets: new SharedSockets(), ports: new SourcePorts() };
const network = new SandboxNetwork(INSTANCE);
const ports = [
  { protocol: TCP, port: 80 },
  { protocol: UDP, port: 81 },
  { protocol: SCTP, port: 82 },
  { protocol: ICMP, port: 8 << 8 },
];
let ends: readonly PacketEnd[] = [];

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed, text);
  return parsed;
}

function probe(attemptsMs?: readonly number[]): Promise<ProbeResult> {
  const ask = { sources: ends, destinations: ends, ports, ...(attemptsMs === undefined ? {} : { attemptsMs }) };
  return probeByPackets(ask, () => () => undefined, gear);
}

before(async () => {
  if (needsRoot.skip) return;
  await network.createWorld();
  const nodes = await network.createNodes([
    { name: 'one', addresses: [address('172.30.0.1')] },
    { name: 'two', addresses: [address('172.30.0.2'), address('fd30::2')] },
  ]);
  const specs = [
    ['a', '10.0.0.1'],
    ['b', '10.0.0.2'],
    ['six', 'fd10::1'],
    ['both', 'fd10::2', '10.0.0.3'],
  ].map(([name, ...texts], index) => {
    const node = nodes[index % 2];
    assert.ok(node && name);
    return { key: podKey('ns', name), node, addresses: texts.map(address) };
  });
  const pods = await network.createPods(specs);
  await network.raisePods(pods);
  await network.addExternal([address('198.51.100.7'), address('2001:db8::7')]);
  const outside = [address('198.51.100.7'), address('2001:db8::7')];
  ends = [
    ...pods.map((pod) => ({ ...pod, name: pod.key, node: pod.node.name, endpoint: false })),
    { name: '198.51.100.7', addresses: outside, netns: network.world, node: null, endpoint: false },
  ];
});

after(async () => {
  if (needsRoot.skip) return;
  await network.destroy();
  assert.deepEqual(await listNetns(INSTANCE), []);
});

test('needs root: every end answers every other on TCP, UDP, SCTP and ICMP, in both families', needsRoot, async () => {
  const { rows, errors } = await probe();
  assert.deepEqual(errors, []);
  // Five ends; the two IPv4-only ones and the IPv6-only one have no family in common.
  assert.equal(rows.length, (5 * 4 - 4) * ports.length);
  assert.ok(rows.every((row) => row.verdict === 'allow'));
});

test('needs root: silence without a drop event is an error, never a deny', needsRoot, async () => {
  const pod = ends[0];
  assert.ok(pod);
  execFileSync('ip', ['-n', pod.netns, 'link', 'set', 'eth0', 'down']);
  const { rows, errors } = await probe([100, 100]);
  assert.ok(errors.length > 0 && errors.every((error) => [error.from, error.to].includes(pod.name)));
  assert.ok(rows.every((row) => row.verdict === 'allow' && row.from !== pod.name && row.to !== pod.name));
});
