// A machine beside the node of the kill tests: it asks for Services at the node's own address.
import { execFileSync } from 'node:child_process';
import { type Address, formatAddress } from '#net/address.ts';
import { address } from './slots.ts';

export const NODE_ADDRESSES: Readonly<Record<4 | 6, Address>> = { 4: address('192.0.2.1'), 6: address('fd00::1') };
export const OUTSIDER: Readonly<Record<4 | 6, Address>> = { 4: address('192.0.2.50'), 6: address('fd00::50') };
const UPLINK = 'u1';

/**
 * Makes it, at an uplink of the node with this prefix, which has the node's addresses from now on: what the node itself sends
 * to `heard`, a pod at the interface `at`, comes from there. Returns its namespace.
 */
export function addOutside(prefix: string, heard: Address, at: string): string {
  const netns = `${prefix}-outside`;
  const ip = (place: string, ...args: readonly string[]): string =>
    execFileSync('ip', ['-n', place, ...args], { encoding: 'utf8' });
  execFileSync('ip', ['netns', 'add', netns]);
  const router = `${prefix}-router`;
  ip(router, 'link', 'add', UPLINK, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
  for (const each of ['192.0.2.1/32', 'fd00::1/128']) ip(router, 'addr', 'del', each, 'dev', 'lo');
  const settle = (place: string, link: string, v4: string, v6: string): void => {
    ip(place, 'addr', 'add', v4, 'dev', link);
    ip(place, 'addr', 'add', v6, 'nodad', 'dev', link);
    ip(place, 'link', 'set', link, 'up');
  };
  settle(router, UPLINK, '192.0.2.1/24', 'fd00::1/64');
  settle(netns, 'eth0', '192.0.2.50/24', 'fd00::50/64');
  ip(router, 'route', 'replace', formatAddress(heard), 'dev', at, 'src', '192.0.2.1');
  ip(netns, 'route', 'add', 'default', 'via', '192.0.2.1');
  ip(netns, '-6', 'route', 'add', 'default', 'via', 'fd00::1');
  return netns;
}

/** Another node's pod there: by an address that the node with this prefix reaches past that machine. */
export function addRemote(prefix: string, at: string): void {
  execFileSync('ip', ['-n', `${prefix}-outside`, 'addr', 'add', `${at}/32`, 'dev', 'lo']);
  execFileSync('ip', ['-n', `${prefix}-router`, 'route', 'add', `${at}/32`, 'via', formatAddress(OUTSIDER[4])]);
}

/** Takes away what `addOutside` made, by what that returned. */
export function removeOutside(netns: string): void {
  execFileSync('ip', ['netns', 'del', netns]);
}
