// A flow in the form of Hubble's JSON, one line each: what reads flows of others reads these. What that form has no place
// for stands under `moat`.
import type { FlowEvent, NamedRule } from '#agent/protocol.ts';
import { hasPorts, ICMP, ICMPV6, protocolName } from '#net/protocol.ts';
import { type Clocks, timeOf, verdictOf } from './flow-filter.ts';

export function flowJson(event: FlowEvent, clocks: Clocks): string {
  const { node, hook, kind, reason, leg, egress, ingress, count } = event;
  const time = timeOf(event, clocks).toISOString();
  const denied = kind === 'drop' || kind === 'audit';
  const flow = {
    ...{ time, verdict: verdictOf(event).toUpperCase(), Type: 'L3_L4', node_name: node },
    IP: {
      ...{ source: event.source, destination: event.destination },
      ipVersion: event.source.includes(':') ? 'IPv6' : 'IPv4',
    },
    l4: l4Of(event),
    source: endOf(event.sourcePod),
    destination: endOf(event.destinationPod),
    // On one node, the sender's interface is where both legs are judged.
    traffic_direction: (leg ?? (hook === 'from-pod' ? 'egress' : 'ingress')).toUpperCase(),
    ...(kind === 'drop' ? { drop_reason_desc: reason === 'policy' ? 'POLICY_DENIED' : 'DROP_REASON_UNKNOWN' } : {}),
    ...ruleFields('egress', egress, denied && leg === 'egress'),
    ...ruleFields('ingress', ingress, denied && leg === 'ingress'),
  };
  const moat = { kind, reason, leg, count, rules: { egress: egress?.id ?? null, ingress: ingress?.id ?? null } };
  return JSON.stringify({ flow, node_name: node, time, moat });
}

/** That flows were not told. */
export function lostJson(lost: number, dayMs: number): string {
  const lost_events = { source: 'PERF_EVENT_RING_BUFFER', num_events_lost: String(lost) };
  return JSON.stringify({ lost_events, time: new Date(dayMs).toISOString() });
}

function endOf(pod: string | null): object {
  if (pod === null) return { labels: ['reserved:unknown'] };
  const cut = pod.indexOf('/');
  return { namespace: pod.slice(0, cut), pod_name: pod.slice(cut + 1) };
}

function l4Of({ protocol, sourcePort, destinationPort }: FlowEvent): object {
  const name = protocolName(protocol);
  if (hasPorts(protocol)) return { [name]: { source_port: sourcePort, destination_port: destinationPort } };
  const isIcmp = protocol === ICMP || protocol === ICMPV6;
  const key = protocol === ICMP ? 'ICMPv4' : 'ICMPv6';
  return isIcmp ? { [key]: { type: destinationPort >> 8, code: destinationPort & 255 } } : {};
}

/** The policies that a rule comes from: who denied, or who allowed. */
function ruleFields(direction: 'egress' | 'ingress', rule: NamedRule | null, denied: boolean): object {
  if (rule === null || rule.places.length === 0) return {};
  const policies = rule.places.map(({ object }) => {
    const [kind = '', name = ''] = object.split(' ');
    const cut = name.indexOf('/');
    return { kind, namespace: cut < 0 ? '' : name.slice(0, cut), name: name.slice(cut + 1) };
  });
  if (denied) return { [`${direction}_denied_by`]: policies };
  return rule.action === 'allow' ? { [`${direction}_allowed_by`]: policies } : {};
}
