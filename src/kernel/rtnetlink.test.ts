// What the kernel is asked to make is there, as iproute2 tells it, and is told back; what it refuses is an error. And what
// it tells is read within its bounds, whatever it says of its own lengths.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { type Address, formatAddress, parseAddress } from '#net/address.ts';
import { needsRoot } from '#test/support/needs.ts';
import { holds } from '#test/support/property.ts';
import { readInterface, readInterfaces } from './interfaces.ts';
import { decodeAnswer, encodeMessage, NetlinkError } from './netlink.ts';
import * as messages from './route-messages.ts';
import { Rtnetlink } from './rtnetlink.ts';
import { enterNetns, interfaceIndex, openNetns } from './sockets.ts';
import { createClsact } from './tc.ts';

const POISON = 0xa5;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const PEER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);

function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed);
  return parsed;
}

it('tells that what is listed became another, whichever part of the list says so', () => {
  const [NEWLINK, DONE, MULTI, INTERRUPTED] = [16, 3, 2, 0x10];
  const part = (kind: number, flags: number): Buffer => encodeMessage({ kind, flags, body: Buffer.alloc(16) });
  const isChanged = (...parts: readonly Buffer[]): boolean =>
    decodeAnswer(Buffer.concat(parts)).some(({ changed }) => changed);
  assert.ok(!isChanged(part(NEWLINK, MULTI), part(DONE, MULTI)));
  assert.ok(isChanged(part(NEWLINK, MULTI), part(DONE, MULTI | INTERRUPTED)));
  // The message that follows the change has the mark; the end need not have it.
  assert.ok(isChanged(part(NEWLINK, MULTI | INTERRUPTED), part(NEWLINK, MULTI), part(DONE, MULTI)));
});

describe('rtnetlink (needs root)', needsRoot, () => {
  const [here, there] = ['here', 'there'].map((name) => `moattest-rtnl-${name}-${process.pid}`) as [string, string];
  let socket: Rtnetlink;
  let index: number;

  const ip = (netns: string, ...args: readonly string[]): readonly Record<string, unknown>[] =>
    JSON.parse(execFileSync('ip', ['-n', netns, '-j', ...args], { encoding: 'utf8' }) || '[]');

  before(() => {
    for (const name of [here, there]) execFileSync('ip', ['netns', 'add', name]);
    enterNetns(`/run/netns/${here}`);
    socket = new Rtnetlink();
    const peer = { name: 'eth0', mac: PEER_MAC, netns: openNetns(`/run/netns/${there}`) };
    socket.change('a veth', [messages.makeVeth({ name: 'veth0', mac: MAC, mtu: 1400, peer })]);
    index = interfaceIndex('veth0');
  });
  after(() => {
    socket.close();
    for (const name of [here, there]) execFileSync('ip', ['netns', 'del', name]);
  });

  it('makes a veth, both ends down, with the peer in another namespace', () => {
    for (const [netns, name, mac] of [
      [here, 'veth0', '02:00:00:00:00:01'],
      [there, 'eth0', '02:00:00:00:00:02'],
    ] as const) {
      const [link] = ip(netns, 'link', 'show', name);
      assert.deepEqual([link?.address, link?.operstate], [mac, 'DOWN']);
    }
  });

  it('raises it, and gives it addresses, neighbours and routes', () => {
    const [own, own6, hop, hop6] = ['10.9.0.1', 'fd09::1', '169.254.1.1', 'fe80::1'].map(address) as [
      ...[Address, Address, Address, Address],
    ];
    socket.change('its addresses', [
      messages.raiseLink(index),
      ...[own, own6].map((each) => messages.addAddress(index, each)),
      ...[hop, hop6].map((each) => messages.setNeighbour(index, each, PEER_MAC)),
      messages.setRoute({
        index,
        destination: { address: address('10.9.0.7'), length: 32 },
        gateway: null,
        source: own,
      }),
      messages.setRoute({ index, destination: { address: address('0.0.0.0'), length: 0 }, gateway: hop, source: own }),
      messages.setRoute({ index, destination: { address: address('::'), length: 0 }, gateway: hop6, source: own6 }),
    ]);
    const [shown] = ip(here, 'address', 'show', 'dev', 'veth0');
    const infos = (shown?.addr_info ?? []) as readonly { local: string; prefixlen: number; nodad?: boolean }[];
    assert.deepEqual(infos.map(({ local, prefixlen }) => `${local}/${prefixlen}`).slice(0, 2), [
      '10.9.0.1/32',
      'fd09::1/128',
    ]);
    const routes = [...ip(here, 'route', 'show', 'dev', 'veth0'), ...ip(here, '-6', 'route', 'show', 'default')];
    assert.deepEqual(
      routes.map(({ dst, gateway, prefsrc, scope }) => ({ dst, gateway, prefsrc, scope })),
      [
        { dst: 'default', gateway: '169.254.1.1', prefsrc: '10.9.0.1', scope: undefined },
        { dst: '10.9.0.7', gateway: undefined, prefsrc: '10.9.0.1', scope: 'link' },
        { dst: 'default', gateway: 'fe80::1', prefsrc: 'fd09::1', scope: undefined },
      ],
    );
    const neighbours = ip(here, 'neigh', 'show', 'dev', 'veth0');
    assert.deepEqual(
      neighbours.map(({ dst, lladdr, state }) => [dst, lladdr, state]).sort(),
      ['169.254.1.1', 'fe80::1'].map((dst) => [dst, '02:00:00:00:00:02', ['PERMANENT']]),
    );
  });

  it('tells of one interface, and of all, as they are', () => {
    createClsact(index);
    const found = readInterface(index);
    const [said] = ip(here, 'link', 'show', 'dev', 'veth0');
    assert.deepEqual(found, {
      other: { index: said?.link_index, netns: said?.link_netnsid },
      ...{ index, name: 'veth0', mac: MAC, mtu: 1400, kind: 'veth', master: 0, ethernet: true, up: true },
      ...{ queue: 'noqueue', queues: ['noqueue', 'clsact'] },
    });
    const all = readInterfaces();
    assert.deepEqual(all.map(({ name }) => name).sort(), ['lo', 'veth0']);
    const listed = all.find(({ name }) => name === 'veth0');
    assert.deepEqual(listed?.addresses.map(formatAddress).slice(0, 2), ['10.9.0.1', 'fd09::1']);
    assert.ok(listed.queues.includes('clsact'));
    execFileSync('ip', ['-n', here, 'link', 'add', 'br0', 'type', 'bridge']);
    execFileSync('ip', ['-n', here, 'link', 'set', 'veth0', 'master', 'br0']);
    assert.equal(readInterface(index)?.master, ip(here, 'link', 'show', 'dev', 'br0')[0]?.ifindex);
    assert.equal(readInterface(99999), null);
    assert.throws(() => readInterface(0), { code: 'EINVAL' }, 'what is refused is not known to be gone');
  });

  it('says what the kernel refuses, and makes the rest', () => {
    const [taken, free] = ['10.9.0.1', '10.9.0.2'].map(address) as [Address, Address];
    const both = [messages.addAddress(index, taken), messages.addAddress(index, free)];
    assert.throws(() => socket.change('two addresses', both), { code: 'EEXIST', message: /^two addresses: / });
    const infos = ip(here, '-4', 'address', 'show', 'dev', 'veth0')[0]?.addr_info as readonly { local: string }[];
    assert.deepEqual(
      infos.map(({ local }) => local),
      ['10.9.0.1', '10.9.0.2'],
    );
  });

  it('takes a link away on another thread; one that is gone is an error', async () => {
    await socket.changeAside('the link', messages.removeLink(index));
    assert.deepEqual(
      ip(there, 'link', 'show').map(({ ifname }) => ifname),
      ['lo'],
    );
    await assert.rejects(socket.changeAside('the link', messages.removeLink(index)), { code: 'ENODEV' });
  });

  it('keeps what it sends until the kernel has read it, though the heap is looked through meanwhile', async () => {
    const kept: Buffer[] = [];
    for (let call = 0; call < 20_000; call++) {
      const answer = socket.changeAside('lo', messages.raiseLink(1));
      // Room that was given back meanwhile is this one's now.
      kept[call % 1000] = Buffer.alloc(32, POISON);
      await answer;
    }
  });

  it('is read within its bounds, and never ends otherwise than by a value or a NetlinkError', (t) => {
    execFileSync('ip', ['-n', here, 'link', 'add', 'veth1', 'type', 'veth', 'peer', 'name', 'veth2']);
    const told = socket.ask([messages.askLink('veth1')])[0]?.told ?? [];
    assert.equal(told.length, 1);
    const whole = Buffer.concat(told.map((each) => encodeMessage({ ...each, flags: 0 })));
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    const property = fc.property(fc.array(change, { maxLength: 6 }), fc.nat(whole.length), (changes, size) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      const read = (poison: number): unknown => {
        const room = Buffer.alloc(whole.length + 4096, poison);
        bytes.copy(room, 0, 0, size);
        try {
          return decodeAnswer(room.subarray(0, size)).map((part) =>
            'errno' in part
              ? part
              : [messages.readLinkRecord(part), messages.readAddressRecord(part), messages.readQueueRecord(part)],
          );
        } catch (error) {
          assert.ok(error instanceof NetlinkError, String(error));
          return error.message;
        }
      };
      assert.deepEqual(read(POISON), read(~POISON & 0xff));
    });
    holds(t, property, 3000);
  });
});
