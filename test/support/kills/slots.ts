// The pods of the kill tests by their numbers, and the ports that are tried between them.
import { type Address, parseAddress } from '#net/address.ts';

export const NODE = 'node-a';
/** Pods that are always there, by their number in the bed. 0 and 1 may always talk on OPEN_PORT, nobody to 2 on SHUT_PORT. */
export const CORE = [0, 1, 2] as const;
/** Pods of this node that come and go. */
export const CHURNING = [3, 4, 5] as const;
export const REMOTE = [6, 7, 8] as const;
export const OPEN_PORT = 7000;
export const SHUT_PORT = 7001;
/** Where 0 and 1 listen for what comes by Services, open between them as OPEN_PORT is: always, and what began at first. */
export const SERVED_PORT = 7002;
export const BEGUN_PORT = 7003;
/** Where 1 listens for who asks from outside of the node, and for the node itself, each by a Service of its own. */
export const OUTER_PORT = 7004;
export const HOST_PORT = 7005;
/** Where datagrams are tried between all pods. The last one is open between 0 and 1: no world denies all that is tried. */
export const TRIED_PORTS = [80, 8080, 65535] as const;

export type Slot = (typeof CORE)[number] | (typeof CHURNING)[number] | (typeof REMOTE)[number];

/** The addresses of a pod, as PodBed gives them out. */
export function addressesOf(slot: number): readonly Address[] {
  return [`10.9.0.${slot + 1}`, `fd09::${slot + 1}`].map(address);
}

/** Throws Error where the text is none. */
export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`not an address: ${text}`);
  return parsed;
}
