// Policies as engines of rule lists see them: selectors resolved to addresses, ready to be written down as sets.
import { formatAddress } from '#net/address.ts';
import { formatCidr } from '#net/cidr.ts';
import { comparePolicies, type NamespaceSelector, type Peer, type Policy, type Rule } from '#policy/model.ts';
import { type LabelSelector, selectorMatches } from '#policy/selector.ts';
import { impliedNamespace, isEndpoint, type Pod, type World } from '#policy/world.ts';

type PodSelection = { readonly namespaces: NamespaceSelector; readonly pods: LabelSelector };

/** A selector, by its own text, and the addresses that it means. */
export type Members = { readonly key: string; readonly addresses: readonly string[] };

/** `tcp` or `udp`; both ends included. */
export type PortRange = { readonly protocol: 'tcp' | 'udp'; readonly first: number; readonly last: number };

export type ListedRule = {
  readonly members: readonly Members[];
  readonly blocks: readonly string[];
  readonly ports: readonly PortRange[];
};

export type ListedPolicy = {
  readonly name: string;
  /** Its own pods, of all nodes. */
  readonly targets: Members;
  readonly ingress: readonly ListedRule[];
  readonly egress: readonly ListedRule[];
};

/** A pod of the node that rules are made for. */
export type LocalPod = { readonly key: string; readonly address: string; readonly interfaceName: string };

/**
 * The policies that select some of these pods, in their order. Only what the bench's worlds use is known: policies that
 * isolate both directions and select all these pods alike, allow rules with peers, port ranges. Throws on anything else.
 */
export function listPolicies(world: World, pods: readonly Pod[]): readonly ListedPolicy[] {
  const resolver = new Resolver(world);
  return [...world.policies.values()].sort(comparePolicies).flatMap((policy) => {
    const targets = resolver.members(policy.subject);
    const selected = pods.filter(({ addresses: [own] }) => own !== undefined && targets.has(formatAddress(own)));
    if (selected.length === 0) return [];
    if (selected.length < pods.length || !(policy.isolates.egress && policy.isolates.ingress)) {
      throw new Error(`${policy.key} does not isolate all measured pods in both directions`);
    }
    return [listed(policy, resolver)];
  });
}

function listed(policy: Policy, resolver: Resolver): ListedPolicy {
  const rules = (list: readonly Rule[]): readonly ListedRule[] => list.map((rule) => listedRule(rule, resolver));
  const targets = resolver.membersOf(policy.subject);
  return { name: policy.key, targets, ingress: rules(policy.ingress), egress: rules(policy.egress) };
}

function listedRule({ id, action, peers, ports }: Rule, resolver: Resolver): ListedRule {
  if (action !== 'allow' || peers.kind === 'any' || ports.kind === 'any') throw new Error(`${id} is of another kind`);
  return {
    members: peers.peers.flatMap((peer) => (peer.kind === 'pods' ? [resolver.membersOf(peer)] : [])),
    blocks: peers.peers.flatMap((peer) => (peer.kind === 'cidr' ? [blockOf(peer)] : [])),
    ports: ports.ports.map((port) => {
      if (port.kind === 'named') throw new Error(`${id} has a named port`);
      return { protocol: port.protocol === 6 ? 'tcp' : 'udp', first: port.first, last: port.last };
    }),
  };
}

function blockOf(peer: Extract<Peer, { kind: 'cidr' }>): string {
  if (peer.except.length > 0) throw new Error('a block with exceptions');
  return formatCidr(peer.cidr);
}

/** Selectors to addresses, each selector once. */
class Resolver {
  readonly #world: World;
  readonly #byNamespace: ReadonlyMap<string, readonly Pod[]>;
  readonly #known: Map<string, Members & { readonly set: ReadonlySet<string> }> = new Map();

  constructor(world: World) {
    this.#world = world;
    this.#byNamespace = Map.groupBy([...world.pods.values()].filter(isEndpoint), (pod) => pod.namespace);
  }

  members(selection: PodSelection): ReadonlySet<string> {
    return this.#resolve(selection).set;
  }

  membersOf(selection: PodSelection): Members {
    return this.#resolve(selection);
  }

  #resolve({ namespaces, pods }: PodSelection): Members & { readonly set: ReadonlySet<string> } {
    const key = JSON.stringify([namespaces, pods]);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const candidates = [...this.#byNamespace].filter(([name]) => this.#namespaceMatches(namespaces, name));
    const found = candidates.flatMap(([, all]) => all.filter((pod) => selectorMatches(pods, pod.labels)));
    const addresses = found.flatMap((pod) => pod.addresses.map(formatAddress));
    const members = { key, addresses, set: new Set<string>(addresses) };
    this.#known.set(key, members);
    return members;
  }

  #namespaceMatches(selector: NamespaceSelector, name: string): boolean {
    if (selector.kind === 'named') return selector.name === name;
    return selectorMatches(selector.selector, (this.#world.namespaces.get(name) ?? impliedNamespace(name)).labels);
  }
}
