// `moat install --check` on a real API server, which has what the test put there, and on this machine.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pinPath } from '#kernel/bpffs.ts';
import type { Finding } from '../src/cli/install-finding.ts';
import { moatEnded } from './support/api-agent.ts';
import { ControlPlane, EVERYTHING } from './support/control-plane.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';

const PINS = '/sys/fs/bpf/moat';

type Report = { readonly node: string | null; readonly ok: boolean; readonly findings: readonly Finding[] };

/** What it reports, as JSON. */
async function report(...args: readonly string[]): Promise<Report> {
  const { code, out, said } = await moatEnded(['install', '--check', '-o', 'json', ...args]);
  assert.equal(code, 0, said);
  return JSON.parse(out) as Report;
}

function of({ findings }: Report, subject: string): readonly [status: string, found: string] | undefined {
  const found = findings.find((each) => each.subject === subject);
  return found && [found.status, found.found];
}

describe('a cluster that is looked at', needsApiServer, () => {
  let plane: ControlPlane;

  before(async () => {
    plane = await ControlPlane.start(['watcher', 'nobody']);
    await plane.allow('watcher', EVERYTHING);
  });
  after(async () => {
    await plane?.close();
  });

  async function makeNode(
    name: string,
    nodeInfo: Readonly<Record<string, string>>,
    block: string | null,
  ): Promise<void> {
    const spec = block === null ? {} : { podCIDR: block, podCIDRs: [block] };
    await plane.do('POST', '/api/v1/nodes', { metadata: { name }, spec });
    const empty = { machineID: '', systemUUID: '', bootID: '', osImage: '', kubeletVersion: '', kubeProxyVersion: '' };
    await plane.do('PATCH', `/api/v1/nodes/${name}/status`, { status: { nodeInfo: { ...empty, ...nodeInfo } } });
  }

  it('lacks nodes where there are none, and says of none what they are', async () => {
    const found = await report('--kubeconfig', plane.kubeconfig('admin'));
    assert.deepEqual(of(found, 'nodes'), ['lacking', 'none with Linux']);
    for (const subject of ['kernels', 'architectures', 'podCIDR']) assert.equal(of(found, subject), undefined, subject);
  });

  it('lacks nothing, to whom may do everything', async () => {
    const info = { operatingSystem: 'linux', architecture: 'amd64', containerRuntimeVersion: 'containerd://2.1.0' };
    await makeNode('good', { ...info, kernelVersion: '6.12.1' }, '10.244.0.0/24');
    const found = await report('--kubeconfig', plane.kubeconfig('admin'));
    assert.equal(found.ok, true, JSON.stringify(found));
    assert.equal(of(found, 'rights')?.[0], 'ok');
    assert.deepEqual(of(found, 'podCIDR'), ['ok', 'every node has one']);
    assert.deepEqual(of(found, 'networkpolicies.networking.k8s.io'), ['ok', '0']);
    assert.equal(of(found, 'kube-proxy')?.[0], 'warning');
  });

  it('lacks rights, to whom may only watch it, and what may not be seen is unknown', async () => {
    const found = await report('--kubeconfig', plane.kubeconfig('watcher'));
    assert.equal(found.ok, false);
    const missing = 'create daemonsets, create serviceaccounts, create clusterroles, create clusterrolebindings';
    assert.deepEqual(of(found, 'rights'), ['lacking', `without: ${missing}`]);
    assert.equal(of(found, 'DaemonSets')?.[0], 'unknown');
    assert.equal(of(found, 'nodes')?.[0], 'ok');
  });

  it('names nodes that agents would refuse, other CNIs, kube-proxy’s mode, and policies that nobody would enforce', async () => {
    const old = {
      operatingSystem: 'linux',
      architecture: 'riscv64',
      containerRuntimeVersion: 'cri-o://1.30.0',
      kernelVersion: '5.15.0',
    };
    await makeNode('old', old, null);
    const labels = { app: 'x' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'none' }] } };
    const daemons = '/apis/apps/v1/namespaces/kube-system/daemonsets';
    await plane.do('POST', daemons, {
      metadata: { name: 'calico-node' },
      spec: { selector: { matchLabels: labels }, template },
    });
    const data = { 'config.conf': 'kind: KubeProxyConfiguration\nmode: nftables\n' };
    await plane.do('POST', '/api/v1/namespaces/kube-system/configmaps', { metadata: { name: 'kube-proxy' }, data });
    await makeCiliumPolicy();
    const found = await report('--kubeconfig', plane.kubeconfig('admin'));
    assert.equal(found.ok, false);
    for (const subject of ['kernels', 'architectures', 'podCIDR'])
      assert.deepEqual(of(found, subject), ['lacking', 'old']);
    assert.deepEqual(of(found, 'other CNIs'), ['warning', 'calico-node']);
    assert.deepEqual(of(found, 'kube-proxy'), ['ok', 'mode nftables']);
    assert.deepEqual(of(found, 'ciliumnetworkpolicies.cilium.io'), ['warning', '1']);
  });

  async function makeCiliumPolicy(): Promise<void> {
    const names = { plural: 'ciliumnetworkpolicies', singular: 'ciliumnetworkpolicy', kind: 'CiliumNetworkPolicy' };
    const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
    await plane.do('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: 'ciliumnetworkpolicies.cilium.io' },
      spec: {
        group: 'cilium.io',
        scope: 'Namespaced',
        names,
        versions: [{ name: 'v2', served: true, storage: true, schema }],
      },
    });
    const policy = { apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata: { name: 'p' } };
    for (const end = performance.now() + 30_000; ; ) {
      const { status, text } = await plane.ask(
        'POST',
        '/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies',
        policy,
      );
      if (status === 201) return;
      assert.ok(performance.now() < end, text);
    }
  }

  it('can’t be looked at by whom nobody knows: that is no report', async () => {
    const { code, out, said } = await moatEnded(['install', '--check', '--kubeconfig', plane.kubeconfig('stranger')]);
    assert.deepEqual([code, out], [2, '']);
    assert.match(said, /the cluster can't be looked at: .*401/);
  });
});

describe('a node that is looked at (needs root)', needsRoot, () => {
  let folder = '';

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'moat-install-'));
    for (const each of ['bin', 'net.d']) mkdirSync(join(folder, each));
  });
  after(() => rmSync(folder, { recursive: true }));

  async function reportNode(config = '05-moat.conflist'): Promise<Report> {
    const places = ['--cni-plugin-folder', join(folder, 'bin'), '--cni-config', join(folder, 'net.d', config)];
    return await report('--node', 'here', ...places);
  }

  it('has its programs loaded, and nothing of them afterwards', async () => {
    const node = `check-${process.pid}`;
    const found = await report('--node', node);
    assert.deepEqual(of(found, 'kernel programs'), ['ok', 'loaded, and removed again']);
    const instances = existsSync(PINS) ? readdirSync(PINS) : [];
    assert.deepEqual(
      instances.filter((instance) => existsSync(pinPath(instance, node))),
      [],
    );
  });

  it('has a root of cgroup2, where programs for its own clients load', async () => {
    const found = of(await reportNode(), 'cgroups');
    assert.equal(found?.[0], 'ok');
    assert.match(found?.[1] ?? '', /^v[12], root of cgroup2: \/.*[a-z0-9]$/);
  });

  it('lacks the first place among the network configurations, where another one has it', async () => {
    const net = join(folder, 'net.d');
    assert.deepEqual(of(await reportNode(), net), ['ok', 'no network configuration']);
    writeFileSync(join(net, '10-flannel.conflist'), '{"plugins":[{"type":"flannel"},{"type":"portmap"}]}');
    assert.deepEqual(of(await reportNode(), net), ['warning', '10-flannel.conflist (flannel + portmap)']);
    assert.deepEqual(of(await reportNode('20-moat.conflist'), net), [
      'lacking',
      '10-flannel.conflist (flannel + portmap)',
    ]);
  });

  it('is told that loopback is missing, or there', async () => {
    const bin = join(folder, 'bin');
    assert.deepEqual(of(await reportNode(), bin), ['warning', 'no plugin loopback']);
    writeFileSync(join(bin, 'loopback'), '');
    assert.deepEqual(of(await reportNode(), bin), ['ok', 'has loopback']);
  });
});

describe('moat install', () => {
  it('does nothing but to check, and wants to know what', async () => {
    for (const [args, words] of [
      [['install'], /only --check is done here/],
      [['install', '--check'], /name what to look at/],
    ] as const) {
      const { code, out, said } = await moatEnded(args);
      assert.deepEqual([code, out], [2, '']);
      assert.match(said, words);
    }
  });
});
