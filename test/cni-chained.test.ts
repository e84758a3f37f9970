// Moat beside another CNI: the reference bridge plugin makes links and gives addresses, Moat comes behind it and judges. Real
// plugins, a real agent, real packets. Needs root.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import { BRIDGE, ChainBed } from '#test/support/chain-bed.ts';
import { policyText } from '#test/support/cluster.ts';
import { needsFlannel, needsPlugins } from '#test/support/needs.ts';
import { accepted, conversation, talks } from '#test/support/talk.ts';

const DB_FROM_WEB = policyText(
  'db',
  'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
);
const NAMES = ['web', 'db', 'other'] as const;
type Added = Awaited<ReturnType<ChainBed['addBoth']>>;

describe('pods of the bridge plugin (needs root)', needsPlugins, () => {
  let bed: ChainBed;
  const added: Record<string, Added> = {};

  before(async () => {
    // Another block than the bridge's: the API's addresses are not what this node's pods have.
    bed = new ChainBed('chain', BRIDGE, ['10.99.0.0/24', 'fd99::/64']);
    bed.setPolicies(DB_FROM_WEB);
    bed.setPods(['own', 'late', ...NAMES].map((name) => ({ name })));
    await bed.listen();
    await bed.startAgent();
  });
  after(() => bed.destroy());

  const target = (name: string, family: 4 | 6): string =>
    added[name]?.addresses.find((text) => text.includes(':') === (family === 6)) ?? '';
  const reaches = (from: string, to: string, family: 4 | 6 = 4): boolean =>
    accepted(bed.netns(from), bed.netns(to), target(to, family));

  it('have their policy in force when ADD has answered, on one bridge, too; what the other plugin said is passed on', async () => {
    for (const name of NAMES) added[name] = await bed.addBoth(name);
    for (const family of [4, 6] as const) {
      assert.ok(reaches('web', 'db', family), `web, IPv${family}`);
      assert.ok(!reaches('other', 'db', family), `other, IPv${family}`);
      assert.ok(reaches('other', 'web', family), `web takes all, IPv${family}`);
      assert.ok(reaches('node', 'db', family), `the node's own probe, IPv${family}`);
    }
    assert.deepEqual(bed.links(), [], 'no link of Moat’s own');
  });

  it('keep their connections when the agent is killed, and the next agent judges them by itself', async () => {
    const talk = conversation(bed.netns('web'), bed.netns('db'), target('db', 4));
    await bed.killAgent();
    assert.ok(talks(talk) && !reaches('other', 'db'), 'without an agent');
    await bed.startAgent();
    assert.ok(talks(talk) && !reaches('other', 'db') && reaches('web', 'db'), 'with the next agent');
  });

  it('are checked: a result, an address or an end that is not theirs is found', async () => {
    const check = async (result: object = added.web?.result ?? {}): Promise<unknown> => {
      const { exit, output } = await bed.callSecond('CHECK', 'web', 'web', { ...result });
      return exit === 0 ? output : `${output?.code} ${output?.msg}`;
    };
    assert.equal(await check(), null);
    assert.match(String(await check({ ips: [{ address: '10.88.0.99/24' }] })), /^101 .* does not have 10.88.0.99/);
    bed.ip('web', `address del ${target('web', 6)}/64 dev eth0`);
    assert.match(String(await check()), /^101 eth0 .* lacks fd88:/);
    bed.ip('web', `address add ${target('web', 6)}/64 dev eth0 nodad`);
    assert.equal((await bed.callSecond('CHECK', 'node', 'web')).output?.code, 3);
  });

  it('reach a pod of the node by a route, too, while nobody else is on their bridge', async () => {
    const [v4 = ''] = await ownPod(bed);
    const routed = (): boolean => accepted(bed.netns('web'), bed.netns('own'), v4);
    assert.ok(routed());
    // Somebody who could send in any pod's name.
    bed.ip('node', 'link add stranger type veth peer name stranger-end');
    bed.ip('node', 'link set stranger master cni0');
    assert.ok(await bed.soon(() => !routed()));
    const client = await bed.client();
    assert.match(String((await client.status()).problem), /has ports that are no pods of Moat's \(stranger\)/);
    assert.ok(reaches('web', 'db'), 'what stays on the bridge tells its port');
    bed.ip('node', 'link del stranger');
    assert.ok(await bed.soon(routed));
    assert.equal((await client.status()).problem, null);
    client.close();
    assert.equal((await bed.call({ command: 'DEL', container: 'own', config: { chained: false } })).exit, 0);
  });

  it('say nothing more once DEL was answered, though their link is there', async () => {
    const talk = conversation(bed.netns('other'), bed.netns('web'), target('web', 4));
    for (const _ of [1, 2]) {
      assert.deepEqual(await bed.callSecond('DEL', 'other', 'other', added.other?.result), { exit: 0, output: null });
    }
    assert.ok(!bed.attachments().some((file) => file.startsWith('other')));
    assert.equal(bed.links('veth').length, 3, 'the link is not Moat’s to take');
    assert.ok(!talks(talk) && !reaches('other', 'web'));
    bed.callFirst('DEL', 'other', added.other?.result);
    assert.ok(await bed.soon(() => bed.hooks().length === 4), 'pins go with the interface');
  });

  it('leave no claim where their link goes without a DEL: the address is the next one’s', async () => {
    bed.callFirst('DEL', 'db', added.db?.result);
    assert.ok(await bed.soon(() => !bed.attachments().some((file) => file.startsWith('db'))));
    await bed.killAgent();
    bed.callFirst('DEL', 'web', added.web?.result);
    await bed.startAgent();
    assert.ok(await bed.soon(() => bed.attachments().length === 0 && bed.hooks().length === 0));
  });

  it('get through, with the hooks taken off: it is the hooks that deny', async () => {
    for (const name of ['db', 'other'] as const) {
      bed.remake(name);
      added[name] = await bed.addBoth(name);
    }
    assert.ok(!reaches('other', 'db'));
    await bed.detachHooks('veth');
    assert.ok(reaches('other', 'db'));
  });
});

/** A pod whose link Moat makes, beside those of the bridge. */
async function ownPod(bed: ChainBed): Promise<readonly string[]> {
  const config = { chained: false, cniVersion: '1.0.0' };
  const result = await bed.call({ command: 'ADD', container: 'own', netns: bed.addNetns('own'), pod: 'own', config });
  assert.ok(result.exit === 0 && result.output, JSON.stringify(result.output));
  return (result.output.ips as readonly { readonly address: string }[]).map(
    ({ address }) => address.split('/')[0] ?? '',
  );
}

/** The plugin's part of the list that comes with Flannel, and what flanneld writes for it on a node. */
function flannel(folder: string): Readonly<Record<string, unknown>> {
  const subnetFile = join(folder, 'subnet.env');
  const facts = { NETWORK: '10.244.0.0/16', SUBNET: '10.244.1.1/24', MTU: '1450', IPMASQ: 'true' };
  const lines = Object.entries(facts).map(([name, value]) => `FLANNEL_${name}=${value}\n`);
  writeFileSync(subnetFile, lines.join(''));
  return {
    ...{ type: 'flannel', name: 'cbr0', cniVersion: '0.3.1', delegate: { hairpinMode: true, isDefaultGateway: true } },
    ...{ subnetFile, dataDir: join(folder, 'flannel') },
  };
}

test(
  'what Flannel’s plugin has made is judged, and nothing that is others’ is touched (needs root)',
  needsFlannel,
  async (t) => {
    const bed = new ChainBed('flannel', flannel, ['10.244.1.0/24']);
    t.after(() => bed.destroy());
    bed.setPolicies(DB_FROM_WEB);
    bed.setPods(NAMES.map((name) => ({ name })));
    await bed.listen();
    // Others route and give addresses: this is none of Moat's business here.
    bed.sysctl('net/ipv4/ip_forward', '0');
    await bed.startAgent();
    const first = Object.fromEntries(NAMES.map((name) => [name, bed.addFirst(name)]));
    const before = bed.others();
    assert.match(before, /cni0: .* mtu 1450/);
    for (const name of NAMES) {
      const { exit, output } = await bed.callSecond('ADD', name, name, first[name]);
      assert.deepEqual([exit, output], [0, first[name]], 'passed on as it was');
    }
    const { ips } = first.db as { readonly ips: readonly { readonly address: string }[] };
    const target = ips[0]?.address.split('/')[0] ?? '';
    assert.match(target, /^10\.244\.1\./);
    const reaches = (from: string): boolean => accepted(bed.netns(from), bed.netns('db'), target);
    assert.deepEqual([reaches('web'), reaches('other'), reaches('node')], [true, false, true]);
    assert.equal(bed.others(), before);
    assert.equal((await bed.callSecond('DEL', 'web', 'web', first.web)).exit, 0);
    assert.equal(bed.others(), before);
    assert.deepEqual([reaches('web'), reaches('node')], [false, true]);
    await bed.detachHooks('veth');
    assert.ok(reaches('other'), 'it is the hooks that deny');
    for (const name of NAMES) bed.callFirst('DEL', name, first[name]);
    assert.deepEqual(bed.links('veth'), [], 'Flannel’s own DEL still finds what is its own');
  },
);

test(
  'what is not as it should be is refused, with its code, and the link stays closed or unknown (needs root)',
  needsPlugins,
  async (t) => {
    const bed = new ChainBed('chainbad', BRIDGE);
    t.after(() => bed.destroy());
    bed.setPods(NAMES.map((name) => ({ name })));
    await bed.listen();
    await bed.startAgent();
    const result = bed.addFirst('web');
    const [sandbox, ips] = [bed.netns('web'), result.ips as readonly object[]];
    const refused = async (prevResult: object | undefined, config: object = {}): Promise<string> => {
      const own = { cniVersion: '1.0.0', ...(prevResult === undefined ? {} : { prevResult }), ...config };
      const { exit, output } = await bed.call({
        command: 'ADD',
        container: 'web',
        netns: sandbox,
        pod: 'web',
        config: own,
      });
      assert.equal(exit, 1, JSON.stringify(output));
      return `${output?.code} ${output?.msg}`;
    };
    assert.match(await refused(undefined), /^7 'chained' is true, and there is no prevResult/);
    assert.match(await refused(result, { chained: false }), /^7 prevResult is set/);
    assert.match(await refused(result, { chained: 'yes' }), /^7 'chained' is "yes"/);
    assert.match(await refused({ ...result, ips: 'all' }), /^7 prevResult has no list of ips/);
    assert.match(await refused({ ...result, ips: [] }), /^7 prevResult has no address of eth0/);
    assert.match(
      await refused({ ...result, ips: [{ ...ips[0], interface: 0 }] }),
      /^7 prevResult has no address of eth0/,
    );
    assert.match(await refused({ ...result, ips: [{ address: '10.88.0/24' }] }), /^7 prevResult has the address/);
    assert.match(await refused({ ...result, ips: [{ address: '10.88.0.77/24' }] }), /^100 eth0 .* lacks 10.88.0.77/);
    const second = await bed.addBoth('db');
    const stolen = String((second.result.ips as readonly { readonly address: string }[])[0]?.address);
    bed.ip('web', `address add ${stolen} dev eth0`);
    assert.match(
      await refused({ ...result, ips: [{ address: stolen }] }),
      /^100 .* is the address of db@eth0, whose link/,
    );
    // Nothing on the node's side to put hooks on, though it is called so.
    bed.ip('web', 'link del eth0');
    bed.ip('web', 'link add eth0 type veth peer name eth1');
    bed.ip('web', 'address add 10.88.0.2/24 dev eth0');
    assert.match(await refused({ ips: [{ address: '10.88.0.2/24' }] }), /^100 .* has its other end somewhere else/);
    bed.ip('web', 'link del eth0');
    bed.ip('web', 'link add eth0 type bridge');
    bed.ip('web', 'address add 10.88.0.2/24 dev eth0');
    assert.match(await refused({ ips: [{ address: '10.88.0.2/24' }] }), /^100 .* is no veth \(bridge\)/);
    assert.deepEqual(bed.attachments(), ['db@eth0.json']);
  },
);
