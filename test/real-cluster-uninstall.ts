// `make cluster-test`, its third part: Moat comes to nodes and goes again, as docs/install.md says, and each node is then what it
// was: beside the reference bridge plugin, whose pods keep running, and alone.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { differences, livingPrograms, programsOf, type Snapshot, snapshotOf } from '#test/support/node-snapshot.ts';
import {
  addressesOf,
  apply,
  becomes,
  CLIENTS,
  HOST_PORT,
  judged,
  NODES as NODE_ADDRESSES,
  pages,
  pod,
  policy,
  ready,
  SERVER,
} from '#test/support/shop-pods.ts';
import { BRIDGE_FILE } from '../tools/cluster/bridge.ts';
import { processes } from '../tools/cluster/cgroups.ts';
import { down, helm, installChart, kubectl, NODES, up } from '../tools/cluster/cluster.ts';
import { until } from '../tools/cluster/commands.ts';
import { DNS_DEPLOYMENT } from '../tools/cluster/dns.ts';
import { Machine } from '../tools/cluster/machine.ts';

const BOTH = [true, true];
const NEITHER = [false, false];
/** In memory, empty, and made by the kubelet for the agent's pod: the pod has no way to remove what it is in. */
const KUBELETS = /^\+ files: run\/moat\/$/;
/** What the kernel does to a veth that was made with a queue of no length, once a clsact queue was on it; it stays without queue. */
const LENGTHS = /^(- queue lengths: veth[0-9a-f]+ 0|\+ queue lengths: veth[0-9a-f]+ 1000)$/;
/** The runtime's folder for results, empty. */
const RESULTS = /^\+ files: var\/lib\/cni\/(results\/)?$/;
/** What the standard plugin portmap keeps once it has had a port, none of it about a pod. */
const PORTMAP = [
  /^\+ nftables: {"chain":{"family":"ip6?","table":"nat","name":"(CNI-HOSTPORT-(DNAT|MASQ|SETMARK)|(PRE|POST)ROUTING|OUTPUT)"/,
  /^\+ nftables: {"rule":{"family":"ip6?","table":"nat","chain":"(PREROUTING|POSTROUTING|OUTPUT)",.*"target":"CNI-HOSTPORT-(DNAT|MASQ)"}/,
  /^\+ nftables: {"rule":{"family":"ip6?","table":"nat","chain":"CNI-HOSTPORT-(MASQ|SETMARK)"/,
];
/** The link of a pod that is deleted goes a moment after the pod. */
const GONE_LIMIT_MS = 30_000;

const machines = (): readonly Machine[] => NODES.map((name) => Machine.open(name));

async function snapshots(): Promise<readonly Snapshot[]> {
  return await Promise.all(machines().map(snapshotOf));
}

/** Each node is what it was, soon. `but`: what may differ, in differences' words. */
async function areAsBefore(before: readonly Snapshot[], but: readonly RegExp[] = [KUBELETS]): Promise<void> {
  let found: readonly string[] = [];
  for (const end = performance.now() + GONE_LIMIT_MS; ; ) {
    const now = await snapshots();
    found = before
      .flatMap((each, index) => differences(each, now[index] ?? new Map()))
      .filter((one) => !but.some((each) => each.test(one)));
    if (found.length === 0 || performance.now() > end) break;
  }
  assert.deepEqual(found, []);
}

/** Objects of the API that are Moat's, and what is said of nodes there. */
async function objects(): Promise<string> {
  const kinds = ['daemonsets', 'pods', 'configmaps', 'secrets', 'serviceaccounts', 'services'].join();
  const some = await kubectl(['-n', 'kube-system', 'get', kinds, '-l', 'app.kubernetes.io/name=moat', '-o', 'name']);
  const rights = await kubectl(['get', 'clusterroles,clusterrolebindings', '-o', 'name']);
  const nodes = await kubectl([
    ...['get', 'nodes', '-o'],
    'jsonpath={range .items[*]}{.metadata.labels}{.metadata.annotations}{.spec.taints}{"\\n"}{end}',
  ]);
  const releases = await helm(['list', '--namespace', 'kube-system', '--all', '--short']);
  return [some, ...rights.split('\n').filter((name) => name.includes('moat')), nodes, releases].join('\n');
}

/** As docs/install.md has it: the release changed, its rollout awaited. */
async function change(...values: readonly string[]): Promise<void> {
  const chart = join(import.meta.dirname, '../deploy/helm/moat');
  await helm(['upgrade', 'moat', chart, '--namespace', 'kube-system', '--reuse-values', '--set', values.join()]);
  await rolledOut();
}

async function rolledOut(): Promise<void> {
  await kubectl(['-n', 'kube-system', 'rollout', 'status', 'daemonset/moat', '--timeout=90s']);
}

async function logsOf(container: string): Promise<string> {
  const logs = ['-n', 'kube-system', 'logs', '-l', 'app.kubernetes.io/name=moat', '-c', container, '--prefix'];
  return await kubectl([...logs, '--tail=-1']);
}

/** Removes Moat the documented way; what its pods said. Nothing that it loaded stays in the kernel. */
async function uninstall(): Promise<string> {
  const loaded = (await Promise.all(machines().map(programsOf))).flat();
  assert.ok(loaded.length > 0 && (await livingPrograms(loaded)).length === loaded.length, 'programs are seen');
  await change('run=uninstall');
  const said = await logsOf('uninstall');
  await helm(['uninstall', '--namespace', 'kube-system', 'moat']);
  // With the last of its pods, and a grace period of the kernel's.
  await until('the end of its pods', 60_000, async () => {
    const left = await kubectl(['-n', 'kube-system', 'get', 'pods', '-l', 'app.kubernetes.io/name=moat', '-o', 'name']);
    return left === '' && (await livingPrograms(loaded)).length === 0 ? true : null;
  });
  return said;
}

function noneIsUp(): void {
  assert.deepEqual(processes(), [], 'a cluster is up: make cluster-down');
}

async function shopComesUp(): Promise<readonly string[]> {
  await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  await until('the account', 30_000, () => kubectl(['-n', 'shop', 'get', 'serviceaccount', 'default']));
  await apply(...CLIENTS, SERVER);
  for (const name of ['near', 'far', 'server']) await ready(name);
  return await addressesOf('server');
}

async function gone(name: string): Promise<void> {
  await kubectl(['-n', 'shop', 'delete', 'pod', name, '--timeout=60s']);
}

/** The server's. */
let addresses: readonly string[] = [];
/** The nodes before Moat came, and what of the API is about them. */
let bare: readonly Snapshot[] = [];
let others = '';

function itComes(): void {
  it('is not there yet: the policy that lets far alone in denies nobody', async () => {
    assert.deepEqual(await judged(addresses), [BOTH, BOTH]);
    await areAsBefore(bare, []);
  });

  it('changes nothing by looking whether all is there', async () => {
    const values = { cni: { behind: BRIDGE_FILE }, adoptRunningPods: true, services: 'kube-proxy' };
    await installChart({ ...values, run: 'check' });
    await rolledOut();
    assert.equal((await logsOf('check')).match(/nothing is lacking$/gm)?.length, NODES.length);
    await areAsBefore(bare);
    assert.deepEqual(await judged(addresses), [BOTH, BOTH]);
  });

  it('judges the pods that run already, as they are, by the policy that is there', async () => {
    await change('run=agent');
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
    assert.deepEqual(await addressesOf('server'), addresses, 'the same pod, with the same addresses');
    const restarts = [
      '-n',
      'shop',
      'get',
      'pods',
      '-o',
      'jsonpath={.items[*].status.containerStatuses[0].restartCount}',
    ];
    assert.equal(await kubectl(restarts), '0 0 0');
  });

  it('judges pods that come, which are the bridge’s, from their first packet on', async () => {
    await apply(pod('late', 'node-1'), pod('kept', 'node-2'));
    for (const name of ['late', 'kept']) await ready(name);
    for (const name of ['late', 'kept']) assert.deepEqual(await pages(name, addresses), NEITHER, name);
    const ports = JSON.parse(await Machine.open('node-1').run('ip', ['-json', 'link', 'show', 'master', 'cni0']));
    assert.equal(ports.length, 3, 'near, server and late');
    await apply(policy('late', 'kept'));
    await becomes([NEITHER, NEITHER], addresses, 'far is let in no more');
    for (const name of ['late', 'kept']) assert.deepEqual(await pages(name, addresses), BOTH, name);
  });
}

function itGoes(): void {
  it('judges what comes by a port of the node, by the address that it comes from', async () => {
    const [first = []] = NODE_ADDRESSES;
    assert.deepEqual(await pages('far', first, HOST_PORT), NEITHER);
    await apply(policy('far'));
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
    assert.deepEqual(await pages('far', first, HOST_PORT), BOTH);
  });

  it('goes, and leaves every node as it was, and pods their network', async () => {
    await gone('late');
    const said = await uninstall();
    for (const name of ['near', 'far', 'server', 'kept']) {
      assert.match(said, new RegExp(`shop/${name} is judged by no policy any more: its network is another CNI's`));
    }
    assert.deepEqual(await judged(addresses), [BOTH, BOTH], 'the policy is there, and nobody enforces it');
    assert.deepEqual(await pages('kept', addresses), BOTH);
    // Made by the list with Moat in it, taken away by the one without.
    await gone('kept');
    await areAsBefore(bare, [KUBELETS, LENGTHS]);
    assert.equal(await objects(), others);
    await apply(pod('next', 'node-1'));
    await ready('next');
    assert.deepEqual(await pages('next', addresses), BOTH);
  });
}

describe('Moat beside the bridge plugin on a real cluster (needs root)', () => {
  before(async () => {
    noneIsUp();
    await up(() => undefined, { network: 'bridge' });
    addresses = await shopComesUp();
    await apply(policy('far'));
    others = await objects();
    bare = await until('addresses of the nodes that nobody else has', 30_000, async () => {
      const now = await snapshots();
      return now.some((each) => each.get('addresses')?.some((line) => line.includes('tentative'))) ? null : now;
    });
  });
  after(down);
  itComes();
  itGoes();
});

describe('Moat alone on a real cluster (needs root)', () => {
  before(async () => {
    noneIsUp();
    const look = async (): Promise<void> => {
      bare = await snapshots();
    };
    await up(() => undefined, { look });
  });
  after(down);

  it('goes once its pods have gone, and leaves every node as it was', async () => {
    addresses = await shopComesUp();
    await apply(policy('far'));
    await becomes([NEITHER, BOTH], addresses, 'far alone is let in');
    const changed = (await snapshots()).map((now, index) => differences(bare[index] ?? new Map(), now));
    for (const each of changed)
      for (const kind of ['links', 'routes', 'nftables', 'pins', 'files', 'processes'])
        assert.ok(
          each.some((line) => line.startsWith(`+ ${kind}: `)),
          `${kind} of Moat are seen: ${each.join('\n')}`,
        );
    // The nodes are drained first.
    await kubectl(['-n', 'kube-system', 'delete', DNS_DEPLOYMENT, '--timeout=60s']);
    for (const name of ['near', 'far', 'server']) await gone(name);
    await until('the end of all pods', 60_000, async () => {
      const list = await kubectl(['get', 'pods', '-A', '-l', 'app.kubernetes.io/name!=moat', '-o', 'name']);
      return list === '' ? true : null;
    });
    // A pod's network ends after the pod, and needs the plugin for it.
    await until('the end of their namespaces', 60_000, async () => {
      const left = await Promise.all(machines().map((machine) => machine.run('ip', ['netns', 'list'])));
      return left.join('') === '' ? true : null;
    });
    await uninstall();
    await areAsBefore(bare, [KUBELETS, RESULTS, ...PORTMAP]);
    for (const machine of machines()) assert.ok(!existsSync(join(machine.folder, 'cni/net.d/05-moat.conflist')));
  });
});
