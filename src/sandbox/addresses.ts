// Addresses that a sandbox can't give to pods, nodes or the outside world: its own, and those that mean something else
// everywhere. A simulation refuses the same ones.
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

/** Throws where an address that is to stand for the outside can't be there, by whatever datapath it is probed. */
export function checkExternals(world: World, externals: readonly Address[]): void {
  const holders = new Map<string, string>();
  for (const pod of world.pods.values()) for (const own of pod.addresses) holders.set(formatAddress(own), pod.key);
  for (const node of world.nodes.values()) {
    for (const own of node.addresses) holders.set(formatAddress(own), `node ${node.name}`);
  }
  const faults = externals.flatMap((address) => {
    const text = formatAddress(address);
    const holder = holders.get(text);
    if (holder !== undefined) return [`${text} is not outside: it belongs to ${holder}`];
    const meaning = WORLD_ADDRESSES.includes(text) ? null : meaningOf(address);
    return meaning === null ? [] : [`${text} is not outside: it ${meaning}`];
  });
  if (faults.length === 0) return;
  throw new SandboxError('external', faults.join('; '), 'name addresses of hosts that are no pod and no node');
}

function checkOne(who: string, address: Address): void {
  const meaning = meaningOf(address);
  if (meaning === null) return;
  const message = `${who} can't have the address ${formatAddress(address)}: it ${meaning}`;
  throw new SandboxError('address', message, 'give it another one in its status, or none');
}

/** What an address that nobody can be given stands for; null for any other. */
function meaningOf(address: Address): string | null {
  const found = RESERVED.find(([block]) => {
    const parsed = parseCidr(block);
    return parsed !== null && cidrContains(parsed.cidr, address);
  });
  return found?.[1] ?? null;
}
