// Kernel settings of a namespace, written from inside it: the defaults differ from machine to machine.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { closeSocket, inNetns, openNetns } from '#kernel/sockets.ts';

/** A container's own /proc/sys is read-only: the chart puts the node's there where it can be written. */
const FOR_CONTAINERS = '/host/proc/sys/net';

export type Setting = readonly [path: string, value: string];

/** Both roles: no duplicate address detection, no router solicitations, no address of the kernel's own making. */
const COMMON: readonly Setting[] = [
  ['ipv6/conf/all/disable_ipv6', '0'],
  ['ipv6/conf/default/disable_ipv6', '0'],
  ['ipv6/conf/default/accept_dad', '0'],
  ['ipv6/conf/default/accept_ra', '0'],
  ['ipv6/conf/default/router_solicitations', '0'],
  ['ipv6/conf/default/addr_gen_mode', '1'],
  ['ipv4/conf/all/rp_filter', '0'],
  ['ipv4/conf/default/rp_filter', '0'],
  ['ipv4/conf/all/proxy_arp', '0'],
  ['ipv4/conf/default/proxy_arp', '0'],
];

/** A node routes between its pods and the fabric. The source check is the datapath's, not rp_filter's. */
export const ROUTER_SETTINGS: readonly Setting[] = [
  ...COMMON,
  ['ipv4/ip_forward', '1'],
  ['ipv6/conf/all/forwarding', '1'],
  ['ipv6/conf/default/forwarding', '1'],
  // Replies about packets that can't be delivered must not be held back while a probe waits for them.
  ['ipv4/icmp_ratelimit', '0'],
];

/** A pod routes nothing. */
export const POD_SETTINGS: readonly Setting[] = [...COMMON, ['ipv4/ip_forward', '0']];

/** Writes settings inside a namespace, which a file stands for. */
export function setSysctls(netns: string, settings: readonly Setting[]): void {
  const handle = openNetns(netns);
  try {
    inNetns(handle, () => writeSettings(settings));
  } finally {
    closeSocket(handle);
  }
}

/** Writes settings of the namespace that the thread is in: /proc/sys/net shows that of the thread that opens the file. */
export function writeSettings(settings: readonly Setting[]): void {
  const folder = existsSync(FOR_CONTAINERS) ? FOR_CONTAINERS : '/proc/sys/net';
  for (const [path, value] of settings) writeFileSync(`${folder}/${path}`, value);
}

/** What a node must have switched on to route for pods of these families, and has not: by the names that sysctl(8) knows. */
export function missingForwarding(families: readonly (4 | 6)[]): readonly string[] {
  const paths = families.map((family) => (family === 4 ? 'ipv4/ip_forward' : 'ipv6/conf/all/forwarding'));
  const off = paths.filter((path) => readFileSync(`/proc/sys/net/${path}`, 'utf8').trim() === '0');
  return off.map((path) => `net.${path.replaceAll('/', '.')}`);
}
