// The one model that carries every dialect. A dialect is a parser into it; nothing after it knows of dialects.
import type { Cidr } from '#net/cidr.ts';
import type { Protocol } from '#net/protocol.ts';
import type { FieldPath } from './object.ts';
import type { LabelSelector } from './selector.ts';

export type Direction = 'egress' | 'ingress';

/** Text that names a rule for people, everywhere: `networkpolicy/shop/allow-web/ingress/0`. */
export type RuleId = string & { readonly __brand: 'RuleId' };

/** Zero of the type is the first: deny. */
export type Action = 'deny' | 'allow' | 'reject' | 'pass';

/**
 * A tier's place on the one axis (policy-model.md §1). Ascending; the default tier is 1 000 000.
 * `end` says what happens, at the end of the tier, to an endpoint and direction that a policy of it isolates.
 */
export type Tier = { readonly name: string; readonly position: number; readonly end: 'deny' | 'none' };

/** NetworkPolicy, Cilium policies, Calico's tier `default`. */
export const DEFAULT_TIER: Tier = { name: 'default', position: 1_000_000, end: 'deny' };

/** Where an object, rule or field came from. */
export type Source = {
  readonly dialect: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly path: FieldPath;
  readonly file: string | null;
  readonly line: number | null;
};

/** Identity of a policy object: `kind/namespace/name`, unique and stable. */
export type PolicyKey = string & { readonly __brand: 'PolicyKey' };

export function policyKey(kind: string, namespace: string, name: string): PolicyKey {
  return `${kind}/${namespace}/${name}` as PolicyKey;
}

/** Which endpoints a policy is about. Never empty by accident: `these` with an empty selector is all of the namespaces. */
export type Subject = {
  readonly namespaces: NamespaceSelector;
  readonly pods: LabelSelector;
};

/** Absent, one by name and by labels are three constructors. */
export type NamespaceSelector =
  | { readonly kind: 'named'; readonly name: string }
  | { readonly kind: 'labelled'; readonly selector: LabelSelector };

/** Who may be at the other end. */
export type Peer =
  | { readonly kind: 'pods'; readonly namespaces: NamespaceSelector; readonly pods: LabelSelector }
  | { readonly kind: 'cidr'; readonly cidr: Cidr; readonly except: readonly Cidr[] };

/** Absent is not empty: `any` matches every peer (pods, nodes, outside), `these: []` matches none. */
export type Peers = { readonly kind: 'any' } | { readonly kind: 'these'; readonly peers: readonly Peer[] };

/** Destination port condition. A named port is resolved on the destination pod, by name and protocol. */
export type Port =
  | { readonly kind: 'range'; readonly protocol: Protocol; readonly first: number; readonly last: number }
  | { readonly kind: 'named'; readonly protocol: Protocol; readonly name: string };

/** `any` matches every protocol, ICMP included; `these: []` matches nothing. */
export type Ports = { readonly kind: 'any' } | { readonly kind: 'these'; readonly ports: readonly Port[] };

export type Rule = {
  readonly id: RuleId;
  readonly action: Action;
  readonly peers: Peers;
  readonly ports: Ports;
  readonly source: Source;
};

/** One policy of any dialect, lowered. */
export type Policy = {
  readonly key: PolicyKey;
  readonly tier: Tier;
  /**
   * Sort key among the policies of a tier; compared as a string, code unit by code unit. For the default tier's
   * union of allows it only decides which rule is *reported*: the first by name.
   */
  readonly order: string;
  readonly subject: Subject;
  /** Directions whose end-of-tier verdict this policy switches on for its subject. */
  readonly isolates: { readonly egress: boolean; readonly ingress: boolean };
  /** Rules in evaluation order. A direction that the policy does not speak about is empty. */
  readonly egress: readonly Rule[];
  readonly ingress: readonly Rule[];
  readonly source: Source;
};

/** So many policies that isolate an endpoint are named; a pod may have ten thousand, and each event names them. */
export const MOST_NAMED = 8;

/** Id of the synthetic rule that stands for an end of tier: names the tier and the first policies that isolate the endpoint. */
export function defaultDenyId(tier: Tier, direction: Direction, isolating: readonly Pick<Policy, 'key'>[]): RuleId {
  const names = isolating.map((policy) => policy.key).sort(compareText);
  const more = names.length > MOST_NAMED ? `+${names.length - MOST_NAMED}-more` : '';
  return `default-deny/${tier.name}/${direction}/${names.slice(0, MOST_NAMED).join('+')}${more}` as RuleId;
}

/** Code-unit order: the same on every machine and locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Order of policies: tier, then order key, then policy key. */
export function comparePolicies(a: Policy, b: Policy): number {
  return a.tier.position - b.tier.position || compareText(a.order, b.order) || compareText(a.key, b.key);
}
