// Addresses that a sandbox can't give to pods or nodes: its own, and those that mean something else everywhere.
import { type Address, formatAddress } from '#net/address.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { isEndpoint, type World } from '#policy/world.ts';
import { SandboxError } from './error.ts';

/** The outside world has these from the start. */
export const WORLD_ADDRESSES: readonly string[] = ['192.0.2.1', '2001:db8::1'];

const RESERVED: readonly (readonly [block: string, meaning: string])[] = [
  ['0.0.0.0/8', 'means this network'],
  ['127.0.0.0/8', 'is a loopback address'],
  ['169.254.0.0/16', 'is link-local, where the sandbox has its gateways'],
  ['224.0.0.0/3', 'is no address of one host'],
  ['192.0.2.1/32', 'belongs to the outside world'],
  ['::/127', 'is no address of one host'],
  ['::ffff:0:0/96', 'is an IPv4 address in IPv6 clothes'],
  ['fe80::/10', 'is link-local, where the sandbox has its gateways'],
  ['ff00::/8', 'is no address of one host'],
  ['2001:db8::1/128', 'belongs to the outside world'],
];

/** Throws where a pod or node has an address that it can't have here. Before anything is changed. */
export function checkAddresses(world: World): void {
  for (const node of world.nodes.values()) {
    for (const address of node.addresses) checkOne(`node ${node.name}`, address);
  }
  for (const pod of world.pods.values()) {
    if (!isEndpoint(pod)) continue;
    for (const address of pod.addresses) checkOne(`pod ${pod.key}`, address);
  }
}

function checkOne(who: string, address: Address): void {
  const found = RESERVED.find(([block]) => {
    const parsed = parseCidr(block);
    return parsed !== null && cidrContains(parsed.cidr, address);
  });
  if (found === undefined) return;
  const message = `${who} can't have the address ${formatAddress(address)}: it ${found[1]}`;
  throw new SandboxError('address', message, 'give it another one in its status, or none');
}
