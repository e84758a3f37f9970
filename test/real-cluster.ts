// `make cluster-test`: a real Kubernetes of two nodes comes up with Moat as its CNI, its pods are judged by policies that
// kubectl applies, and nothing of it is left, however it ends.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { pinPath } from '#kernel/bpffs.ts';
import { agentOf, killAgent, linksOf, takeHooksOff } from '#test/support/cluster-nodes.ts';
import { NODE_PORT, nodesAskServices } from '#test/support/cluster-services.ts';
import { hooksOf } from '#test/support/node-snapshot.ts';
import {
  addressesOf,
  apply,
  askingFor,
  becomes,
  CLIENTS,
  COMPUTER,
  containerOf,
  HOST_PORT,
  isPage,
  judged,
  NODES,
  pages,
  pagesHere,
  pod,
  policy,
  policyFor,
  ready,
  SERVER,
} from '#test/support/shop-pods.ts';
import { HIERARCHIES, processes } from '../tools/cluster/cgroups.ts';
import { helm, installChart, kubectl } from '../tools/cluster/cluster.ts';
import { until } from '../tools/cluster/commands.ts';
import { startApiServer } from '../tools/cluster/control-plane.ts';
import { Machine } from '../tools/cluster/machine.ts';
import { CONTROL, INSTANCE, KUBECONFIG, KUBECTL, NAME, STATE } from '../tools/cluster/places.ts';

const ROOT = join(import.meta.dirname, '..');
const RUN = join(ROOT, 'tools/cluster/run.ts');
/** The kubelet asks three times before it believes a failure. */
const READINESS_MS = 4000;
const NAME_OF_SERVER = 'server.shop.svc.cluster.local';
const BOTH = [true, true];
const NEITHER = [false, false];

/** As `pages`, of a container, by the runtime of its node. */
async function pagesByNode(node: string, id: string): Promise<readonly boolean[]> {
  const asked = addresses.map(async (address, index) => {
    const exec = ['-n', 'k8s.io', 'task', 'exec', '--exec-id', `ask${index}`, id];
    return isPage(await Machine.open(node).run('ctr', [...exec, 'sh', '-c', askingFor(address)]));
  });
  return await Promise.all(asked);
}

/**
 * Deletes the server and makes it anew, while the pod near asks all addresses that the new one may get: which of some
 * addresses the new server has answered, by its own log.
 */
async function visitorsOfNewServer(some: readonly string[]): Promise<readonly string[]> {
  const [before = ''] = await addressesOf('server');
  const block = before.slice(0, before.lastIndexOf('.'));
  const ask = `printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 1 ${block}.$n 8080`;
  const all = `for n in $(seq 2 15); do ${ask} >/dev/null 2>&1 & done; sleep 0.3`;
  const asking = kubectl(['-n', 'shop', 'exec', 'near', '--', 'sh', '-c', `for i in $(seq 20); do ${all}; done`]);
  await kubectl(['-n', 'shop', 'delete', 'pod', 'server']);
  await apply(SERVER);
  await ready('server');
  await asking;
  const [now = ''] = await addressesOf('server');
  const last = Number(now.slice(block.length + 1));
  assert.ok(now.startsWith(`${block}.`) && last >= 2 && last <= 15, `${now} was asked`);
  const log = await kubectl(['-n', 'shop', 'logs', 'server']);
  return some.filter((address) => log.includes(`${address}]:`));
}

/** What of Moat is on a node: links, files, pins, hooks, routes, tables of nftables. */
async function tracesOf(machine: Machine): Promise<readonly string[]> {
  const files = ['cni/net.d/05-moat.conflist', 'cni/bin/moat-cni', `run/moat/${INSTANCE}`];
  const paths = [...files.map((file) => join(machine.folder, file)), pinPath(INSTANCE, machine.name)];
  return [
    ...(await linksOf(machine)).map(({ ifname }) => ifname),
    ...paths.filter((path) => existsSync(path)),
    ...(await hooksOf(machine)),
    ...(await machine.run('ip', ['route', 'show', 'proto', '109'])).split('\n').filter((line) => line !== ''),
    ...(await machine.run('nft', ['list', 'tables'])).split('\n').filter((line) => line.includes('moat')),
    ...(await machine.run('tc', ['qdisc', 'show'])).split('\n').filter((line) => line.includes('clsact')),
  ];
}

/** How many pods a node has, without those that share its network. */
async function podsOn(machine: Machine): Promise<number> {
  const onNode = ['get', 'pods', '-A', '--field-selector', `spec.nodeName=${machine.name}`, '-o', 'json'];
  const { items } = JSON.parse(await kubectl(onNode)) as { items: readonly { spec: { hostNetwork?: boolean } }[] };
  return items.filter(({ spec }) => spec.hostNetwork !== true).length;
}

/** `run.ts` with this word; what it has said so far, line by line. */
function start(command: string): { readonly child: ChildProcess; readonly lines: readonly string[] } {
  const child = spawn(process.execPath, [RUN, command], { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
  const lines: string[] = [];
  const { stderr } = child;
  assert.ok(stderr);
  createInterface({ input: stderr }).on('line', (line) => lines.push(line));
  return { child, lines };
}

/** Runs it to its end; its exit code, and what it said. */
async function end({ child, lines }: ReturnType<typeof start>): Promise<readonly [number | null, string]> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
  return [child.exitCode, lines.join('\n')];
}

/** Waits for a line. */
async function said({ child, lines }: ReturnType<typeof start>, part: string): Promise<void> {
  while (!lines.some((line) => line.includes(part))) {
    assert.equal(child.exitCode, null, lines.join('\n'));
    await pause(20);
  }
}

/** Whatever a cluster leaves, if it leaves anything. */
function leftovers(): readonly string[] {
  const cgroups = HIERARCHIES.map((hierarchy) => `/sys/fs/cgroup/${hierarchy}/${NAME}`);
  const pins = dirname(pinPath(INSTANCE, 'any'));
  const paths = [...cgroups, pins, STATE, KUBECONFIG, KUBECTL, `/sys/class/net/${NAME}`].filter((path) =>
    existsSync(path),
  );
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(NAME));
  // Those who ended all the same have no arguments.
  const living = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && argumentsOf(name).includes(STATE));
  return [...paths, ...mounts, ...living, ...processes().map(String)];
}

/** Empty where the process has ended. */
function argumentsOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** Whoever has a cluster up keeps it: this brings up, kills and takes down its own. */
function noneIsUp(): void {
  assert.deepEqual(leftovers(), [], 'a cluster is up: make cluster-down');
}

/** The cluster that is up is this test's own. */
let isOurs = false;

async function bringUp(): Promise<void> {
  noneIsUp();
  isOurs = true;
  const [code, text] = await end(start('up'));
  assert.equal(code, 0, text);
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
  await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  await until('the account', 30_000, () => kubectl(['-n', 'shop', 'get', 'serviceaccount', 'default']));
  await apply(...CLIENTS, SERVER);
  for (const name of ['near', 'far', 'server']) await ready(name);
  addresses = await addressesOf('server');
}

async function takeDown(): Promise<void> {
  if (!isOurs) return;
  const [code, text] = await end(start('down'));
  assert.equal(code, 0, text);
  assert.deepEqual(leftovers(), [], 'taken down');
}

/** The server's. */
let addresses: readonly string[] = [];

function policiesComeAndChange(): void {
  it('refuses to come up twice', async () => {
    const [code, text] = await end(start('up'));
    assert.deepEqual([code, text.includes('make cluster-down')], [1, true], text);
  });

  it('has pods with an address of each family, who reach each other on one node and between nodes', async () => {
    assert.equal(addresses.length, 2);
    assert.deepEqual(await judged(addresses), [BOTH, BOTH]);
  });

  it('denies what a policy denies that kubectl applies, and the kubelet still finds the pod ready', async () => {
    await apply(policy());
    await becomes([NEITHER, NEITHER], addresses, 'nobody is let in');
    await pause(READINESS_MS);
    const ready = ['-n', 'shop', 'get', 'pod', 'server', '-o', 'jsonpath={.status.containerStatuses[0].ready}'];
    assert.equal(await kubectl(ready), 'true');
    assert.deepEqual(await judged(addresses), [NEITHER, NEITHER]);
  });

  it('allows whom the edited policy allows, on the same node or on the other, and nobody else', async () => {
    await apply(policy('near'));
    await becomes([BOTH, NEITHER], addresses, 'near alone is let in');
    await apply(policy('far'));
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
  });
}

function podsResolveNames(): void {
  it('has names for Services, by which pods come to the server whom its policy lets in', async () => {
    const port = { port: 80, targetPort: 8080 };
    await apply({
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'server', namespace: 'shop' } },
      spec: { selector: { app: 'server' }, ports: [port], ipFamilyPolicy: 'RequireDualStack' },
    });
    const ask = async (client: string, ...command: readonly string[]): Promise<string> =>
      await kubectl(['-n', 'shop', 'exec', client, '--', ...command]);
    await until('names', 30_000, async () => (await ask('near', 'nslookup', NAME_OF_SERVER)).includes('fd00:10:96:'));
    assert.ok((await ask('far', 'nslookup', 'kubernetes.default.svc.cluster.local')).includes('10.96.0.1'));
    await assert.rejects(ask('far', 'nslookup', 'nobody.shop.svc.cluster.local'));
    // far alone is let in.
    assert.deepEqual(await Promise.all(['near', 'far'].map((each) => pages(each, ['server'], 80))), [[false], [true]]);
  });
}

function podsSpeakOutside(): void {
  it('leads a port of the node to the server, for whom the policy lets in by the address that asks', async () => {
    const [first = []] = NODES;
    const byPort = async (): Promise<unknown> => [
      ...(await Promise.all(['near', 'far'].map((client) => pages(client, first, HOST_PORT)))),
      await pagesHere(),
    ];
    assert.deepEqual(await byPort(), [NEITHER, BOTH, NEITHER], 'far alone is let in');
    await apply(policyFor(COMPUTER.map((each) => ({ ipBlock: { cidr: `${each}/${each.includes(':') ? 128 : 32}` } }))));
    await becomes([NEITHER, NEITHER], addresses, 'this computer alone is let in');
    assert.deepEqual(await byPort(), [NEITHER, NEITHER, BOTH]);
    await apply(policy('far'));
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
  });

  it('lets pods speak to the world in their node’s name, which knows no way to pods', async () => {
    const callers: string[] = [];
    const server = createServer(({ socket }, response) => {
      callers.push((socket.remoteAddress ?? '').replace('::ffff:', ''));
      response.end('hello\n');
    }).listen(0, '::');
    await once(server, 'listening');
    assert.deepEqual(await pages('far', COMPUTER, (server.address() as AddressInfo).port), BOTH);
    server.close();
    assert.deepEqual(callers.sort(), [...(NODES[1] ?? [])].sort());
  });
}

function podsAndAgentsComeAndGo(): void {
  it('has a pod that is made anew under its policy from its first packet on', async () => {
    const [own = ''] = await addressesOf('near');
    assert.deepEqual(await visitorsOfNewServer([own]), []);
    await apply(policy('near', 'far'));
    await becomes([BOTH, BOTH], await addressesOf('server'), 'near is let in');
    assert.deepEqual(await visitorsOfNewServer([own]), [own], 'it did ask, and would have been seen');
    await apply(policy('far'));
    addresses = await addressesOf('server');
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
  });

  it('goes on as it was when an agent is killed, and its kubelet starts the next one', async () => {
    await killAgent('node-1', async () => assert.deepEqual(await judged(addresses), [NEITHER, BOTH]));
    await apply(policy('near'));
    await becomes([BOTH, NEITHER], addresses, 'near alone is let in');
    await apply(policy('far'));
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
  });

  it('goes on as it was when the chart alone is uninstalled, starts no pod, and makes good what came meanwhile', async () => {
    const machine = Machine.open('node-1');
    await helm(['uninstall', '--namespace', 'kube-system', 'moat']);
    await until('the end of the agent', 60_000, async () => ((await agentOf(machine)) === '' ? true : null));
    await apply(pod('late', 'node-1'));
    await kubectl(['-n', 'shop', 'delete', 'pod', 'near']);
    await until('the refusal', 30_000, async () => {
      const events = await kubectl(['-n', 'shop', 'get', 'events', '-o', 'jsonpath={.items[*].message}']);
      return events.includes('the agent of this node does not answer') ? true : null;
    });
    assert.deepEqual(await pages('far', addresses), BOTH);
    await installChart();
    await ready('late');
    assert.deepEqual(await pages('late', addresses), NEITHER);
    await apply(pod('near', 'node-1'));
    await ready('near');
    assert.deepEqual(await judged(addresses), [NEITHER, BOTH]);
    await until('attachments of the pods that live, and no others', 60_000, async () => {
      const attached = readdirSync(join(machine.folder, 'run/moat', INSTANCE, 'cni/attachments'));
      const [links, pods] = [await linksOf(machine), await podsOn(machine)];
      return attached.length === pods && links.length === pods ? true : null;
    });
  });

  it('judges as before while the API server is gone, and by what is new once it is back', async () => {
    const control = Machine.open(CONTROL);
    const containers = await Promise.all(['near', 'far'].map(containerOf));
    await control.kill('kube-apiserver');
    await assert.rejects(kubectl(['get', 'nodes']));
    const asked = containers.map(([node, id]) => pagesByNode(node, id));
    assert.deepEqual(await Promise.all(asked), [NEITHER, BOTH]);
    await startApiServer(control, kubectl);
    await apply(policy('near'));
    await becomes([BOTH, NEITHER], addresses, 'near alone is let in');
    await apply(policy('far'));
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
  });
}

describe('a real cluster of two nodes (needs root)', () => {
  before(bringUp);
  after(takeDown);
  policiesComeAndChange();
  podsResolveNames();
  podsSpeakOutside();
  nodesAskServices();
  podsAndAgentsComeAndGo();

  it('lets the denied pod through once the hooks are off: it is the hooks that deny', async () => {
    assert.deepEqual([await pages('near', addresses), await pagesHere(NODE_PORT)], [NEITHER, BOTH]);
    await takeHooksOff('node-1');
    assert.deepEqual([await pages('near', addresses), await pagesHere(NODE_PORT)], [BOTH, NEITHER]);
  });

  it('leaves nothing of Moat on a node that it is removed from, and no pod there a link', async () => {
    const machines = ['node-1', 'node-2'].map((name) => Machine.open(name));
    const before = await Promise.all(machines.map(tracesOf));
    for (const traces of before)
      assert.ok(
        [/^moat/, /^\/sys\/fs\/bpf\//, /^10\.244/, /^table inet moat/, / ingress \d+$/].every((shape) =>
          traces.some((each) => shape.test(each)),
        ),
        traces.join('\n'),
      );
    await installChart({ run: 'uninstall' });
    await kubectl(['-n', 'kube-system', 'rollout', 'status', 'daemonset/moat', '--timeout=60s']);
    assert.deepEqual(await Promise.all(machines.map(tracesOf)), [[], []]);
    await installChart({ run: 'check' });
    await kubectl(['-n', 'kube-system', 'rollout', 'status', 'daemonset/moat', '--timeout=60s']);
    const reports = ['-n', 'kube-system', 'logs', '-l', 'app.kubernetes.io/name=moat', '-c', 'check', '--tail=-1'];
    assert.equal((await kubectl(reports)).match(/^nothing is lacking$/gm)?.length, 2);
    assert.deepEqual(await Promise.all(machines.map(tracesOf)), [[], []], 'a check leaves nothing');
    await helm(['uninstall', '--namespace', 'kube-system', 'moat']);
    assert.equal(await kubectl(['get', 'clusterrole,clusterrolebinding', '-l', 'app.kubernetes.io/name=moat']), '');
  });
});

describe('a cluster that does not come up (needs root)', () => {
  before(noneIsUp);

  it('leaves nothing when it is interrupted', async () => {
    const run = start('up');
    await said(run, 'etcd');
    await pause(1500);
    run.child.kill('SIGINT');
    const [code, text] = await end(run);
    assert.deepEqual([code, leftovers()], [130, []], text);
  });

  it('that was killed is removed by the next one, or by its end', async () => {
    const run = start('up');
    await said(run, 'containerd');
    await pause(1000);
    run.child.kill('SIGKILL');
    await end(run);
    assert.notDeepEqual(leftovers(), []);
    const [code, text] = await end(start('down'));
    assert.deepEqual([code, leftovers()], [0, []], text);
  });
});
