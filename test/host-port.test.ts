// Ports of the node that the standard plugin `portmap` leads to a pod, chained behind Moat's: policy sees the pod's address and the
// client's. With a client outside, pods of the node, and the node itself. Needs root and the reference plugins.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as sockets from '#kernel/sockets.ts';
import { formatAddress } from '#net/address.ts';
import { policyText } from '#test/support/cluster.ts';
import { CniBed } from '#test/support/cni-bed.ts';
import { cniPlugins, needsPlugins } from '#test/support/needs.ts';
import type { Place } from '#test/support/node-bed.ts';
import { address, waitFor } from '#test/support/pod-bed.ts';

const NODE: Place = { node: 'one', addresses: ['198.51.100.1', 'fd51::1'], uplink: true };
const OUTSIDE = ['198.51.100.9', 'fd51::9'] as const;
const [HOST_PORT, PORT] = [18_080, 8080];
/** What is to come has so long; what comes all the same, though it should not, is there within a moment. */
const PATIENCE_MS = 1500;
const MOMENT_MS = 300;

/** Who may speak to the pod web: addresses outside, or pods by their label. */
function webFrom(peer: string): string {
  return policyText('web', `podSelector: {matchLabels: {app: web}}\ningress: [{from: [${peer}]}]`);
}

describe('a host port by the plugin portmap (needs root)', needsPlugins, () => {
  let bed: CniBed;
  let result: Readonly<Record<string, unknown>> | null = null;
  let own: readonly string[] = [];

  before(async () => {
    bed = new CniBed('port', undefined, NODE);
    bed.addNetns('outside');
    const link = `link add eth0 netns ${bed.prefix}-node type veth peer eth0 netns ${bed.prefix}-outside`;
    execFileSync('ip', link.split(' '));
    for (const [netns, addresses] of [
      ['node', NODE.addresses],
      ['outside', OUTSIDE],
    ] as const) {
      for (const each of addresses)
        bed.ip(netns, `addr add ${each}${each.includes(':') ? '/64 nodad' : '/24'} dev eth0`);
      bed.ip(netns, 'link set eth0 up');
      bed.ip(netns, 'link set lo up');
    }
    bed.setPods([{ name: 'web' }, { name: 'other' }]);
    await bed.listen();
    await bed.startAgent({ routes: 'auto', masquerade: true });
    await bed.add('c-other', bed.addNetns('other'), 'other');
    const about = { container: 'c-web', netns: bed.addNetns('web'), pod: 'web', config: { cniVersion: '1.0.0' } };
    const added = await bed.call({ command: 'ADD', ...about });
    assert.equal(added.exit, 0, JSON.stringify(added.output));
    result = added.output;
    const ips = result?.ips as readonly { readonly address: string }[] | undefined;
    own = (ips ?? []).map((ip) => ip.address.split('/')[0] ?? '');
    portmap('ADD');
  });
  after(() => bed.destroy());

  /** As a container runtime calls it behind Moat's plugin, with what that said. */
  function portmap(command: string): void {
    const config = {
      ...{ cniVersion: '1.0.0', name: 'pods', type: 'portmap', capabilities: { portMappings: true } },
      runtimeConfig: { portMappings: [{ hostPort: HOST_PORT, containerPort: PORT, protocol: 'tcp' }] },
      prevResult: result,
    };
    const env = {
      ...{ PATH: process.env.PATH, CNI_COMMAND: command, CNI_PATH: cniPlugins() ?? '' },
      ...{ CNI_CONTAINERID: 'c-web', CNI_NETNS: bed.netns('web'), CNI_IFNAME: 'eth0' },
    };
    const args = [`--net=${bed.netns('node')}`, join(cniPlugins() ?? '', 'portmap')];
    const { status, stdout } = spawnSync('nsenter', args, { env, input: JSON.stringify(config), encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  }

  /** Whom the pod sees when a namespace asks the node's port; null where nothing comes. */
  function caller(from: string, target: string, patienceMs: number): string | null {
    const goal = address(target);
    const listener = within(bed.netns('web'), () => sockets.openSocket(goal.family, 'stream'));
    sockets.reuseAddress(listener);
    sockets.bindSocket(listener, address(own.find((text) => address(text).family === goal.family) ?? ''), PORT);
    sockets.listenSocket(listener, 1);
    const client = within(bed.netns(from), () => sockets.openSocket(goal.family, 'stream'));
    sockets.connectSocket(client, goal, HOST_PORT);
    let server: number | null = null;
    waitFor(() => {
      server ??= sockets.acceptSocket(listener);
      return server !== null;
    }, patienceMs);
    const seen = server === null ? null : sockets.peerOf(server);
    for (const fd of [listener, client, server]) if (fd !== null) sockets.closeSocket(fd);
    return seen && formatAddress(seen.address);
  }

  const callers = (from: string, patienceMs = PATIENCE_MS): readonly (string | null)[] =>
    NODE.addresses.map((target) => caller(from, target, patienceMs));

  async function becomes(from: string, wanted: readonly (string | null)[], policies: string): Promise<void> {
    bed.setPolicies(policies);
    let found: readonly (string | null)[] = [];
    await bed.soon(() => {
      found = callers(from, wanted.includes(null) ? MOMENT_MS : PATIENCE_MS);
      return JSON.stringify(found) === JSON.stringify(wanted);
    });
    assert.deepEqual(found, wanted);
  }

  it('leads to the pod, which sees who asks: from outside, and from a pod of the node', () => {
    assert.deepEqual(callers('outside'), OUTSIDE);
    assert.deepEqual(callers('other'), ['10.88.0.2', 'fd88::2']);
    assert.deepEqual(callers('node'), NODE.addresses);
    // It answers itself by the node, as portmap makes it.
    assert.deepEqual(callers('web'), NODE.addresses);
  });

  it('is for whom the pod’s policy lets in by the client’s address, and nobody else', async () => {
    const cidrs = (v4: string, v6: string): string => webFrom(`{ipBlock: {cidr: ${v4}}}, {ipBlock: {cidr: "${v6}"}}`);
    await becomes('outside', [null, null], cidrs('198.51.100.1/32', 'fd51::1/128'));
    await becomes('outside', OUTSIDE, cidrs(`${OUTSIDE[0]}/32`, `${OUTSIDE[1]}/128`));
    assert.deepEqual(callers('other', MOMENT_MS), [null, null]);
    await becomes('other', ['10.88.0.2', 'fd88::2'], webFrom('{podSelector: {matchLabels: {app: other}}}'));
    assert.deepEqual(callers('outside', MOMENT_MS), [null, null]);
  });

  it('is open to all with the hooks off: it is the hooks that deny', async () => {
    await becomes('outside', [null, null], webFrom('{podSelector: {matchLabels: {app: nobody}}}'));
    await bed.detachHooks();
    assert.deepEqual(callers('outside'), OUTSIDE);
  });

  it('is closed again when the plugin is told of the pod’s end', () => {
    portmap('DEL');
    assert.deepEqual(callers('outside', MOMENT_MS), [null, null]);
  });
});

function within<T>(netns: string, work: () => T): T {
  const handle = sockets.openNetns(netns);
  try {
    return sockets.inNetns(handle, work);
  } finally {
    sockets.closeSocket(handle);
  }
}
