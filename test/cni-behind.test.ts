// Beside Flannel: the list that an agent puts in place by itself is run as a container runtime would, plugin after plugin. Real
// plugins, a real agent, real packets. Needs root.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { policyText } from '#test/support/cluster.ts';
import { CniBed } from '#test/support/cni-bed.ts';
import { cniPlugins, KUBERNETES_BIN, needsFlannel } from '#test/support/needs.ts';
import { accepted } from '#test/support/talk.ts';

type Fields = Readonly<Record<string, unknown>>;
const DB_FROM_WEB = policyText(
  'db',
  'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
);
const NAMES = ['web', 'db', 'other'] as const;

describe('beside Flannel, by the list that the agent makes of Flannel’s (needs root)', needsFlannel, () => {
  let bed: CniBed;
  let places: { readonly pluginFolder: string; readonly config: string; readonly behind: string };
  const results: Record<string, Fields> = {};

  before(async () => {
    bed = new CniBed('behind', ['10.244.1.0/24']);
    const [pluginFolder, folder] = [join(bed.folder, 'bin'), join(bed.folder, 'net.d')];
    for (const each of [pluginFolder, folder]) mkdirSync(each);
    places = { pluginFolder, config: join(folder, '05-moat.conflist'), behind: join(folder, '10-flannel.conflist') };
    const subnet =
      'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n';
    writeFileSync(join(bed.folder, 'subnet.env'), subnet);
    // Moat has what its file says, and a folder of our own for what the plugins keep.
    const ours = { subnetFile: join(bed.folder, 'subnet.env'), dataDir: join(bed.folder, 'flannel') };
    const ipam = { dataDir: join(bed.folder, 'ipam') };
    const flannel = { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true }, ...ours, ipam };
    const portmap = { type: 'portmap', capabilities: { portMappings: true } };
    writeFileSync(places.behind, JSON.stringify({ name: 'cbr0', cniVersion: '0.3.1', plugins: [flannel, portmap] }));
    bed.setPolicies(DB_FROM_WEB);
    bed.setPods(NAMES.map((name) => ({ name })));
    await bed.listen();
    await bed.startAgent(null, places);
    assert.ok(await bed.soon(() => existsSync(places.config)));
  });
  after(() => bed.destroy());

  /** The runtime's part: the first file by name, each of its plugins with what the one before said; DEL from the last on. */
  function run(command: 'ADD' | 'DEL', name: string): void {
    const folder = join(bed.folder, 'net.d');
    const [first = ''] = readdirSync(folder)
      .filter((each) => each.endsWith('.conflist'))
      .sort();
    const { plugins, name: network, cniVersion } = JSON.parse(readFileSync(join(folder, first), 'utf8'));
    for (const plugin of command === 'ADD' ? plugins : plugins.toReversed()) {
      const { exit, said } = call(command, name, { ...plugin, name: network, cniVersion, prevResult: results[name] });
      assert.equal(exit, 0, `${plugin.type}: ${said}`);
      if (said !== '') results[name] = JSON.parse(said);
    }
  }

  function call(
    command: string,
    name: string,
    config: Fields,
  ): { readonly exit: number | null; readonly said: string } {
    const folders = [places.pluginFolder, KUBERNETES_BIN, cniPlugins() ?? ''];
    const program = folders.map((each) => join(each, String(config.type))).find((path) => existsSync(path)) ?? '';
    const env = {
      ...{ PATH: process.env.PATH, CNI_COMMAND: command, CNI_PATH: folders.join(':') },
      ...{ CNI_CONTAINERID: name, CNI_NETNS: bed.netns(name), CNI_IFNAME: 'eth0' },
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=${name}`,
    };
    const args = [`--net=${bed.netns('node')}`, program];
    const { status, stdout } = spawnSync('nsenter', args, { env, input: JSON.stringify(config), encoding: 'utf8' });
    return { exit: status, said: stdout.trim() };
  }

  const target = (name: string): string => {
    const ips = results[name]?.ips as readonly { readonly address: string }[];
    return ips[0]?.address.split('/')[0] ?? '';
  };
  const reaches = (from: string, to: string): boolean => accepted(bed.netns(from), bed.netns(to), target(to));

  it('pods have Flannel’s addresses, and their policy from the start', () => {
    for (const name of NAMES) {
      bed.addNetns(name);
      run('ADD', name);
      assert.match(target(name), /^10\.244\.1\./);
    }
    assert.deepEqual([reaches('web', 'db'), reaches('other', 'db'), reaches('other', 'web')], [true, false, true]);
    assert.deepEqual(bed.links(), [], 'no link of Moat’s own');
  });

  it('an agent knows that new pods are given to it, and when they are not', async () => {
    const problem = async (): Promise<string> => {
      const client = await bed.client();
      const status = await client.status();
      client.close();
      return `${status.ready} ${status.problem}`;
    };
    assert.equal(await problem(), 'true null');
    writeFileSync(join(bed.folder, 'net.d/00-other.conflist'), readFileSync(places.behind));
    let found = '';
    for (const end = performance.now() + 3000; performance.now() < end && !found.startsWith('false'); )
      found = await problem();
    assert.match(
      found,
      /^false 00-other.conflist comes before 05-moat.conflist in .*: new pods are given to it, and not to Moat$/,
    );
  });

  it('a pod that is given to Flannel alone, past Moat, is judged by nobody: it is the list that brings policy', () => {
    run('DEL', 'db');
    run('ADD', 'db');
    assert.ok(reaches('other', 'db'));
  });
});
