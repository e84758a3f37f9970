// The cluster that the bars are measured under, as world events. The same numbers give the same cluster in every run.
import type { Address } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { DEFAULT_TIER, type Peer, type Policy, type Port, policyKey, type Rule, type RuleId } from '#policy/model.ts';
import type { LabelSelector } from '#policy/selector.ts';
import { impliedNamespace, type Namespace, type Pod, podKey, type WorldEvent } from '#policy/world.ts';

export type LoadSize = {
  /** Pods of other nodes. */
  readonly pods: number;
  /** Policies that select pods of other nodes only. */
  readonly policies: number;
  /** Policies that select every measured pod. */
  readonly selecting: number;
  /** Rules of each of those. */
  readonly rules: number;
};

/** issue 3, §3: 10 000 policies, 100 000 pods; 1 000 policies with 10 000 rules select the measured pods. */
export const FULL: LoadSize = { pods: 99_890, policies: 8_899, selecting: 1000, rules: 10 };
/** The same with 1 000 000 rules on the measured node. */
export const MILLION: LoadSize = { ...FULL, rules: 1000 };
/** 110 pods on the node, 1 000 policies, 5 000 known pods. */
export const USUAL: LoadSize = { pods: 4890, policies: 859, selecting: 40, rules: 3 };

/** Pods on the measured node: five workloads, each with 20 policies of its own. */
export const LOCAL_PODS = 110;
export const NODE = 'measured';
const WORKLOADS = 5;
const OWN_POLICIES = 20;
const NAMESPACES = 500;
const APPS = 10;
const PAGE = 500;
/** The namespace of the measured pods. */
export const SPACE = 'measured';

/** Changes are numbered: another number is another form of the same thing. */
export class Load {
  readonly size: LoadSize;

  constructor(size: LoadSize) {
    this.size = size;
  }

  /** Everything, as a list would give it: pages of 500, and no more than 5 000 rules. */
  *pages(): Generator<readonly WorldEvent[]> {
    yield this.#spaces();
    yield* paged(LOCAL_PODS, (index) => podEvent(this.localPod(index)));
    yield* paged(this.size.pods, (index) => podEvent(this.remotePod(index)));
    const own = WORKLOADS * OWN_POLICIES;
    yield* paged(this.size.policies, (index) => policyEvent(this.otherPolicy(index)));
    const perPage = Math.ceil((PAGE * FULL.rules) / Math.max(FULL.rules, this.size.rules));
    yield* paged(this.size.selecting, (index) => policyEvent(this.selectingPolicy(index)), perPage);
    yield* paged(own, (index) => policyEvent(this.workloadPolicy(index)));
    yield [policyEvent(this.ownTraffic())];
  }

  /** A namespace of other nodes' pods; `team` is what a relabelling changes. */
  namespace(index: number, team: number = index % 20): Namespace {
    const name = spaceName(index);
    return { name, labels: { ...impliedNamespace(name).labels, team: `team-${team}`, stage: `stage-${index % 3}` } };
  }

  /** A measured pod. Its labels `app` (the workload) and `group` are what policies name. */
  localPod(index: number, version = 0): Pod {
    const app = `web-${index % WORKLOADS}`;
    return podOf({
      space: SPACE,
      name: `pod-${index}`,
      labels: { app, group: 'measured', version: `v${version}` },
      node: NODE,
      address: address(0x0a80_0001 + index),
      workload: app,
    });
  }

  remotePod(index: number, version: number = noise(index, 1, 10)): Pod {
    const app = `app-${Math.floor(index / NAMESPACES) % APPS}`;
    return podOf({
      space: spaceName(index % NAMESPACES),
      name: `pod-${index}`,
      labels: { app, version: `v${version}`, tier: `tier-${index % 5}`, release: `r${index % 50}` },
      node: `node-${index % 900}`,
      address: address(0x0a00_0001 + index),
      workload: app,
    });
  }

  /** A policy that selects pods of other nodes. */
  otherPolicy(index: number, version = 0): Policy {
    const space = spaceName(index % NAMESPACES);
    const name = `policy-${index}`;
    const draw = (at: number, below: number): number => noise(index * 8 + at, 2 + version, below);
    return policyOf({
      space,
      name,
      subject: inLabel('app', `app-${draw(0, APPS)}`),
      ingress: [0, 1].map((at) => ({ peers: [peer(space, draw(at + 1, 2 ** 30))], ports: [somePort(draw(at, 5))] })),
      egress: [],
    });
  }

  /** A policy that selects every measured pod. Its peers are drawn from all namespaces. */
  selectingPolicy(index: number, version = 0): Policy {
    const rule = (at: number): RuleSpec => {
      const draw = (salt: number, below: number): number => {
        return noise(index * 4096 + at, 16 + salt + 64 * version, below);
      };
      const peers = [0, 1].map((one) => peer(spaceName(draw(one, NAMESPACES)), draw(one + 2, 2 ** 30)));
      return { peers, ports: [somePort(draw(4, 5))] };
    };
    const rules = Array.from({ length: this.size.rules }, (_, at) => rule(at));
    const half = rules.length >> 1;
    const name = `all-${pad(index)}`;
    return policyOf({ space: SPACE, name, subject: EVERY, ingress: rules.slice(half), egress: rules.slice(0, half) });
  }

  /** A policy that selects one workload of the measured pods. */
  workloadPolicy(index: number, version = 0): Policy {
    const draw = (salt: number, below: number): number => noise(index, 256 + salt + 64 * version, below);
    const peers = [peer(spaceName(draw(0, NAMESPACES)), draw(1, 2 ** 30))];
    const rule = { peers, ports: [somePort(draw(2, 5))] };
    const subject = inLabel('app', `web-${index % WORKLOADS}`);
    return policyOf({ space: SPACE, name: `one-${pad(index)}`, subject, ingress: [rule], egress: [rule] });
  }

  /** Lets the measured pods speak to each other, but on UDP below port 6000. By name the last: the one rule that decides. */
  ownTraffic(): Policy {
    const rule = { peers: [MEASURED], ports: [range(TCP, 1024, 65_535), range(UDP, 6000, 65_535)] };
    return policyOf({ space: SPACE, name: 'own', subject: EVERY, ingress: [rule], egress: [rule] });
  }

  /** Selects all measured pods, and lets them speak to each other on one UDP port more. */
  probePolicy(port: number): Policy {
    const rule = { peers: [MEASURED], ports: [range(UDP, port, port)] };
    return policyOf({ space: SPACE, name: 'probe', subject: EVERY, ingress: [rule], egress: [rule] });
  }

  #spaces(): WorldEvent[] {
    const block = parseCidr('10.0.0.0/8')?.cidr;
    if (block === undefined) throw new Error('not a block');
    const spaces = Array.from({ length: NAMESPACES }, (_, index) => namespaceEvent(this.namespace(index)));
    const node = { name: NODE, labels: {}, addresses: [address(0xac1f_0001)], podCidrs: [block] };
    return [...spaces, namespaceEvent(impliedNamespace(SPACE)), { kind: 'node', name: NODE, value: node }];
  }
}

/** The event of a pod that came or changed. */
export function podEvent(value: Pod): WorldEvent {
  return { kind: 'pod', key: value.key, value };
}

/** The event of a policy that came or changed. */
export function policyEvent(value: Policy): WorldEvent {
  return { kind: 'policy', key: value.key, value };
}

/** The event of a namespace that came or changed. */
export function namespaceEvent(value: Namespace): WorldEvent {
  return { kind: 'namespace', name: value.name, value };
}

/** A number below `below` that the first two decide. */
export function noise(index: number, salt: number, below: number): number {
  let hash = Math.imul(index ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(salt + 1, 0xc2b2_ae35);
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb_352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846c_a68b);
  return ((hash ^ (hash >>> 16)) >>> 0) % below;
}

/** `peers` null: everybody. */
export type RuleSpec = { readonly peers: readonly Peer[] | null; readonly ports: readonly Port[] };

/** An allowing NetworkPolicy of the default tier, which isolates in both directions. */
export function policyOf(spec: {
  readonly space: string;
  readonly name: string;
  readonly subject: LabelSelector;
  readonly ingress: readonly RuleSpec[];
  readonly egress: readonly RuleSpec[];
}): Policy {
  const { space, name } = spec;
  const key = policyKey('networkpolicy', space, name);
  const place = { dialect: 'kubernetes', kind: 'NetworkPolicy', namespace: space, name, file: null, line: null };
  const rules = (direction: 'egress' | 'ingress'): Rule[] => {
    return spec[direction].map(({ peers, ports }, at) => ({
      id: `${key}/${direction}/${at}` as RuleId,
      action: 'allow',
      peers: peers === null ? { kind: 'any' } : { kind: 'these', peers },
      ports: { kind: 'these', ports },
      source: { ...place, path: `spec.${direction}[${at}]` },
    }));
  };
  return {
    key,
    tier: DEFAULT_TIER,
    order: `${space}/${name}`,
    subject: { namespaces: { kind: 'named', name: space }, pods: spec.subject },
    isolates: { egress: true, ingress: true },
    egress: rules('egress'),
    ingress: rules('ingress'),
    source: { ...place, path: 'spec' },
  };
}

/** Labels whose value of a key is this one. */
export function inLabel(key: string, value: string): LabelSelector {
  return { requirements: [{ op: 'In', key, values: [value] }] };
}

/** The selector of everything. */
export const EVERY: LabelSelector = { requirements: [] };
const MEASURED: Peer = {
  kind: 'pods',
  namespaces: { kind: 'named', name: SPACE },
  pods: inLabel('group', 'measured'),
};

/** Mostly an app of one namespace, sometimes of all namespaces of a team, sometimes a block outside the cluster. */
function peer(space: string, seed: number): Peer {
  const pods = inLabel('app', `app-${noise(seed, 3, APPS)}`);
  const kind = noise(seed, 4, 10);
  if (kind < 8) return { kind: 'pods', namespaces: { kind: 'named', name: space }, pods };
  if (kind < 9) {
    const selector = inLabel('team', `team-${noise(seed, 5, 20)}`);
    return { kind: 'pods', namespaces: { kind: 'labelled', selector }, pods };
  }
  const words = [0xac00_0000 + (noise(seed, 6, 200 * 256) << 8)];
  return { kind: 'cidr', cidr: { address: { family: 4, words }, length: 24 }, except: [] };
}

function somePort(index: number): Port {
  return range(TCP, 8000 + index, 8080 + index);
}

function range(protocol: number, first: number, last: number): Port {
  return { kind: 'range', protocol, first, last } as Port;
}

/** A running pod with one address and one named port. */
export function podOf(spec: {
  readonly space: string;
  readonly name: string;
  readonly labels: Pod['labels'];
  readonly node: string;
  readonly address: Address;
  readonly workload: string;
}): Pod {
  return {
    key: podKey(spec.space, spec.name),
    namespace: spec.space,
    name: spec.name,
    labels: spec.labels,
    node: spec.node,
    addresses: [spec.address],
    ports: [{ name: 'http', protocol: TCP, port: 8080 }],
    hostNetwork: false,
    finished: false,
    workload: { kind: 'Deployment', namespace: spec.space, name: spec.workload },
  };
}

/** An IPv4 address by its number. */
export function address(word: number): Address {
  return { family: 4, words: [word >>> 0] };
}

/** Events 0 to `count` in pages. */
export function* paged(
  count: number,
  event: (index: number) => WorldEvent,
  size: number = PAGE,
): Generator<readonly WorldEvent[]> {
  for (let first = 0; first < count; first += size) {
    yield Array.from({ length: Math.min(size, count - first) }, (_, index) => event(first + index));
  }
}

function spaceName(index: number): string {
  return `namespace-${index}`;
}

function pad(index: number): string {
  return String(index).padStart(6, '0');
}
