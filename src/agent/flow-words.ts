// A flow in words: who speaks to whom, what became of it, and by which rule.
import { hasPorts, ICMP, ICMPV6, protocolName } from '#net/protocol.ts';
import type { FlowEvent, NamedRule } from './protocol.ts';

/** `shop/web:34567 → shop/db:5432/TCP dropped: policy (ingress) by NetworkPolicy shop/db spec`. */
export function flowWords(event: FlowEvent): string {
  const { protocol, sourcePort, destinationPort, count } = event;
  const from = end(event.sourcePod ?? event.source, hasPorts(protocol) ? `:${sourcePort}` : '');
  const to = end(event.destinationPod ?? event.destination, portText(protocol, destinationPort));
  const times = count > 1 ? ` (${count} times)` : '';
  return `${from} → ${to} ${verdictText(event)}${ruleText(event)}${times}`;
}

/** The rule of the leg that denied; of a flow that goes, the one of its destination where it was judged there. */
export function decidingRule({ leg, egress, ingress }: FlowEvent): NamedRule | null {
  if (leg === 'egress') return egress;
  return leg === 'ingress' ? ingress : (ingress ?? egress);
}

/** Where the rule stands: `NetworkPolicy shop/db spec`; its id where it has no one place. */
export function ruleWords({ places, id }: NamedRule): string {
  const [place] = places;
  return place === undefined ? id : `${place.object} ${place.path}`.trim();
}

function end(name: string, port: string): string {
  return `${name.includes(':') && port.startsWith(':') ? `[${name}]` : name}${port}`;
}

function portText(protocol: number, port: number): string {
  if (hasPorts(protocol)) return `:${port}/${protocolName(protocol)}`;
  const isIcmp = protocol === ICMP || protocol === ICMPV6;
  return isIcmp ? ` ${protocolName(protocol)} type ${port >> 8} code ${port & 255}` : ` ${protocolName(protocol)}`;
}

function verdictText({ kind, reason, leg }: FlowEvent): string {
  if (kind === 'new') return 'forwarded';
  if (kind === 'close') return 'ended';
  if (kind === 'audit') return `would be dropped: ${reason}${leg === null ? '' : ` (${leg})`}`;
  return `dropped: ${reason}${leg === null ? '' : ` (${leg})`}`;
}

function ruleText(event: FlowEvent): string {
  const rule = decidingRule(event);
  return rule === null || event.kind === 'close' ? '' : ` by ${ruleWords(rule)}`;
}
