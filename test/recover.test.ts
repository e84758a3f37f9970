// A change that does not fit into the kernel: the node closes, says so, and opens by itself once the change is taken back.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { startAgent } from '#agent/agent.ts';
import { NodeState } from '#agent/node-state.ts';
import type { AttachRequest } from '#agent/protocol.ts';
import { ClusterSource } from '#agent/source.ts';
import type { Follower } from '#cluster/follower.ts';
import { diffWorlds } from '#cluster/world/diff.ts';
import { Compiler } from '#compile/compiler.ts';
import { openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { formatAddress } from '#net/address.ts';
import { podKey, STANDARD_SEMANTICS } from '#policy/world.ts';
import { connectAgent } from '#sandbox/agent-client.ts';
import { ClusterServer } from '#sandbox/cluster-server.ts';
import { needsRoot } from '#test/support/needs.ts';
import { type BedPod, PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { worldOf } from '#test/support/worlds.ts';
import { quietObserver } from './support/observer.ts';

/** Neither the exact addresses nor the prefixes that stand for those without room find any. */
const SIZES = {
  ...{ ct_map: 1280, address_map_a: 16, address_map_b: 16 },
  ...{ prefix4_a: 16, prefix4_b: 16 },
};

const pod = (name: string, app: string, address: string, node: string): string =>
  `{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: ${name}, labels: {app: ${app}}}, ` +
  `spec: {nodeName: ${node}, containers: []}, status: {phase: Running, podIP: ${address}, podIPs: [{ip: ${address}}]}}\n---\n`;
/** pod2 lets in pod1 and the crowd, pod1 lets nobody in. */
const POLICIES = ['pod1', 'pod2'].map((name) => {
  const from =
    name === 'pod1'
      ? '[]'
      : '[{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [pod1, crowd]}]}}]}]';
  return (
    `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: ${name}}, ` +
    `spec: {podSelector: {matchLabels: {app: ${name}}}, policyTypes: [Ingress], ingress: ${from}}}\n---\n`
  );
});
const FEW = [pod('pod1', 'pod1', '10.9.0.1', 'node-a'), pod('pod2', 'pod2', '10.9.0.2', 'node-a'), ...POLICIES].join(
  '',
);
const CROWD = Array.from({ length: 40 }, (_, index) => pod(`x${index}`, 'crowd', `10.8.0.${index + 1}`, 'node-b'));

function requestOf({ name, link }: BedPod): AttachRequest {
  const mac = Buffer.from(link.mac)
    .toString('hex')
    .replace(/..(?!$)/g, '$&:');
  const addresses = link.addresses.filter((address) => address.family === 4).map(formatAddress);
  return { pod: podKey('shop', name), interfaceIndex: link.interfaceIndex, mac, addresses };
}

test(
  'needs root: an agent whose change failed closes its node, and starts afresh until it can open it',
  needsRoot,
  async (t) => {
    mountBpffs();
    const bed = new PodBed('recover', 2);
    const folder = mkdtempSync(join(tmpdir(), 'moat-agent-'));
    const [clusterSocket, agentSocket] = [join(folder, 'cluster.sock'), join(folder, 'agent.sock')];
    const cluster = new ClusterServer(clusterSocket, diffWorlds);
    await cluster.listen();
    cluster.publish(worldOf(FEW));
    const makeState = (): NodeState => {
      const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (each) => each.node === 'node-a' });
      return new NodeState('node-a', compiler, openDatapath({ instance: bed.prefix, node: 'node-a', sizes: SIZES }));
    };
    const makeSource = (follower: Follower): ClusterSource => new ClusterSource(clusterSocket, follower);
    const agent = await startAgent({
      node: 'node-a',
      agentSocket,
      cniFolder: null,
      cniConfig: null,
      makeNetwork: null,
      makeState,
      makeSource,
      observer: quietObserver(),
    });
    const problems: string[] = [];
    const listener = { flows: () => undefined, applied: () => undefined, gone: () => undefined };
    const client = await connectAgent(agentSocket, { ...listener, problem: (message) => void problems.push(message) });
    assert.ok(client);
    t.after(() => {
      client.close();
      agent.close();
      cluster.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
      rmSync(folder, { recursive: true });
    });
    const goes = (from: number, port: number): boolean =>
      udpArrives(bed, bed.pod(from), bed.pod(1 - from), { family: 4, port });
    const until = async (what: string, done: () => Promise<boolean>): Promise<void> => {
      for (const limit = performance.now() + 8000; !(await done()); await pause(20)) {
        assert.ok(performance.now() < limit, `${what}: ${problems.join('\n')}`);
      }
    };

    await client.subscribe();
    await client.attach(bed.pods.map(requestOf));
    assert.deepEqual([goes(0, 80), goes(1, 80)], [true, false]);
    assert.equal((await client.status()).problem, null);

    cluster.publish(worldOf(FEW + CROWD.join('')));
    await until('it says so', async () => (await client.status()).problem !== null);
    assert.match(problems[0] ?? '', /every packet is denied now; a fresh start follows/);
    assert.deepEqual([goes(0, 81), goes(1, 81)], [false, false], 'closed');
    await until('it tries again', async () => problems.length >= 3);
    assert.deepEqual([goes(0, 82), goes(1, 82)], [false, false], 'closed still');
    assert.equal((await client.status()).revision, 0);

    cluster.publish(worldOf(FEW));
    await until('it is mended', async () => (await client.status()).problem === null);
    assert.match(problems.at(-1) ?? '', /policy is in force again/);
    assert.deepEqual([goes(0, 83), goes(1, 83)], [true, false]);
    assert.equal((await client.status()).revision, cluster.revision);
  },
);
