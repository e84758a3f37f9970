// For tests of the NetworkPolicy dialect: a policy from its spec, and a policy in one readable line.
import assert from 'node:assert/strict';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { type Lowered, lowerNetworkPolicy } from '#dialects/kubernetes/lower.ts';
import { formatCidr } from '#net/cidr.ts';
import { protocolName } from '#net/protocol.ts';
import type { Peers, Policy, Ports, Rule } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';

/** Lowers the policy `shop/web` with this spec, written as YAML flow text. */
export function lowerSpec(spec: string): Lowered {
  const text = `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\n${spec}\n`;
  const { objects, diagnostics } = parseManifest(text, 'web.yaml');
  assert.deepEqual(diagnostics, []);
  const [object] = objects;
  assert.ok(object);
  return lowerNetworkPolicy(object);
}

/** The same policy, lowered. */
export function policyOf(spec: string): Policy {
  const { value } = lowerSpec(spec);
  assert.ok(value);
  return value;
}

/** A policy in short: `ingress deny [rule; rule]`, so that a table can be read. */
export function sayPolicy(policy: Policy): string {
  const directions = (['ingress', 'egress'] as const).map((direction) => {
    const isolated = policy.isolates[direction] ? 'isolates' : 'open';
    return `${direction} ${isolated} [${policy[direction].map(sayRule).join('; ')}]`;
  });
  return [`pods ${saySelector(policy.subject.pods)}`, ...directions].join(', ');
}

function sayRule({ peers, ports }: Rule): string {
  return `${sayPeers(peers)} on ${sayPorts(ports)}`;
}

function sayPeers(peers: Peers): string {
  if (peers.kind === 'any') return 'anyone';
  if (peers.peers.length === 0) return 'nobody';
  const texts = peers.peers.map((peer) => {
    if (peer.kind === 'cidr')
      return [formatCidr(peer.cidr), ...peer.except.map((hole) => `-${formatCidr(hole)}`)].join('');
    const { namespaces } = peer;
    const where = namespaces.kind === 'named' ? namespaces.name : `ns(${saySelector(namespaces.selector)})`;
    return `${where}/${saySelector(peer.pods)}`;
  });
  return texts.join(' | ');
}

function sayPorts(ports: Ports): string {
  if (ports.kind === 'any') return 'anything';
  if (ports.ports.length === 0) return 'nothing';
  const texts = ports.ports.map((port) => {
    const what = port.kind === 'named' ? port.name : `${port.first}-${port.last}`;
    return `${protocolName(port.protocol)} ${what}`;
  });
  return texts.join(' | ');
}

function saySelector({ requirements }: LabelSelector): string {
  if (requirements.length === 0) return '*';
  const texts = requirements.map((requirement) => {
    const values = 'values' in requirement ? `(${requirement.values.join(',')})` : '';
    return `${requirement.key} ${requirement.op}${values}`;
  });
  return texts.join('&');
}
