// The world that policies are judged in: namespaces, nodes, pods, services; and the events that change it.
import type { Address, AddressKey } from '#net/address.ts';
import { formatAddress } from '#net/address.ts';
import type { Cidr } from '#net/cidr.ts';
import type { Protocol } from '#net/protocol.ts';
import type { Policy, PolicyKey } from './model.ts';
import type { Labels } from './selector.ts';
import type { ServiceEvent } from './service.ts';

/** `namespace/name`. */
export type PodKey = string & { readonly __brand: 'PodKey' };

export function podKey(namespace: string, name: string): PodKey {
  return `${namespace}/${name}` as PodKey;
}

/** enforce: what policy denies is dropped · audit: it passes, and is told and counted as what would have been. */
export type Mode = 'enforce' | 'audit';

/** `mode`: for what its own policies deny its own pods. Absent: enforce. */
export type Namespace = { readonly name: string; readonly labels: Labels; readonly mode?: Mode };

/** A container port with a name; several containers may use one name with different numbers. */
export type NamedPort = { readonly name: string; readonly protocol: Protocol; readonly port: number };

/** The workload that owns pods, as people name it: `shop/cart[Deployment]`. */
export type Workload = { readonly kind: string; readonly namespace: string; readonly name: string };

export type Pod = {
  readonly key: PodKey;
  readonly namespace: string;
  readonly name: string;
  /** By which a container runtime knows it; absent where the input has none. A pod of the same name made later has another. */
  readonly uid?: string;
  readonly labels: Labels;
  /** Name of the node; '' where it has none yet. */
  readonly node: string;
  /** Empty until the pod has an address. A hostNetwork pod has its node's. */
  readonly addresses: readonly Address[];
  readonly ports: readonly NamedPort[];
  /** Ports that its containers declare without a name. No policy can mean them; a probe tries them. */
  readonly namelessPorts?: readonly Omit<NamedPort, 'name'>[];
  readonly hostNetwork: boolean;
  /** Finished (Succeeded, Failed): its addresses may belong to somebody else by now, so it is no endpoint and no peer. */
  readonly finished: boolean;
  readonly workload: Workload;
};

export type Node = {
  readonly name: string;
  readonly labels: Labels;
  readonly addresses: readonly Address[];
  /** Blocks that this node's pods get addresses from: a pod not yet learnt must not look like the outside world. */
  readonly podCidrs: readonly Cidr[];
};

/** Everything that verdicts depend on. */
export type World = {
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly pods: ReadonlyMap<PodKey, Pod>;
  readonly policies: ReadonlyMap<PolicyKey, Policy>;
};

/** Nothing at all: what a world is told from that is new to whoever is told. */
export const EMPTY_WORLD: World = {
  namespaces: new Map(),
  nodes: new Map(),
  pods: new Map(),
  policies: new Map(),
};

/** One change; null value = gone. */
export type WorldEvent =
  | { readonly kind: 'namespace'; readonly name: string; readonly value: Namespace | null }
  | { readonly kind: 'node'; readonly name: string; readonly value: Node | null }
  | { readonly kind: 'pod'; readonly key: PodKey; readonly value: Pod | null }
  | { readonly kind: 'policy'; readonly key: PolicyKey; readonly value: Policy | null };

/** What a cluster tells of: the world that policies are judged in, and what says where packets go. */
export type ClusterEvent = WorldEvent | ServiceEvent;

/** Choices that change what policies mean (command contract: `--ipblock-pods`, `--mode`). */
export type Semantics = {
  /** Whether a NetworkPolicy's ipBlock matches pod addresses. The standard's suites need true. */
  readonly ipBlockPods: boolean;
  /** annotated: each namespace's own mode; else one mode for all, whatever namespaces say. Absent: annotated. */
  readonly mode?: 'annotated' | Mode;
};

export const STANDARD_SEMANTICS: Semantics = { ipBlockPods: true };

/** A pod that owns its addresses: it can be a subject, and selectors can match it. */
export function isEndpoint(pod: Pod): boolean {
  return !pod.hostNetwork && !pod.finished && pod.addresses.length > 0;
}

/** The label that every namespace carries in a real cluster; manifests seldom write it. */
export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';

/** Labels of a namespace that objects name but nobody declared: it exists, with its name label alone. */
export function impliedNamespace(name: string): Namespace {
  return { name, labels: { [NAMESPACE_NAME_LABEL]: name } };
}

/** The endpoints of a world by address. Of pods that claim one address, the first by key has it: no history decides. */
export function endpointsByAddress(world: World): ReadonlyMap<AddressKey, Pod> {
  const found = new Map<AddressKey, Pod>();
  for (const pod of world.pods.values()) {
    if (!isEndpoint(pod)) continue;
    for (const address of pod.addresses) {
      const rival = found.get(formatAddress(address));
      if (rival === undefined || pod.key < rival.key) found.set(formatAddress(address), pod);
    }
  }
  return found;
}
