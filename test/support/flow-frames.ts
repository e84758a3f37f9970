// A flow of policy as the packets that it would be, and what a datapath's hooks say of them.
import type { Plan, RuleNumber } from '#compile/plan.ts';
import type { Judged, TestPacket } from '#datapath/conformance/harness.ts';
import { icmp, ip, sctp, tcp, udp } from '#datapath/packets.ts';
import type { EndpointLink } from '#datapath/port.ts';
import { type AddressKey, formatAddress } from '#net/address.ts';
import { ICMP, ICMPV6, SCTP, TCP, UDP } from '#net/protocol.ts';
import type { RuleId } from '#policy/model.ts';
import type { Flow } from '#policy/verdict.ts';

/** Interfaces for the pods of a Plan, numbered from 1; a pod's addresses share one. */
export function linksOf(plan: Plan): readonly EndpointLink[] {
  const pods = Map.groupBy(plan.endpoints.values(), (endpoint) => endpoint.pod);
  return [...pods.values()].map((endpoints, index) => ({
    interfaceIndex: index + 1,
    mac: Uint8Array.of(2, 0, 0, 1, index >> 8, index & 255),
    addresses: endpoints.map(({ address }) => address),
  }));
}

/** The interface of an address, or null. */
export function linkOf(links: readonly EndpointLink[], key: AddressKey): EndpointLink | null {
  return links.find((link) => link.addresses.some((address) => formatAddress(address) === key)) ?? null;
}

/** The flow that a first packet can say: protocols without ports have port 0, and an echo is a request. */
export function sayable(flow: Flow): Flow {
  const { family } = flow.from;
  if (flow.protocol === TCP || flow.protocol === UDP || flow.protocol === SCTP) return flow;
  if (flow.protocol !== (family === 4 ? ICMP : ICMPV6)) return { ...flow, port: 0 };
  const request = family === 4 ? 8 : 128;
  return { ...flow, port: (request << 8) | (flow.port & 255) };
}

/** The first packet of a flow, from a port of the caller's choice. */
export function firstFrame(flow: Flow, sport: number, sourceMac: Uint8Array): Uint8Array {
  const spec = { from: flow.from, to: flow.to, sport, dport: flow.port, sourceMac };
  if (flow.protocol === TCP) return tcp(spec);
  if (flow.protocol === UDP) return udp(spec);
  if (flow.protocol === SCTP) return sctp(spec);
  if (flow.protocol !== (flow.from.family === 4 ? ICMP : ICMPV6)) return ip(spec, flow.protocol, new Uint8Array(8));
  const body = Uint8Array.of(sport >> 8, sport & 255, 0, 1);
  return icmp({ ...spec, type: flow.port >> 8, code: flow.port & 255, body });
}

/** Each hook that the first packet of a flow meets on this node, until one drops it. The last word counts. */
export function sendFirst(
  flow: Flow,
  on: { readonly links: readonly EndpointLink[]; readonly inject: (packet: TestPacket) => Judged },
  sport: number,
): readonly Judged[] {
  const source = linkOf(on.links, formatAddress(flow.from));
  const destination = linkOf(on.links, formatAddress(flow.to));
  const frame = firstFrame(flow, sport, source?.mac ?? Uint8Array.of(2, 0, 0, 2, 0, 1));
  const judged: Judged[] = [];
  const places: readonly (readonly [EndpointLink | null, TestPacket['hook']])[] = [
    [source, 'from-pod'],
    [destination, 'to-pod'],
  ];
  for (const [link, hook] of places) {
    if (link === null || judged.at(-1)?.verdict === 'drop') continue;
    const { interfaceIndex } = link;
    const sender = source === null ? 'own-node' : source.interfaceIndex;
    judged.push(on.inject({ interfaceIndex, hook, sender, frame }));
  }
  return judged;
}

/** The id of a rule number; null for none. */
export function ruleId(plan: Plan, rule: RuleNumber | null): RuleId | null {
  return rule === null ? null : (plan.rules.get(rule)?.id ?? null);
}
