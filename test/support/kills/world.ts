// The cluster of the kill tests: a few pods whose verdicts never change, and others, with policies, that change all the time.
import fc from 'fast-check';
import type { Address } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { TCP, UDP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { DEFAULT_TIER, type Policy, policyKey, type Rule, type RuleId } from '#policy/model.ts';
import type { Labels } from '#policy/selector.ts';
import type { Flow } from '#policy/verdict.ts';
import { EMPTY_WORLD, impliedNamespace, type Pod, type PodKey, podKey, STANDARD_SEMANTICS } from '#policy/world.ts';
import { arbitraryLabels, arbitraryPolicy, NAMESPACES } from '../arbitrary-policy.ts';
import { NODE_ADDRESSES, OUTSIDER } from './outside.ts';
import { arbitraryBehind, type Behind, firstServices, type KillWorld, withBehind } from './services.ts';
import {
  address,
  addressesOf,
  BEGUN_PORT,
  CHURNING,
  CORE,
  NODE,
  OPEN_PORT,
  OUTER_PORT,
  REMOTE,
  SERVED_PORT,
  SHUT_PORT,
  type Slot,
  TRIED_PORTS,
} from './slots.ts';

/** One change of the cluster. A pod's null labels = it is gone. */
export type Edit =
  | { readonly kind: 'policy'; readonly policy: Policy; readonly gone: boolean }
  | { readonly kind: 'pod'; readonly slot: Slot; readonly labels: Labels | null }
  | { readonly kind: 'namespace'; readonly name: string; readonly labels: Labels; readonly isAudited: boolean }
  | { readonly kind: 'service'; readonly behind: Behind };

const gone = fc.constantFrom(false, false, true);

export const arbitraryEdit: fc.Arbitrary<Edit> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(arbitraryPolicy('network'), gone).map(([policy, away]): Edit => {
      return { kind: 'policy', policy, gone: away };
    }),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(...CHURNING, ...REMOTE), arbitraryLabels, gone)
      .map(([slot, labels, away]): Edit => ({ kind: 'pod', slot, labels: away ? null : labels })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom(...NAMESPACES), arbitraryLabels, gone)
      .map(([name, labels, isAudited]): Edit => ({ kind: 'namespace', name, labels, isAudited })),
  },
  { weight: 3, arbitrary: arbitraryBehind.map((behind): Edit => ({ kind: 'service', behind })) },
);

/** Where the fixed pods are, with the policies that keep them open and shut. */
export function firstWorld(): KillWorld {
  const pods = [
    podOf(0, { keep: 'yes', app: 'web' }),
    podOf(1, { keep: 'yes', tier: 'web' }),
    podOf(2, { shut: 'yes' }),
  ];
  const blocks = ['10.9.0.0/24', 'fd09::/64'].map(cidr);
  const nodes = [
    { name: NODE, labels: {}, addresses: Object.values(NODE_ADDRESSES), podCidrs: blocks },
    { name: 'node-b', labels: {}, addresses: ['192.0.2.2', 'fd00::2'].map(address), podCidrs: [] },
  ];
  return {
    ...EMPTY_WORLD,
    ...firstServices(),
    namespaces: new Map(NAMESPACES.map((name) => [name, impliedNamespace(name)])),
    nodes: new Map(nodes.map((node) => [node.name, node])),
    pods: new Map(pods.map((pod) => [pod.key, pod])),
    policies: new Map([keepOpen(), keepShut()].map((policy) => [policy.key, policy])),
  };
}

/** The world after an edit; as it was, where the edit would change what must stay as it is. */
export function edited(world: KillWorld, edit: Edit): KillWorld {
  const after = applied(world, edit);
  return [...FIXED, ...FROM_OUTSIDE].every((fixed) => holds(after, fixed)) ? after : world;
}

/**
 * A denied flow is denied at its target each time: of the two ends' policies one may be newer than the other for a
 * moment, as it may on two nodes.
 */
function holds(world: KillWorld, { flow, verdict }: (typeof FIXED)[number]): boolean {
  const found = evaluate(world, flow, STANDARD_SEMANTICS);
  return found.verdict === verdict && found.ingress.verdict === verdict;
}

/** The pods of this node, by their numbers. */
export function localSlots(world: KillWorld): readonly number[] {
  return [...CORE, ...CHURNING].filter((slot) => world.pods.has(podOf(slot, {}).key));
}

/** Flows whose verdict no edit changes. */
export const FIXED: readonly { readonly flow: Flow; readonly verdict: 'allow' | 'deny' }[] = [4, 6].flatMap(
  (family) => [
    ...fixed(family, {
      port: OPEN_PORT,
      pairs: [
        [0, 1],
        [1, 0],
      ],
      verdict: 'allow' as const,
    }),
    ...fixed(family, { port: SERVED_PORT, pairs: [[0, 1]], verdict: 'allow' as const }),
    ...fixed(family, {
      port: SHUT_PORT,
      pairs: [
        [0, 2],
        [1, 2],
      ],
      verdict: 'deny' as const,
    }),
  ],
);

/** Those of who asks from outside of the node, by a Service. */
const FROM_OUTSIDE: typeof FIXED = ([4, 6] as const).flatMap((family) =>
  [TCP, UDP].flatMap((protocol) => {
    const from = OUTSIDER[family];
    const flow = (slot: number, port: number): Flow => ({ from, to: ownOf(slot, family), protocol, port });
    return [
      { flow: flow(1, OUTER_PORT), verdict: 'allow' as const },
      { flow: flow(2, SHUT_PORT), verdict: 'deny' as const },
    ];
  }),
);

function ownOf(slot: number, family: number): Address {
  return addressesOf(slot).find((each) => each.family === family) ?? address('::');
}

type Fixed = {
  readonly port: number;
  readonly pairs: readonly (readonly [number, number])[];
  readonly verdict: 'allow' | 'deny';
};

function fixed(
  family: number,
  { port, pairs, verdict }: Fixed,
): { readonly flow: Flow; readonly verdict: 'allow' | 'deny' }[] {
  return [TCP, UDP].flatMap((protocol) =>
    pairs.map(([from, to]) => ({
      flow: { from: ownOf(from, family), to: ownOf(to, family), protocol, port },
      verdict,
    })),
  );
}

function applied(world: KillWorld, edit: Edit): KillWorld {
  switch (edit.kind) {
    case 'policy': {
      const policies = new Map(world.policies);
      if (edit.gone) policies.delete(edit.policy.key);
      else policies.set(edit.policy.key, edit.policy);
      return { ...world, policies };
    }
    case 'pod': {
      const pod = podOf(edit.slot, edit.labels ?? {});
      const pods = new Map(world.pods);
      if (edit.labels === null) pods.delete(pod.key);
      else pods.set(pod.key, pod);
      return { ...world, pods };
    }
    case 'namespace': {
      const labels = { ...edit.labels, ...impliedNamespace(edit.name).labels };
      const namespace = { name: edit.name, labels, ...(edit.isAudited ? { mode: 'audit' as const } : {}) };
      return { ...world, namespaces: new Map(world.namespaces).set(edit.name, namespace) };
    }
    case 'service':
      return withBehind(world, edit.behind);
  }
}

/** What the world calls the pod of a slot. */
export function keyOf(slot: number): PodKey {
  return podOf(slot, {}).key;
}

function podOf(slot: number, labels: Labels): Pod {
  const namespace = slot < CORE.length ? (NAMESPACES[0] ?? '') : (NAMESPACES[slot % NAMESPACES.length] ?? '');
  const name = `pod${slot}`;
  const node = slot < CORE.length + CHURNING.length ? NODE : 'node-b';
  return {
    ...{ key: podKey(namespace, name), namespace, name, labels, node, addresses: addressesOf(slot) },
    ...{ ports: [{ name: 'http', protocol: UDP, port: 80 }], hostNetwork: false, finished: false },
    workload: { kind: 'Pod', namespace, name },
  };
}

function keepOpen(): Policy {
  const rule = (direction: string): Rule => ({
    action: 'allow',
    peers: { kind: 'these', peers: [{ kind: 'pods', namespaces: subjectsNamespace(), pods: labelled('keep') }] },
    ports: {
      kind: 'these',
      ports: [TCP, UDP].flatMap((protocol) =>
        [OPEN_PORT, SERVED_PORT, BEGUN_PORT, TRIED_PORTS[2]].map((port) => ({
          kind: 'range' as const,
          protocol,
          first: port,
          last: port,
        })),
      ),
    },
    id: `policy/keep/${direction}/0` as RuleId,
    source: sourceOf('keep'),
  });
  const outside: Rule = {
    ...rule('outside'),
    peers: {
      kind: 'these',
      peers: ['192.0.2.50/32', 'fd00::50/128'].map((each) => ({ kind: 'cidr' as const, cidr: cidr(each), except: [] })),
    },
    ports: {
      kind: 'these',
      ports: [TCP, UDP].map((protocol) => ({ kind: 'range' as const, protocol, first: OUTER_PORT, last: OUTER_PORT })),
    },
  };
  return fixedPolicy('keep', { egress: [rule('egress')], ingress: [rule('ingress'), outside] });
}

function keepShut(): Policy {
  return { ...fixedPolicy('shut', { egress: [], ingress: [] }), isolates: { egress: false, ingress: true } };
}

function fixedPolicy(name: 'keep' | 'shut', rules: Pick<Policy, 'egress' | 'ingress'>): Policy {
  return {
    ...{ key: policyKey('policy', '', name), tier: DEFAULT_TIER, order: name, source: sourceOf(name), ...rules },
    subject: { namespaces: subjectsNamespace(), pods: labelled(name) },
    isolates: { egress: true, ingress: true },
  };
}

function subjectsNamespace(): { readonly kind: 'named'; readonly name: string } {
  return { kind: 'named', name: NAMESPACES[0] ?? '' };
}

function labelled(key: string): Policy['subject']['pods'] {
  return { requirements: [{ op: 'Exists', key }] };
}

function sourceOf(name: string): Policy['source'] {
  return { dialect: 'test', kind: 'Policy', namespace: '', name, path: 'spec', file: 'kills', line: 1 };
}

function cidr(text: string): NonNullable<ReturnType<typeof parseCidr>>['cidr'] {
  const parsed = parseCidr(text);
  if (parsed === null) throw new Error(`not a block: ${text}`);
  return parsed.cidr;
}
