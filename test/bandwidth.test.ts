// A pod's bandwidth by the standard plugin `bandwidth`, chained behind Moat's: its queues shape what Moat's hooks have let through,
// also what would go past the node's stack without them. Needs root and the reference plugins.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import * as sockets from '#kernel/sockets.ts';
import { policyText } from '#test/support/cluster.ts';
import { CniBed } from '#test/support/cni-bed.ts';
import { cniPlugins, needsPlugins } from '#test/support/needs.ts';
import { accepted, conversation } from '#test/support/talk.ts';

/** Bits a second, and bits at once. */
const [RATE, BURST] = [8_000_000, 800_000];
const MEASURED_MS = 1000;
const SEEN_LIMIT_MS = 15_000;
/** Twice what the rate and the burst are in this time, in bytes: a pod without them gets many times that. */
const SHAPED_BYTES = 2 * ((RATE * MEASURED_MS) / 1000 + BURST) * (1 / 8);
const NAMES = ['web', 'db', 'free'] as const;

describe('bandwidth by the standard plugin (needs root)', needsPlugins, () => {
  let bed: CniBed;
  const added: Record<string, Readonly<Record<string, unknown>>> = {};

  before(async () => {
    bed = new CniBed('rate');
    bed.setPolicies(
      policyText(
        'db',
        'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
      ),
    );
    bed.setPods(NAMES.map((name) => ({ name })));
    await bed.listen();
    await bed.startAgent();
    for (const name of NAMES) {
      const about = { container: name, netns: bed.addNetns(name), pod: name, config: { cniVersion: '1.0.0' } };
      const { exit, output } = await bed.call({ command: 'ADD', ...about });
      assert.ok(exit === 0 && output, JSON.stringify(output));
      added[name] = output;
    }
  });
  after(() => bed.destroy());

  /** As a container runtime calls it behind Moat's plugin, with what a pod's annotations say. */
  function bandwidth(command: string, name: string, rates: Readonly<Record<string, number>>): void {
    const config = {
      ...{ cniVersion: '1.0.0', name: 'pods', type: 'bandwidth', capabilities: { bandwidth: true } },
      ...{ runtimeConfig: { bandwidth: rates }, prevResult: added[name] },
    };
    const env = {
      ...{ PATH: process.env.PATH, CNI_COMMAND: command, CNI_PATH: cniPlugins() ?? '' },
      ...{ CNI_CONTAINERID: name, CNI_NETNS: bed.netns(name), CNI_IFNAME: 'eth0' },
    };
    const args = [`--net=${bed.netns('node')}`, join(cniPlugins() ?? '', 'bandwidth')];
    const { status, stdout } = spawnSync('nsenter', args, { env, input: JSON.stringify(config), encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  }

  const target = (name: string): string => {
    const ips = added[name]?.ips as readonly { readonly address: string }[];
    return ips[0]?.address.split('/')[0] ?? '';
  };

  /** Bytes of one connection that arrive while as many are sent as go. */
  async function carried(from: string, to: string): Promise<number> {
    const { client, server } = conversation(bed.netns(from), bed.netns(to), target(to));
    const [out, back] = [Buffer.alloc(1 << 16), Buffer.alloc(1 << 16)];
    let bytes = 0;
    for (const end = performance.now() + MEASURED_MS; performance.now() < end; await pause(0)) {
      for (let sent = 0; sent < 16; sent++) sockets.sendSocket(client, out, null);
      for (
        let got = sockets.receiveSocket(server, back);
        got.kind === 'done';
        got = sockets.receiveSocket(server, back)
      )
        bytes += got.bytes;
    }
    for (const fd of [client, server]) sockets.closeSocket(fd);
    return bytes;
  }

  /** The agent looks at interfaces' queues every five seconds: until then, packets of a new pod may go past one. */
  async function isShaped(from: string, to: string): Promise<void> {
    let bytes = 0;
    for (const end = performance.now() + SEEN_LIMIT_MS; performance.now() < end; ) {
      bytes = await carried(from, to);
      if (bytes < SHAPED_BYTES) break;
    }
    bytes = Math.max(bytes, await carried(from, to));
    assert.ok(bytes > 0 && bytes < SHAPED_BYTES, `${bytes} bytes`);
  }

  /** A machine with much else to do carries less in some second than a queue would let through. */
  async function isFree(from: string, to: string): Promise<void> {
    let most = 0;
    for (const end = performance.now() + SEEN_LIMIT_MS; performance.now() < end && most < 2 * SHAPED_BYTES; )
      most = Math.max(most, await carried(from, to));
    assert.ok(most > 2 * SHAPED_BYTES, `${most} bytes`);
  }

  it('is as much as there is without it, and policy judges', async () => {
    await isFree('web', 'db');
    assert.equal(accepted(bed.netns('free'), bed.netns('db'), target('db')), false);
  });

  it('is what a pod may receive, within the burst and the rate; policy judges as before', async () => {
    bandwidth('ADD', 'db', { ingressRate: RATE, ingressBurst: BURST });
    await isShaped('web', 'db');
    await isFree('web', 'free');
    assert.equal(accepted(bed.netns('free'), bed.netns('db'), target('db')), false);
  });

  it('is what a pod may send', async () => {
    bandwidth('ADD', 'web', { egressRate: RATE, egressBurst: BURST });
    await isShaped('web', 'free');
    await isFree('db', 'free');
  });

  it('leaves nothing when the plugin and Moat’s are told of the pods’ end', async () => {
    for (const name of ['web', 'db'] as const) {
      bandwidth('DEL', name, {});
      const about = { container: name, netns: bed.netns(name), pod: name, config: { cniVersion: '1.0.0' } };
      assert.equal((await bed.call({ command: 'DEL', ...about })).exit, 0);
    }
    assert.equal(bed.links('bwp').length, 0);
    assert.equal(bed.links().length, 1, 'that of the pod that runs');
  });
});
