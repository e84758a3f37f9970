// Pods of two nodes that are not in one subnet: agents keep the routes, packets go by VXLAN through a router that knows no pod.
// A third node is in the subnet of the first. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import * as sockets from '#kernel/sockets.ts';
import { removePodNetwork } from '#network/pod-network.ts';
import { ROUTER_SETTINGS, setSysctls } from '#network/sysctl.ts';
import { policyText } from '#test/support/cluster.ts';
import { CniBed, nodeOf } from '#test/support/cni-bed.ts';
import { needsRoot } from '#test/support/needs.ts';
import type { Place } from '#test/support/node-bed.ts';
import { address } from '#test/support/pod-bed.ts';
import { accepted, allAccepted } from '#test/support/talk.ts';

const ONE: Place = { node: 'one', addresses: ['198.51.100.1', 'fd51:1::1'], uplink: true };
const TWO: Place = { node: 'two', addresses: ['198.51.100.129', 'fd51:2::1'], uplink: true };
const NEAR: Place = { node: 'near', addresses: ['198.51.100.3', 'fd51:1::3'], uplink: true };
const BLOCKS = {
  one: ['10.88.0.0/24', 'fd88::/64'],
  two: ['10.89.0.0/24', 'fd89::/64'],
  near: ['10.90.0.0/24', 'fd90::/64'],
};
const NODES = [nodeOf(ONE, BLOCKS.one), nodeOf(TWO, BLOCKS.two), nodeOf(NEAR, BLOCKS.near)] as const;
const NETWORK = { routes: 'auto', masquerade: true } as const;
const DB_FROM_WEB = policyText(
  'db',
  'podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
);
/** The router's ends; nothing but its neighbours is known to it. */
const GATEWAYS = { one: ['198.51.100.62', 'fd51:1::ff'], two: ['198.51.100.190', 'fd51:2::ff'] };
const FOREIGN = 'route add 203.0.113.0/24 via 198.51.100.62 proto static';

describe('pods of nodes that are in different subnets (needs root)', needsRoot, () => {
  let one: CniBed;
  let two: CniBed;
  const at: Record<string, readonly string[]> = {};

  before(async () => {
    [one, two] = [new CniBed('net1', BLOCKS.one, ONE), new CniBed('net2', BLOCKS.two, TWO)];
    setSysctls(one.addNetns('router'), ROUTER_SETTINGS);
    one.ip('router', 'link set lo up');
    for (const [bed, gateways] of [
      [one, GATEWAYS.one],
      [two, GATEWAYS.two],
    ] as const) {
      const name = `to-${bed.place.node}`;
      execFileSync(
        'ip',
        `link add ${name} netns ${one.prefix}-router type veth peer eth0 netns ${bed.prefix}-node`.split(' '),
      );
      connect(bed, 'node', 'eth0', bed.place.addresses);
      connect(one, 'router', name, gateways);
      for (const via of gateways) bed.ip('node', `route add default via ${via} dev eth0`);
    }
    one.ip('node', FOREIGN);
    for (const bed of [one, two]) {
      bed.setNodes(...NODES);
      bed.setPolicies(DB_FROM_WEB);
    }
    setPods();
    await Promise.all([one.listen(), two.listen()]);
    await Promise.all([one.startAgent(NETWORK), two.startAgent(NETWORK)]);
    for (const name of ['web', 'other']) at[name] = await one.add(`c-${name}`, one.addNetns(name), name);
    at.db = await two.add('c-db', two.addNetns('db'), 'db');
    setPods();
  });
  after(async () => {
    await one.destroy();
    await two.destroy();
  });

  function setPods(): void {
    for (const bed of [one, two]) bed.setPods(pods());
  }

  const pods = (): Parameters<CniBed['setPods']>[0] =>
    ['web', 'other', 'db'].map((name) => {
      return { name, node: name === 'db' ? 'two' : 'one', addresses: at[name] ?? [] };
    });

  /** Own routes of node one to where the text begins so; by their links. */
  const linksTo = (start: string): readonly string[] =>
    one
      .ip('node', 'route show proto 109')
      .concat(one.ip('node', '-6 route show proto 109'))
      .split('\n')
      .filter((line) => line !== '' && line.startsWith(start))
      .map((line) => / dev (\S+)/.exec(line)?.[1] ?? '');

  const reaches = (from: string): boolean[] =>
    (at.db ?? []).map((target) => accepted(one.netns(from), two.netns('db'), target));

  it('reach each other by VXLAN, in both families, with their own addresses, as the policy says', async () => {
    assert.deepEqual([...linksTo('10.89.'), ...linksTo('fd89:')], ['vxlan.moat', 'vxlan.moat']);
    assert.ok(await one.soon(() => reaches('web').every(Boolean)), 'web is let in');
    assert.deepEqual(reaches('other'), [false, false]);
    const router = one.ip('router', 'route show table all').concat(one.ip('router', '-6 route show table all'));
    assert.doesNotMatch(router, /10\.8|fd8/);
  });

  it('keep their addresses where a pod of a third node claims them by its status', async () => {
    const client = await two.client();
    const { revision } = await client.status();
    // Of two pods that claim an address, the first by name would have it.
    two.setPods([...pods(), { name: 'aaa', node: 'near', addresses: at.web ?? [] }]);
    assert.ok(await two.soon(async () => (await client.status()).revision > revision));
    client.close();
    assert.deepEqual(reaches('web'), [true, true]);
    setPods();
  });

  it('are on links that carry as much as the tunnel', () => {
    assert.match(one.ip('web', 'link show eth0'), / mtu 1450 /);
    assert.match(one.ip('node', 'link show vxlan.moat'), / mtu 1450 /);
  });

  it('are reached directly where the other node is in the subnet', () => {
    assert.deepEqual([...linksTo('10.90.'), ...linksTo('fd90:')], ['eth0', 'eth0']);
    assert.match(one.ip('node', 'route show 10.90.0.0/24'), /via 198\.51\.100\.3 .*src 198\.51\.100\.1/);
  });

  it('speak to the node beyond the tunnel and are spoken to, though the router knows no pod', async () => {
    const tries = TWO.addresses.map((target) => ({
      from: one.netns('other'),
      to: two.netns('node'),
      target,
      wanted: true,
    }));
    assert.deepEqual(await allAccepted(tries), [true, true]);
    const back = (at.other ?? []).map((target) => ({
      from: two.netns('node'),
      to: one.netns('other'),
      target,
      wanted: true,
    }));
    assert.deepEqual(await allAccepted(back), [true, true]);
  });

  it('leave the cluster in their node’s name, and without the table they do not come back', async () => {
    const tries = GATEWAYS.two.map((target) => ({
      from: one.netns('other'),
      to: one.netns('router'),
      target,
      wanted: true,
    }));
    assert.deepEqual(await allAccepted(tries), [true, true]);
    nft(one, 'delete chain inet moat out');
    assert.deepEqual(await allAccepted(tries.map((each) => ({ ...each, wanted: false }))), [false, false]);
    // Whoever changes the table finds it put back.
    assert.ok(await one.soon(() => nft(one, 'list table inet moat').includes('masquerade fully-random')));
    assert.deepEqual(await allAccepted(tries), [true, true]);
  });

  it('can’t speak through a node’s end of the tunnel as somebody else, and could without the table', async () => {
    const receiver = inside(two.netns('db'), () => sockets.openSocket(4, 'datagram'));
    sockets.bindSocket(receiver, address(at.db?.[0] ?? ''), 9000);
    const heard = (): boolean => sockets.receiveSocket(receiver, Buffer.alloc(100)).kind === 'done';
    // As web, who is let in.
    const forge = (to: CniBed, target: string): void => {
      const frame = vxlan(to, udp(at.web?.[0] ?? '', at.db?.[0] ?? '', 9000));
      const sender = inside(one.netns('other'), () => sockets.openSocket(4, 'datagram'));
      sockets.sendSocket(sender, frame, { address: address(target), port: 4789 });
      sockets.closeSocket(sender);
    };
    const arrives = (to: CniBed, target: string, limitMs: number, ...without: Chain[]): Promise<boolean> =>
      two.soon(() => {
        for (const [bed, chain] of without) nft(bed, `flush chain inet moat ${chain}`);
        forge(to, target);
        return heard();
      }, limitMs);
    const [here = '', there = ''] = [one, two].map(({ place }) => place.addresses[0]);
    // The API does not know this address of the other node: what goes there has the own node's.
    const unknown = '198.51.100.140';
    two.ip('node', `addr add ${unknown}/26 dev eth0`);
    for (const [to, target] of [
      [one, here],
      [two, there],
      [two, unknown],
    ] as const) {
      assert.ok(!(await arrives(to, target, 500)), target);
    }
    // The other node takes none from a pod, though the own one would let it pass.
    assert.ok(!(await arrives(two, there, 500, [one, 'tunnel_forward'])));
    assert.ok(await arrives(one, here, 15_000, [one, 'tunnel_in']), 'to the own node: the frame was a good one');
    assert.ok(await arrives(two, unknown, 15_000, [one, 'tunnel_forward']), 'in the own node’s name');
    assert.ok(await arrives(two, there, 15_000, [one, 'tunnel_forward'], [two, 'tunnel_in']), 'to the other');
    sockets.closeSocket(receiver);
  });

  it('have no host port at the tunnel’s end: who was given it would hear the others, and does without the table', async () => {
    const pod = at.db?.[0] ?? '';
    const rule = `udp dport 4789 fib daddr type local dnat to ${pod}:4789`;
    nft(two, `add table ip portmap; add chain ip portmap in { type nat hook prerouting priority dstnat; }`);
    nft(two, `add rule ip portmap in ${rule}`);
    try {
      assert.deepEqual(reaches('web'), [true, true]);
      nft(two, 'flush chain inet moat tunnel_end');
      assert.deepEqual(reaches('web'), [false, false]);
    } finally {
      nft(two, 'delete table ip portmap');
    }
    assert.ok(await two.soon(() => nft(two, 'list table inet moat').includes('notrack')), 'it is put back');
    assert.ok(await one.soon(() => reaches('web').every(Boolean)));
  });

  it('have routes again that somebody took away, or that went with a link or an agent; nobody else’s are touched', async () => {
    const all = (): number => linksTo('').length;
    const count = all();
    one.ip('node', 'route flush proto 109');
    assert.ok(await one.soon(() => all() === count), 'flushed');
    one.ip('node', 'link set eth0 down');
    one.ip('node', 'link set eth0 up');
    one.ip('node', 'addr replace fd51:1::1/64 dev eth0 nodad');
    for (const via of GATEWAYS.one) one.ip('node', `route replace default via ${via} dev eth0`);
    one.ip('node', FOREIGN);
    assert.ok(await one.soon(() => all() === count), 'a link that went down');
    one.ip('node', 'link del vxlan.moat');
    assert.ok(await one.soon(() => all() === count && reaches('web').every(Boolean)), 'the tunnel');
    await one.killAgent();
    one.ip('node', 'route add 10.99.0.0/24 via 198.51.100.3 proto 109 metric 10900');
    one.ip('node', 'route flush 10.89.0.0/24');
    await one.startAgent(NETWORK);
    assert.ok(await one.soon(() => all() === count), 'an agent that was killed');
    assert.deepEqual(linksTo('10.99.'), []);
    assert.match(one.ip('node', 'route show 203.0.113.0/24'), /proto static/);
    assert.ok(reaches('web').every(Boolean));
  });

  it('have no routes to nodes that are gone, nor to blocks that lead others’ traffic away', async () => {
    const greedy = nodeOf({ ...NEAR, node: 'greedy' }, ['198.51.0.0/16', '10.88.0.128/25', '10.91.0.0/24']);
    one.setNodes(NODES[0], NODES[1], greedy);
    assert.ok(await one.soon(() => linksTo('10.91.').length === 1 && linksTo('10.90.').length === 0));
    assert.deepEqual([...linksTo('198.51.'), ...linksTo('10.88.')], []);
    const client = await one.client();
    const said = async (text: string): Promise<boolean> => ((await client.status()).problem ?? '').includes(text);
    const [overlap, greed] = [
      '10.88.0.128/25 of node greedy gets no route: it overlaps with a podCIDR of node one',
      '198.51.0.0/16 of node greedy gets no route: a node has an address in it',
    ];
    assert.ok(await one.soon(async () => (await said(overlap)) && (await said(greed))));
    client.close();
    one.setNodes(...NODES);
    assert.ok(await one.soon(() => linksTo('10.91.').length === 0 && linksTo('10.90.').length === 1));
  });

  it('get the MTU of the uplink as it is when they come', async () => {
    one.ip('node', 'link set eth0 mtu 1400');
    assert.ok(await one.soon(() => one.ip('node', 'link show vxlan.moat').includes(' mtu 1350 ')));
    one.ip('node', 'link set eth0 mtu 1500');
    assert.ok(await one.soon(() => one.ip('node', 'link show vxlan.moat').includes(' mtu 1450 ')));
  });

  it('are let through once the hooks are off: it is the hooks that deny', async () => {
    assert.deepEqual(reaches('other'), [false, false]);
    await one.detachHooks();
    await two.detachHooks();
    assert.deepEqual(reaches('other'), [true, true]);
  });

  it('leave nothing of the network behind when it is removed, and what is others’', async () => {
    await one.killAgent();
    const netns = sockets.openNetns(one.netns('node'));
    nft(one, 'add table inet others');
    await sockets.inNetns(netns, () => removePodNetwork());
    sockets.closeSocket(netns);
    assert.deepEqual(linksTo(''), []);
    assert.doesNotMatch(
      one.ip('node', 'link show').concat(one.ip('node', 'rule show'), one.ip('node', '-6 rule show')),
      /vxlan|10900/,
    );
    assert.equal(nft(one, 'list tables').trim(), 'table inet others');
    assert.match(one.ip('node', 'route show 203.0.113.0/24'), /proto static/);
  });
});

/** One of the table's chains, on a node. */
type Chain = readonly [bed: CniBed, chain: string];

function connect(bed: CniBed, netns: string, name: string, addresses: readonly string[]): void {
  for (const each of addresses)
    bed.ip(
      netns,
      `addr add ${each}/${each.includes(':') ? '64' : '26'} dev ${name}${each.includes(':') ? ' nodad' : ''}`,
    );
  bed.ip(netns, `link set ${name} up`);
}

function nft(bed: CniBed, command: string): string {
  return execFileSync('ip', ['netns', 'exec', `${bed.prefix}-node`, 'nft', ...command.split(' ')], {
    encoding: 'utf8',
  });
}

function inside<T>(netns: string, work: () => T): T {
  const handle = sockets.openNetns(netns);
  try {
    return sockets.inNetns(handle, work);
  } finally {
    sockets.closeSocket(handle);
  }
}

/** A frame for a node's end of the tunnel, as VXLAN carries it (RFC 7348, section 5). */
function vxlan(bed: CniBed, packet: Buffer): Buffer {
  const [link] = JSON.parse(bed.ip('node', '-json link show vxlan.moat')) as readonly { readonly address: string }[];
  const mac = Buffer.from(link?.address.replaceAll(':', '') ?? '', 'hex');
  const header = Buffer.from([0x08, 0, 0, 0, 0x6d, 0x6f, 0x61, 0]);
  return Buffer.concat([header, mac, Buffer.from('020000000001', 'hex'), Buffer.from([0x08, 0x00]), packet]);
}

/** An IPv4 packet of UDP without payload checksum (RFC 768 lets it be 0). */
function udp(from: string, to: string, port: number): Buffer {
  const packet = Buffer.alloc(36);
  packet.set([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17]);
  for (const [index, text] of [from, to].entries()) packet.writeUInt32BE(address(text).words[0] ?? 0, 12 + index * 4);
  let sum = 0;
  for (let place = 0; place < 20; place += 2) sum += packet.readUInt16BE(place);
  packet.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
  packet.writeUInt16BE(9000, 20);
  packet.writeUInt16BE(port, 22);
  packet.writeUInt16BE(16, 24);
  packet.write('as web..', 28);
  return packet;
}
