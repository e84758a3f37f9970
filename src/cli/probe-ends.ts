// Which connections `probe` tries: every pod to every pod, and named outside addresses, on every port asked for.
import { type Probe, type ProbeEnd, probePairs } from '#datapath/reference/simulate.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6, protocolName, TCP } from '#net/protocol.ts';
import type { Policy } from '#policy/model.ts';
import { isEndpoint, type Pod, type World } from '#policy/world.ts';
import type { PortOption } from './options.ts';

/** An ICMPv6 echo request: type 128, code 0. */
export const ICMPV6_ECHO: number = 128 << 8;
const DEFAULT_PORT: PortOption = { protocol: TCP, port: 80 };

/** What to try between the pods of a world. Pods without an address, finished, or with their node's, are left out. */
export function worldProbes(
  world: World,
  options: { readonly ports: readonly PortOption[]; readonly external: readonly Address[] },
): readonly Probe[] {
  const pods = [...world.pods.values()].filter(isEndpoint).map(podEnd);
  const outside = options.external.map((address) => ({ name: formatAddress(address), addresses: [address] }));
  const among = (sources: readonly ProbeEnd[], destinations: readonly ProbeEnd[]): readonly Probe[] =>
    probePairs({ sources, destinations, ports: options.ports });
  return [...among(pods, [...pods, ...outside]), ...among(outside, pods)].map(withFamilysIcmp);
}

/** Ports that the input itself speaks of: named by policies, or declared with a name by pods. TCP 80 if there is none. */
export function portsOfInterest(world: World): readonly PortOption[] {
  const found = new Map<string, PortOption>();
  const add = (port: PortOption): unknown => found.set(`${port.protocol}/${port.port}`, port);
  for (const pod of world.pods.values()) for (const { protocol, port } of pod.ports) add({ protocol, port });
  for (const policy of world.policies.values()) for (const port of policyPorts(policy)) add(port);
  if (found.size === 0) return [DEFAULT_PORT];
  return [...found.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port);
}

/** `80/TCP`, `ICMP`. */
export function portText({ protocol, port }: PortOption): string {
  return protocol === ICMP || protocol === ICMPV6 ? 'ICMP' : `${port}/${protocolName(protocol)}`;
}

function policyPorts(policy: Policy): readonly PortOption[] {
  return [...policy.egress, ...policy.ingress].flatMap(({ ports }) =>
    ports.kind === 'any'
      ? []
      : ports.ports.flatMap((port) =>
          port.kind === 'range' && port.first > 0 ? [{ protocol: port.protocol, port: port.first }] : [],
        ),
  );
}

function podEnd(pod: Pod): ProbeEnd {
  return { name: pod.key, addresses: pod.addresses };
}

/** An echo request is another protocol, and another type, in each family. */
function withFamilysIcmp(probe: Probe): Probe {
  if (probe.flow.protocol !== ICMP || probe.flow.to.family === 4) return probe;
  return { ...probe, flow: { ...probe.flow, protocol: ICMPV6, port: ICMPV6_ECHO } };
}
