// Addresses that can't be given out are refused by name.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildWorld } from '#cluster/world/build.ts';
import type { SourceObject } from '#policy/object.ts';
import { checkAddresses } from './addresses.ts';

function pod(name: string, ip: string): SourceObject {
  const content = {
    metadata: { name, namespace: 'shop' },
    spec: { nodeName: 'one', containers: [{ name: 'main' }] },
    status: { podIP: ip, phase: 'Running' },
  };
  return { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name, content, origin: null };
}

function node(ip: string): SourceObject {
  const content = { metadata: { name: 'two' }, status: { addresses: [{ type: 'InternalIP', address: ip }] } };
  return { apiVersion: 'v1', kind: 'Node', namespace: '', name: 'two', content, origin: null };
}

function check(name: string, objects: readonly SourceObject[], refusal: RegExp | null): void {
  test(name, () => {
    const { world } = buildWorld(objects);
    if (refusal === null) checkAddresses(world);
    else assert.throws(() => checkAddresses(world), refusal);
  });
}

check('any ordinary address will do', [pod('a', '8.8.8.8'), pod('b', 'fd00::1'), pod('c', '100.64.0.1')], null);
check('a loopback address is refused', [pod('a', '127.0.0.1')], /pod shop\/a .* 127\.0\.0\.1: it is a loopback/);
check('a multicast address is refused', [pod('a', '239.1.1.1')], /no address of one host/);
check('a gateway of the sandbox is refused', [pod('a', '169.254.1.1')], /link-local/);
check('the gateway of the other family too', [pod('a', 'fe80::1')], /link-local/);
check('an address of the outside world is refused', [pod('a', '192.0.2.1')], /outside world/);
check('a node’s address is looked at as well', [node('127.0.0.1')], /node two can't have the address 127/);
