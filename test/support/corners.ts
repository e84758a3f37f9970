// Which odd corners of the semantics a case reaches, so that a random test can show what it has tried.
import { type Address, formatAddress } from '#net/address.ts';
import { cidrContains } from '#net/cidr.ts';
import { ICMP, SCTP } from '#net/protocol.ts';
import type { Peer, Policy, Rule, RuleId } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';
import type { Flow, FlowVerdict, LegVerdict } from '#policy/verdict.ts';
import { endpointsByAddress, type Mode, type Pod, type World } from '#policy/world.ts';

/** One judged flow, with what it takes to say why. */
type Case = {
  readonly world: World;
  readonly flow: Flow;
  readonly verdict: FlowVerdict;
  readonly legs: readonly LegVerdict[];
  readonly rules: readonly Rule[];
  readonly policies: readonly Policy[];
  readonly endpoints: ReadonlyMap<string, Pod>;
};

const CORNERS: Readonly<Record<string, (one: Case) => boolean>> = {
  'decided by a rule': ({ rules }) => rules.length > 0,
  'default deny': ({ legs }) => legs.some((leg) => leg.reason === 'default-deny'),
  'open: nothing isolates': ({ legs }) => legs.some((leg) => leg.reason === 'open'),
  'a pod to itself': ({ legs }) => legs.some((leg) => leg.reason === 'self'),
  'from its own node': ({ legs }) => legs.some((leg) => leg.reason === 'own-node'),
  'unknown peer, default deny': ({ legs }) =>
    legs.some((leg) => leg.reason === 'peer-unknown' && leg.rule?.startsWith('default-deny')),
  'unknown peer allowed by CIDR or any': (one) => isUnknown(one) && one.legs.some((leg) => leg.reason === 'rule'),
  'IPv6, decided by a rule': ({ flow, rules }) => flow.from.family === 6 && rules.length > 0,
  'a rule for any peer': ({ rules }) => rules.some((rule) => rule.peers.kind === 'any'),
  'a rule for any port, ICMP or another protocol': ({ flow, rules }) =>
    (flow.protocol === ICMP || flow.protocol === 47) && rules.some((rule) => rule.ports.kind === 'any'),
  'SCTP by a rule for ports': ({ flow, rules }) =>
    flow.protocol === SCTP && rules.some((rule) => rule.ports.kind === 'these'),
  'a port range (endPort)': ({ rules }) => rules.some((rule) => rangesOf(rule).some(([first, last]) => first < last)),
  'overlapping ranges in one rule': ({ rules }) => rules.some(hasOverlap),
  'a named port': ({ rules }) => rules.some((rule) => hasNamedPort(rule)),
  'a name with several numbers': ({ rules, flow, endpoints }) =>
    rules.some(hasNamedPort) && hasTwoNumbers(endpoints.get(formatAddress(flow.to))),
  'a CIDR peer': ({ rules }) => rules.some((rule) => cidrsOf(rule).length > 0),
  'a CIDR peer that is a pod': (one) => isPodByCidr(one),
  '0.0.0.0/0': ({ rules, flow }) => flow.from.family === 4 && rules.some((rule) => hasLength(rule, 4, 0)),
  '::/0': ({ rules, flow }) => flow.from.family === 6 && rules.some((rule) => hasLength(rule, 6, 0)),
  '/32 or /128': ({ rules }) => rules.some((rule) => hasLength(rule, 4, 32) || hasLength(rule, 6, 128)),
  'an address in an exception': (one) => one.policies.some((policy) => rulesOf(policy).some((r) => isExcepted(r, one))),
  'peers: empty list': ({ policies }) => policies.some((policy) => rulesOf(policy).some(hasNoPeers)),
  'ports: empty list': ({ policies }) => policies.some((policy) => rulesOf(policy).some(hasNoPorts)),
  'NotIn in a deciding peer': ({ rules }) => rules.some((rule) => hasOperator(rule, 'NotIn')),
  'DoesNotExist in a deciding peer': ({ rules }) => rules.some((rule) => hasOperator(rule, 'DoesNotExist')),
  'a hostNetwork pod as peer': ({ world, flow }) => hasPodAt(world, flow, (pod) => pod.hostNetwork && !pod.finished),
  'an address of a finished pod': ({ world, flow }) => hasPodAt(world, flow, (pod) => pod.finished),
  'an address that two pods claim': ({ world, flow }) => claims(world, flow.to) > 1 || claims(world, flow.from) > 1,
  'a dual-stack pod': ({ endpoints, flow }) =>
    new Set(endpoints.get(formatAddress(flow.to))?.addresses.map((address) => address.family)).size > 1,
  'passes by its namespace’s audit': ({ world, flow, endpoints, legs }) =>
    legs[1]?.audited !== undefined && modeAt(world, endpoints, flow.to) === 'audit',
  'passes by the cluster’s audit alone': ({ world, flow, endpoints, legs }) =>
    legs[1]?.audited !== undefined && modeAt(world, endpoints, flow.to) !== 'audit',
  'a namespace that nobody declared': ({ world, flow, endpoints }) => {
    const pod = endpoints.get(formatAddress(flow.to));
    return pod !== undefined && !world.namespaces.has(pod.namespace);
  },
};

function modeAt(world: World, endpoints: Case['endpoints'], address: Address): Mode | undefined {
  return world.namespaces.get(endpoints.get(formatAddress(address))?.namespace ?? '')?.mode;
}

/** Corners that only policies with other actions than allow, or of other tiers, reach. */
const TIERED: Readonly<Record<string, (one: Case) => boolean>> = {
  'deny rule': ({ rules }) => rules.some((rule) => rule.action === 'deny'),
  'denied by the cluster’s policy in an audited namespace': ({ world, flow, endpoints, legs }) =>
    legs[1]?.verdict === 'deny' && modeAt(world, endpoints, flow.to) === 'audit',
  'reject rule': ({ legs }) => legs.some((leg) => leg.verdict === 'reject'),
  'a tier with a pass, decided later': ({ policies, legs }) =>
    legs.some((leg) => leg.rule !== null) && policies.some((p) => rulesOf(p).some((rule) => rule.action === 'pass')),
  'unknown peer, denied by a rule that could match a pod': ({ legs, rules }) =>
    rules.length > 0 && legs.some((leg) => leg.reason === 'peer-unknown' && !leg.rule?.startsWith('default-deny')),
};

/** Counts which corners cases reach. */
export class Coverage {
  readonly #counts = new Map<string, number>();
  readonly #corners: readonly (readonly [string, (one: Case) => boolean])[];
  #cases = 0;

  constructor(kind: 'network' | 'tiered') {
    this.#corners = Object.entries(kind === 'network' ? CORNERS : { ...CORNERS, ...TIERED });
  }

  get cases(): number {
    return this.#cases;
  }

  add(world: World, judged: readonly { readonly flow: Flow; readonly verdict: FlowVerdict }[]): void {
    const policies = [...world.policies.values()];
    const byId = new Map<RuleId, Rule>(policies.flatMap(rulesOf).map((rule) => [rule.id, rule]));
    const endpoints = endpointsByAddress(world);
    for (const { flow, verdict } of judged) {
      const legs = [verdict.egress, verdict.ingress];
      const rules = legs.flatMap((leg) => (leg.rule === null ? [] : (byId.get(leg.rule) ?? [])));
      this.#count({ world, flow, verdict, legs, rules, policies, endpoints });
    }
  }

  /** One line a corner: the share of cases that reached it. */
  table(): string[] {
    return this.#corners.map(([name]) => {
      const share = ((this.#counts.get(name) ?? 0) / this.#cases) * 100;
      return `${share.toFixed(2).padStart(6)} %  ${name}`;
    });
  }

  /** Corners that no case reached. */
  missed(): string[] {
    return this.#corners.map(([name]) => name).filter((name) => !this.#counts.has(name));
  }

  #count(one: Case): void {
    this.#cases++;
    for (const [name, reaches] of this.#corners) {
      if (reaches(one)) this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    }
  }
}

function rulesOf(policy: Policy): readonly Rule[] {
  return [...policy.egress, ...policy.ingress];
}

function rangesOf(rule: Rule): (readonly [number, number, number])[] {
  if (rule.ports.kind === 'any') return [];
  return rule.ports.ports.flatMap((port) => (port.kind === 'range' ? [[port.first, port.last, port.protocol]] : []));
}

function hasOverlap(rule: Rule): boolean {
  const ranges = rangesOf(rule);
  return ranges.some((a, i) => ranges.some((b, j) => i < j && a[2] === b[2] && a[0] <= b[1] && b[0] <= a[1]));
}

function hasNamedPort(rule: Rule): boolean {
  return rule.ports.kind === 'these' && rule.ports.ports.some((port) => port.kind === 'named');
}

function hasTwoNumbers(pod: Pod | undefined): boolean {
  const ports = pod?.ports ?? [];
  return ports.some((a) => ports.some((b) => a.name === b.name && a.protocol === b.protocol && a.port !== b.port));
}

function peersOf(rule: Rule): readonly Peer[] {
  return rule.peers.kind === 'any' ? [] : rule.peers.peers;
}

function cidrsOf(rule: Rule): (Peer & { kind: 'cidr' })[] {
  return peersOf(rule).filter((peer) => peer.kind === 'cidr');
}

function hasLength(rule: Rule, family: 4 | 6, length: number): boolean {
  return cidrsOf(rule).some(({ cidr }) => cidr.address.family === family && cidr.length === length);
}

function isExcepted(rule: Rule, { flow }: Case): boolean {
  return cidrsOf(rule).some((peer) =>
    peer.except.some((hole) => cidrContains(hole, flow.from) || cidrContains(hole, flow.to)),
  );
}

function hasNoPeers(rule: Rule): boolean {
  return rule.peers.kind === 'these' && rule.peers.peers.length === 0;
}

function hasNoPorts(rule: Rule): boolean {
  return rule.ports.kind === 'these' && rule.ports.ports.length === 0;
}

function hasOperator(rule: Rule, op: string): boolean {
  const has = (selector: LabelSelector): boolean => selector.requirements.some((one) => one.op === op);
  return peersOf(rule).some((peer) => {
    if (peer.kind === 'cidr') return false;
    return has(peer.pods) || (peer.namespaces.kind === 'labelled' && has(peer.namespaces.selector));
  });
}

function isPodByCidr({ rules, flow, endpoints }: Case): boolean {
  const both = endpoints.has(formatAddress(flow.from)) && endpoints.has(formatAddress(flow.to));
  return both && rules.some((rule) => peersOf(rule).length > 0 && cidrsOf(rule).length === peersOf(rule).length);
}

function isUnknown({ world, flow, endpoints }: Case): boolean {
  const hosts = [...world.nodes.values(), ...[...world.pods.values()].filter((pod) => pod.hostNetwork)];
  const isHost = (address: Address): boolean =>
    hosts.some((host) => host.addresses.some((own) => formatAddress(own) === formatAddress(address)));
  const isIn = (address: Address): boolean =>
    [...world.nodes.values()].some((node) => node.podCidrs.some((block) => cidrContains(block, address)));
  return [flow.from, flow.to].some((address) => {
    return !endpoints.has(formatAddress(address)) && !isHost(address) && isIn(address);
  });
}

function hasPodAt(world: World, flow: Flow, test: (pod: Pod) => boolean): boolean {
  const keys = [formatAddress(flow.from), formatAddress(flow.to)];
  return [...world.pods.values()].some(
    (pod) => test(pod) && pod.addresses.some((address) => keys.includes(formatAddress(address))),
  );
}

function claims(world: World, address: Address): number {
  const key = formatAddress(address);
  return [...world.pods.values()].filter((pod) => {
    return !pod.hostNetwork && !pod.finished && pod.addresses.some((own) => formatAddress(own) === key);
  }).length;
}
