// The naive, obviously right interpreter of policies (docs: policy model): the oracle that every faster path is held to.
// It shares no code with identity/ and compile/, keeps nothing between calls, and prefers plain loops to speed.
import { type Address, formatAddress } from '#net/address.ts';
import { cidrContains } from '#net/cidr.ts';
import {
  comparePolicies,
  type Direction,
  defaultDenyId,
  type NamespaceSelector,
  type Peer,
  type Policy,
  type Port,
  type Rule,
} from './model.ts';
import { selectorMatches } from './selector.ts';
import { combineLegs, type Flow, type FlowVerdict, type LegVerdict } from './verdict.ts';
import { endpointsByAddress, impliedNamespace, type Pod, type Semantics, type World } from './world.ts';

/** The verdict on one connection, both ends, each with the rule that gave it. */
export function evaluate(world: World, flow: Flow, semantics: Semantics): FlowVerdict {
  const endpoints = endpointsByAddress(world);
  const from = endpoints.get(formatAddress(flow.from)) ?? null;
  const to = endpoints.get(formatAddress(flow.to)) ?? null;
  const scene: Scene = { world, flow, semantics, destination: to };
  return combineLegs(
    judge(scene, 'egress', from, { address: flow.to, pod: to }),
    judge(scene, 'ingress', to, { address: flow.from, pod: from }),
  );
}

/** What both legs look at. Named ports are always the destination's, whichever end is judged. */
type Scene = {
  readonly world: World;
  readonly flow: Flow;
  readonly semantics: Semantics;
  readonly destination: Pod | null;
};

/** The other end of a leg. */
type OtherEnd = { readonly address: Address; readonly pod: Pod | null };

/**
 * What an address is. Addresses of hostNetwork pods are their node's; addresses of finished pods are whatever they
 * are without them. `unknown`: in a pod block, but of no pod that is known.
 */
type Standing = 'pod' | 'node' | 'unknown' | 'outside';

function judge(scene: Scene, direction: Direction, subject: Pod | null, other: OtherEnd): LegVerdict {
  if (subject === null) return { verdict: 'allow', rule: null, reason: 'not-endpoint' };
  if (other.pod?.key === subject.key) return { verdict: 'allow', rule: null, reason: 'self' };
  if (direction === 'ingress' && isOwnNode(scene.world, subject, other.address)) {
    return { verdict: 'allow', rule: null, reason: 'own-node' };
  }
  return audit(scene, subject, judgeByTiers(scene, direction, subject, other));
}

/** A verdict, and who gave it: a rule's policy, or all that isolate the endpoint. */
type Decided = { readonly leg: LegVerdict; readonly by: readonly Policy[] };

/** The cluster's audit is of every denial; a namespace's is of those that policies of its own have decided alone. */
function audit({ world, semantics }: Scene, subject: Pod, { leg, by }: Decided): LegVerdict {
  const { mode = 'annotated' } = semantics;
  if (leg.verdict === 'allow' || mode === 'enforce') return leg;
  const isOwn = by.every((policy) => policy.source.namespace === subject.namespace);
  const isAudited = world.namespaces.get(subject.namespace)?.mode === 'audit' && isOwn;
  if (mode !== 'audit' && !isAudited) return leg;
  return { ...leg, verdict: 'allow', audited: leg.verdict };
}

function judgeByTiers(scene: Scene, direction: Direction, subject: Pod, other: OtherEnd): Decided {
  const standing = standingOf(scene.world, other);
  const policies = [...scene.world.policies.values()]
    .filter((policy) => selects(scene.world, policy.subject, subject))
    .sort(comparePolicies);
  for (const tier of tiersOf(policies)) {
    const decided = judgeByRules(scene, rulesOf(tier, direction), { ...other, standing });
    if (decided === 'pass') continue;
    if (decided !== null) return decided;
    const isolating = tier.filter((policy) => policy.isolates[direction]);
    const first = isolating[0];
    if (first === undefined || first.tier.end === 'none') continue;
    const reason = standing === 'unknown' ? 'peer-unknown' : 'default-deny';
    const rule = defaultDenyId(first.tier, direction, isolating);
    return { leg: { verdict: 'deny', rule, reason }, by: isolating };
  }
  return { leg: { verdict: 'allow', rule: null, reason: 'open' }, by: [] };
}

/** Policies that are sorted already, in groups of one tier each. */
function tiersOf(sorted: readonly Policy[]): Policy[][] {
  const tiers: Policy[][] = [];
  for (const policy of sorted) {
    const last = tiers.at(-1);
    if (last !== undefined && last[0]?.tier.position === policy.tier.position) last.push(policy);
    else tiers.push([policy]);
  }
  return tiers;
}

type RuleOf = { readonly policy: Policy; readonly rule: Rule };

function rulesOf(tier: readonly Policy[], direction: Direction): readonly RuleOf[] {
  return tier.flatMap((policy) => policy[direction].map((rule) => ({ policy, rule })));
}

type Judged = OtherEnd & { readonly standing: Standing };

/** First match decides. Null: no rule matches. */
function judgeByRules(scene: Scene, rules: readonly RuleOf[], other: Judged): Decided | 'pass' | null {
  for (const { policy, rule } of rules) {
    const by = [policy];
    if (other.standing === 'unknown' && rule.action !== 'allow') {
      if (!couldMatchSomePod(scene, rule, other)) continue;
      return { leg: { verdict: 'deny', rule: rule.id, reason: 'peer-unknown' }, by };
    } else if (peersMatch(scene, rule, other) && portsMatch(scene, rule)) {
      if (rule.action === 'pass') return 'pass';
      return { leg: { verdict: rule.action, rule: rule.id, reason: 'rule' }, by };
    }
  }
  return null;
}

/**
 * In doubt closed: until the pod behind an unknown address is known, every rule that is no allow counts as a deny
 * where it could match some pod.
 */
function couldMatchSomePod(scene: Scene, rule: Rule, other: Judged): boolean {
  const peers =
    peersMatch(scene, rule, other) ||
    (rule.peers.kind === 'these' && rule.peers.peers.some((peer) => peer.kind === 'pods'));
  const ports =
    portsMatch(scene, rule) ||
    (scene.destination === null &&
      rule.ports.kind === 'these' &&
      rule.ports.ports.some((port) => port.kind === 'named' && port.protocol === scene.flow.protocol));
  return peers && ports;
}

function peersMatch(scene: Scene, rule: Rule, other: Judged): boolean {
  return rule.peers.kind === 'any' || rule.peers.peers.some((peer) => peerMatches(scene, peer, other));
}

function peerMatches(scene: Scene, peer: Peer, other: Judged): boolean {
  if (peer.kind === 'pods') return other.pod !== null && selects(scene.world, peer, other.pod);
  const ofPod = other.standing === 'pod' || other.standing === 'unknown';
  if (ofPod && !scene.semantics.ipBlockPods) return false;
  return cidrContains(peer.cidr, other.address) && !peer.except.some((hole) => cidrContains(hole, other.address));
}

function portsMatch(scene: Scene, rule: Rule): boolean {
  return rule.ports.kind === 'any' || rule.ports.ports.some((port) => portMatches(scene, port));
}

function portMatches({ flow, destination }: Scene, port: Port): boolean {
  if (port.protocol !== flow.protocol) return false;
  if (port.kind === 'range') return port.first <= flow.port && flow.port <= port.last;
  if (destination === null) return false;
  return destination.ports.some(
    ({ name, protocol, port: number }) => name === port.name && protocol === flow.protocol && number === flow.port,
  );
}

/** True where a subject, or a peer by selectors, means this pod. */
function selects(world: World, { namespaces, pods }: Selection, pod: Pod): boolean {
  return namespaceMatches(world, namespaces, pod.namespace) && selectorMatches(pods, pod.labels);
}

type Selection = { readonly namespaces: NamespaceSelector; readonly pods: Parameters<typeof selectorMatches>[0] };

function namespaceMatches(world: World, selector: NamespaceSelector, name: string): boolean {
  if (selector.kind === 'named') return selector.name === name;
  const namespace = world.namespaces.get(name) ?? impliedNamespace(name);
  return selectorMatches(selector.selector, namespace.labels);
}

function isOwnNode(world: World, pod: Pod, address: Address): boolean {
  const node = world.nodes.get(pod.node);
  return node?.addresses.some((own) => formatAddress(own) === formatAddress(address)) ?? false;
}

function standingOf(world: World, { pod, address }: OtherEnd): Standing {
  if (pod !== null) return 'pod';
  const nodes = [...world.nodes.values()];
  const text = formatAddress(address);
  const hosts = [...world.pods.values()].filter((host) => host.hostNetwork && !host.finished);
  if ([...nodes, ...hosts].some((host) => host.addresses.some((own) => formatAddress(own) === text))) return 'node';
  return nodes.some((node) => node.podCidrs.some((block) => cidrContains(block, address))) ? 'unknown' : 'outside';
}
