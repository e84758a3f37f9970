// Whether a rule speaks of a connection, and in words why not. Told from the policy itself, for people; verdicts come
// from the Plan (explain.ts holds the two against each other).
import { type Address, formatAddress } from '#net/address.ts';
import { cidrContains, formatCidr } from '#net/cidr.ts';
import { protocolName } from '#net/protocol.ts';
import type { NamespaceSelector, Peer, Port, Rule } from '#policy/model.ts';
import { type LabelSelector, type Labels, type Requirement, selectorMatches } from '#policy/selector.ts';
import type { Flow } from '#policy/verdict.ts';
import { impliedNamespace, type Pod, type Semantics, type World } from '#policy/world.ts';

/** A connection in its world. `pod`s are null for addresses that no pod owns. */
export type Scene = {
  readonly world: World;
  readonly semantics: Semantics;
  readonly flow: Flow;
  readonly destination: Pod | null;
};

/** The end that a rule calls its peer. `inPodBlock`: an address that pods get, though no known pod has it. */
export type PeerEnd = { readonly address: Address; readonly pod: Pod | null; readonly inPodBlock: boolean };

/** Null: it matches. Else the reason why not, a clause for people. */
export type Mismatch = string | null;

/** Where a policy or a rule selects pods. */
type Selection = { readonly namespaces: NamespaceSelector; readonly pods: LabelSelector };

/** True where the selection means this pod. */
export function selectsPod(world: World, selection: Selection, pod: Pod): boolean {
  return namespaceMismatch(world, selection.namespaces, pod) === null && selectorMatches(selection.pods, pod.labels);
}

/** Why the rule does not speak of this connection. */
export function ruleMismatch(scene: Scene, rule: Rule, other: PeerEnd): Mismatch {
  if (countsForUnknown(scene, rule, other)) return null;
  return peersMismatch(scene, rule, other) ?? portsMismatch(scene, rule);
}

/**
 * In doubt closed: towards an address that some pod not yet known may have, each rule that is no allow counts as soon
 * as it could match a pod.
 */
function countsForUnknown(scene: Scene, rule: Rule, other: PeerEnd): boolean {
  if (!other.inPodBlock || rule.action === 'allow') return false;
  return couldBePeer(scene, rule, other) && couldBePort(scene, rule);
}

function couldBePeer(scene: Scene, rule: Rule, other: PeerEnd): boolean {
  const selectsPods = rule.peers.kind === 'these' && rule.peers.peers.some(({ kind }) => kind === 'pods');
  return selectsPods || peersMismatch(scene, rule, other) === null;
}

function couldBePort(scene: Scene, rule: Rule): boolean {
  if (portsMismatch(scene, rule) === null) return true;
  if (scene.destination !== null || rule.ports.kind === 'any') return false;
  return rule.ports.ports.some(({ kind, protocol }) => kind === 'named' && protocol === scene.flow.protocol);
}

/** Why the rule's peers do not hold the other end. Of several peers, each has its reason. */
function peersMismatch(scene: Scene, rule: Rule, other: PeerEnd): Mismatch {
  if (rule.peers.kind === 'any') return null;
  if (rule.peers.peers.length === 0) return 'the rule has an empty list of peers, which nobody is in';
  const reasons: string[] = [];
  for (const peer of rule.peers.peers) {
    const reason = peerMismatch(scene, peer, other);
    if (reason === null) return null;
    reasons.push(reason);
  }
  return [...new Set(reasons)].join('; ');
}

/** Why the rule's ports do not hold the connection's. */
function portsMismatch(scene: Scene, rule: Rule): Mismatch {
  if (rule.ports.kind === 'any') return null;
  if (rule.ports.ports.length === 0) return 'the rule has an empty list of ports';
  if (rule.ports.ports.some((port) => portMatches(scene, port))) return null;
  const wanted = rule.ports.ports.map((port) => portWords(scene, port));
  return `the rule is for ${wanted.join(', ')}`;
}

function peerMismatch(scene: Scene, peer: Peer, other: PeerEnd): Mismatch {
  return peer.kind === 'cidr' ? cidrMismatch(scene, peer, other) : podMismatch(scene.world, peer, other);
}

function cidrMismatch(
  { semantics }: Scene,
  peer: Extract<Peer, { kind: 'cidr' }>,
  { address, pod, inPodBlock }: PeerEnd,
): Mismatch {
  const text = formatAddress(address);
  if ((pod !== null || inPodBlock) && !semantics.ipBlockPods) return `${text} is a pod's, and ipBlock is not for pods`;
  if (!cidrContains(peer.cidr, address)) return `${text} is not in ${formatCidr(peer.cidr)}`;
  const hole = peer.except.find((each) => cidrContains(each, address));
  return hole === undefined ? null : `${text} is in ${formatCidr(hole)}, excepted from ${formatCidr(peer.cidr)}`;
}

function podMismatch(world: World, peer: Selection, { address, pod }: PeerEnd): Mismatch {
  if (pod === null) return `${formatAddress(address)} is no pod`;
  const reason = namespaceMismatch(world, peer.namespaces, pod);
  if (reason !== null) return reason;
  const missed = missedRequirement(peer.pods, pod.labels);
  return missed === null ? null : `pod ${pod.key} ${missed}`;
}

function namespaceMismatch(world: World, selector: NamespaceSelector, pod: Pod): Mismatch {
  if (selector.kind === 'named') {
    return selector.name === pod.namespace ? null : `pod ${pod.key} is not in namespace ${selector.name}`;
  }
  const namespace = world.namespaces.get(pod.namespace) ?? impliedNamespace(pod.namespace);
  const missed = missedRequirement(selector.selector, namespace.labels);
  return missed === null ? null : `namespace ${namespace.name} ${missed}`;
}

/** The first requirement that the labels do not meet, as the end of a sentence. */
function missedRequirement(selector: LabelSelector, labels: Labels): Mismatch {
  const missed = selector.requirements.find((each) => !selectorMatches({ requirements: [each] }, labels));
  if (missed === undefined) return null;
  const value = Object.hasOwn(labels, missed.key) ? labels[missed.key] : undefined;
  const has = value === undefined ? `has no label ${missed.key}` : `has ${missed.key}=${value}`;
  return `${has}, not ${requirementText(missed)}`;
}

function requirementText(requirement: Requirement): string {
  const { key } = requirement;
  switch (requirement.op) {
    case 'In':
      return requirement.values.length === 1
        ? `${key}=${requirement.values[0]}`
        : `${key} in (${requirement.values.join(', ')})`;
    case 'NotIn':
      return `${key} outside (${requirement.values.join(', ')})`;
    case 'Exists':
      return `a label ${key}`;
    case 'DoesNotExist':
      return `without the label ${key}`;
  }
}

function portMatches({ flow, destination }: Scene, port: Port): boolean {
  if (port.protocol !== flow.protocol) return false;
  if (port.kind === 'range') return port.first <= flow.port && flow.port <= port.last;
  return namedPorts(destination, port).includes(flow.port);
}

/** A name may stand for several numbers on one pod. */
function namedPorts(pod: Pod | null, port: Extract<Port, { kind: 'named' }>): readonly number[] {
  const same = pod?.ports.filter(({ name, protocol }) => name === port.name && protocol === port.protocol) ?? [];
  return same.map(({ port: number }) => number);
}

function portWords({ destination }: Scene, port: Port): string {
  const protocol = protocolName(port.protocol);
  if (port.kind === 'named') return namedPortWords(destination, port);
  if (port.first <= 1 && port.last === 65535) return `all ${protocol}`;
  return port.first === port.last ? `${protocol} ${port.first}` : `${protocol} ${port.first}-${port.last}`;
}

function namedPortWords(destination: Pod | null, port: Extract<Port, { kind: 'named' }>): string {
  const name = `${protocolName(port.protocol)} "${port.name}"`;
  if (destination === null) return `${name}, a name that only pods have`;
  const numbers = namedPorts(destination, port);
  return numbers.length === 0
    ? `${name}, which ${destination.key} does not have`
    : `${name} (${numbers.join(', ')} on ${destination.key})`;
}
