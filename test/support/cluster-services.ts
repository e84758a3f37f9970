// Clients on the nodes of the real cluster, and one outside, that ask a Service: no pod's packets, and no kube-proxy.
import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { before, it } from 'node:test';
import { pinPath } from '#kernel/bpffs.ts';
import { kubectl } from '../../tools/cluster/cluster.ts';
import { until } from '../../tools/cluster/commands.ts';
import { TOOLS_IMAGE } from '../../tools/cluster/images.ts';
import { Machine } from '../../tools/cluster/machine.ts';
import { INSTANCE } from '../../tools/cluster/places.ts';
import { killAgent } from './cluster-nodes.ts';
import { apply, COMPUTER, isPage, pages, pagesHere, pod, ready } from './shop-pods.ts';

/** Of the Service, on each node; in the API server's range. */
export const NODE_PORT = 31_080;
const HOOKS_GONE_MS = 10_000;
const BOTH = [true, true];
const NEITHER = [false, false];

/** A server that no policy selects, on node-1, and its Service, with a port of the nodes; its cluster addresses. */
async function serveAll(): Promise<readonly string[]> {
  const ports = [{ port: 80, targetPort: 8080, nodePort: NODE_PORT }];
  const spec = { type: 'NodePort', selector: { app: 'open' }, ports, ipFamilyPolicy: 'RequireDualStack' };
  await apply(
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 'open', namespace: 'shop' }, spec },
    pod('open', 'node-1', true),
  );
  const fields = 'jsonpath={.spec.clusterIPs[*]}';
  return (await kubectl(['-n', 'shop', 'get', 'service', 'open', '-o', fields])).split(' ');
}

/** A pod on its node's network, which its kubelet finds ready once it gets the page there itself. */
function onHost(name: string, nodeName: string, host: string): unknown {
  const command = ['sh', '-c', 'exec sleep 1000000'];
  const readinessProbe = { httpGet: { host, port: 80, path: '/index.html' }, periodSeconds: 1, failureThreshold: 1 };
  const containers = [{ name: 'c', image: TOOLS_IMAGE, command, readinessProbe }];
  const spec = { nodeName, hostNetwork: true, terminationGracePeriodSeconds: 0, containers };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop' }, spec };
}

/** Whether a process of the node, no pod's, gets the page, for each address. */
async function pagesOnNode(node: string, hosts: readonly string[], port: number): Promise<readonly boolean[]> {
  const asked = hosts.map(async (host) => {
    const get = `exec 3<>/dev/tcp/${host}/${port}; printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
    return isPage(await Machine.open(node).run('sh', ['-c', 'timeout 2 bash -c "$0" 2>&1 || true', get]));
  });
  return await Promise.all(asked);
}

/** Tests: who is on a node, or outside, asks a Service of the real cluster. Leaves the pod `open` open to this computer alone. */
export function nodesAskServices(): void {
  let hosts: readonly string[] = [];

  before(async () => {
    hosts = await serveAll();
    const [first = ''] = hosts;
    await apply(onHost('host-1', 'node-1', first), onHost('host-2', 'node-2', first));
    for (const name of ['open', 'host-1', 'host-2']) await ready(name);
  });

  it('has pods on the nodes’ networks, their kubelets, and nodes’ own processes reach a Service, with no kube-proxy', async () => {
    const asked = ['host-1', 'host-2'].map((name) => pages(name, hosts, 80));
    const byNodes = ['node-1', 'node-2'].map((name) => pagesOnNode(name, hosts, 80));
    assert.deepEqual(await Promise.all([...asked, ...byNodes]), [BOTH, BOTH, BOTH, BOTH]);
  });

  for (const [index, name] of ['node-1', 'node-2'].entries())
    it(`and none of these do on ${name} once its hooks for them are gone, until its agent is back`, async () => {
      const pins = pinPath(INSTANCE, name);
      const hooks = readdirSync(pins).filter((each) => each.startsWith('host_'));
      assert.ok(hooks.length > 0);
      await killAgent(name, async () => {
        for (const each of hooks) rmSync(join(pins, each));
        // The kernel takes a hook away some time after the last who had it.
        await until('nobody served', HOOKS_GONE_MS, async () => {
          const asked = [pagesOnNode(name, hosts, 80), pages(`host-${index + 1}`, hosts, 80)];
          return (await Promise.all(asked)).flat().includes(true) ? null : true;
        });
      });
      await until('hooks again', 60_000, async () =>
        (await pagesOnNode(name, hosts, 80)).every((each) => each) ? true : null,
      );
    });

  it('serves a port of the node to a client outside, whose own address policy judges', async () => {
    assert.deepEqual(await pagesHere(NODE_PORT), BOTH);
    const judging = async (cidrs: readonly string[]): Promise<void> => {
      const from = cidrs.map((cidr) => ({ ipBlock: { cidr } }));
      const spec = { podSelector: { matchLabels: { app: 'open' } }, ingress: [{ from }] };
      const metadata = { name: 'open', namespace: 'shop' };
      await apply({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec });
    };
    const becomesHere = async (wanted: readonly boolean[]): Promise<unknown> =>
      await until('the policy', 15_000, async () =>
        JSON.stringify(await pagesHere(NODE_PORT)) === JSON.stringify(wanted) ? true : null,
      );
    await judging(['192.0.2.1/32']);
    await becomesHere(NEITHER);
    await judging(COMPUTER.map((each) => `${each}/${each.includes(':') ? 128 : 32}`));
    await becomesHere(BOTH);
  });
}
