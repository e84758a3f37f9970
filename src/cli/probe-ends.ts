// Which connections `probe` tries: every pod to every pod, and named outside addresses, on every port asked for.
import {
  DEFAULT_PORT,
  ownPorts,
  type Probe,
  type ProbeEnd,
  probePairs,
  secondFamilyPairs,
} from '#datapath/reference/simulate.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6, protocolName } from '#net/protocol.ts';
import type { Pod, World } from '#policy/world.ts';
import type { PortOption } from './options.ts';

/** An ICMPv6 echo request: type 128, code 0. */
export const ICMPV6_ECHO: number = 128 << 8;

/** Which ports to try: those of the list everywhere, or, where it is null, on each pod those that it declares. */
export type PortChoice = readonly PortOption[] | null;

/** `second`: the same connections by the other family, where both ends have two. */
export type WorldProbes = { readonly primary: readonly Probe[]; readonly second: readonly Probe[] };

/** What to try between the pods of a world. Pods that have finished, or have no address, are left out. */
export function worldProbes(
  world: World,
  options: { readonly ports: PortChoice; readonly external: readonly Address[] },
): WorldProbes {
  const { external, ports } = options;
  const pods = [...world.pods.values()].filter(isThere).map((pod) => podEnd(pod, ports));
  const outside = external.map((address) => ({ name: formatAddress(address), addresses: [address] }));
  const asks = [
    { sources: pods, destinations: [...pods, ...outside], ports: ports ?? [DEFAULT_PORT] },
    { sources: outside, destinations: pods, ports: ports ?? [DEFAULT_PORT] },
  ];
  const primary = asks.flatMap(probePairs);
  const second = asks.flatMap((ask) => secondFamilyPairs(ask, primary));
  return { primary: primary.map(withFamilysIcmp), second: second.map(withFamilysIcmp) };
}

function isThere(pod: Pod): boolean {
  return !pod.finished && pod.addresses.length > 0;
}

/** `80/TCP`, `ICMP`. */
export function portText({ protocol, port }: PortOption): string {
  return protocol === ICMP || protocol === ICMPV6 ? 'ICMP' : `${port}/${protocolName(protocol)}`;
}

function podEnd(pod: Pod, ports: PortChoice): ProbeEnd {
  const end = { name: pod.key, addresses: pod.addresses };
  return ports === null ? { ...end, ports: ownPorts(pod) } : end;
}

/** An echo request is another protocol, and another type, in each family. */
function withFamilysIcmp(probe: Probe): Probe {
  if (probe.flow.protocol !== ICMP || probe.flow.to.family === 4) return probe;
  return { ...probe, flow: { ...probe.flow, protocol: ICMPV6, port: ICMPV6_ECHO } };
}
