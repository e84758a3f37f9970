// Why a connection is allowed or not: both ends, tier by tier, rule by rule. The verdict is the Plan's, as in the
// simulation and the kernel; the story is told from the policies, and must come to the same rule.
import type { Plan } from '#compile/plan.ts';
import { judge } from '#datapath/reference/verdict.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { cidrContains } from '#net/cidr.ts';
import {
  comparePolicies,
  type Direction,
  defaultDenyId,
  type Policy,
  type Rule,
  type RuleId,
  type Source,
} from '#policy/model.ts';
import type { Flow, FlowVerdict, LegVerdict } from '#policy/verdict.ts';
import { endpointsByAddress, type Pod, type Semantics, type World } from '#policy/world.ts';
import { type PeerEnd, ruleMismatch, type Scene, selectsPod } from './match.ts';

/** A rule that was looked at. `mismatch` says why it does not speak of this connection; null where it does. */
export type RuleStory = {
  readonly rule: RuleId;
  readonly action: Rule['action'];
  readonly source: Source;
  readonly mismatch: string | null;
  /** True for the one that decided. */
  readonly decides: boolean;
};

/** A policy that selects the pod. `isolates`: in this direction, what no rule allows is denied. */
export type PolicyStory = {
  readonly policy: string;
  readonly source: Source;
  readonly isolates: boolean;
  readonly rules: readonly RuleStory[];
};

export type TierStory = { readonly tier: string; readonly policies: readonly PolicyStory[] };

/** One end. `end`: `ns/pod` or an address. No tiers where no policy judges this end. */
export type LegStory = LegVerdict & { readonly end: string; readonly tiers: readonly TierStory[] };

export type Explanation = {
  readonly verdict: FlowVerdict;
  readonly egress: LegStory;
  readonly ingress: LegStory;
};

/** What the connection is judged in and by. */
export type Judged = { readonly world: World; readonly plan: Plan; readonly semantics: Semantics };

/** Explains one connection. Throws where the story and the Plan differ: a broken invariant, never an input's fault. */
export function explain({ world, plan, semantics }: Judged, flow: Flow): Explanation {
  const verdict = judge(plan, flow);
  const pods = endpointsByAddress(world);
  const from = peerEnd(world, flow.from, pods.get(formatAddress(flow.from)) ?? null);
  const to = peerEnd(world, flow.to, pods.get(formatAddress(flow.to)) ?? null);
  const scene: Scene = { world, semantics, flow, destination: to.pod };
  return {
    verdict,
    egress: legStory(scene, 'egress', { own: from, other: to, verdict: verdict.egress }),
    ingress: legStory(scene, 'ingress', { own: to, other: from, verdict: verdict.ingress }),
  };
}

function peerEnd(world: World, address: Address, pod: Pod | null): PeerEnd {
  const text = formatAddress(address);
  const nodes = [...world.nodes.values()];
  const hosts = [...world.pods.values()].filter((each) => each.hostNetwork && !each.finished);
  const isNode = [...nodes, ...hosts].some((host) => host.addresses.some((own) => formatAddress(own) === text));
  const inBlock = nodes.some((node) => node.podCidrs.some((block) => cidrContains(block, address)));
  return { address, pod, inPodBlock: pod === null && !isNode && inBlock };
}

type Leg = { readonly own: PeerEnd; readonly other: PeerEnd; readonly verdict: LegVerdict };

function legStory(scene: Scene, direction: Direction, { own, other, verdict }: Leg): LegStory {
  const end = own.pod?.key ?? formatAddress(own.address);
  const unjudged = ['not-endpoint', 'self', 'own-node'].includes(verdict.reason);
  if (own.pod === null || unjudged) return { ...verdict, end, tiers: [] };
  const told = tellTiers(scene, direction, { pod: own.pod, other });
  if (told.rule !== verdict.rule) {
    throw new Error(`the plan's rule is ${verdict.rule}, the story's ${told.rule}: the two must agree`);
  }
  return { ...verdict, end, tiers: told.tiers };
}

type Subject = { readonly pod: Pod; readonly other: PeerEnd };
type ToldTier = { readonly story: TierStory; readonly rule: RuleId | null };
type Told = { readonly tiers: readonly TierStory[]; readonly rule: RuleId | null };

function tellTiers(scene: Scene, direction: Direction, subject: Subject): Told {
  const policies = [...scene.world.policies.values()]
    .filter((policy) => selectsPod(scene.world, policy.subject, subject.pod))
    .sort(comparePolicies);
  const tiers: TierStory[] = [];
  for (const [, members] of Map.groupBy(policies, (policy) => policy.tier.position)) {
    const told: ToldTier = tellTier(scene, direction, { ...subject, members });
    if (told.story.policies.length > 0) tiers.push(told.story);
    if (told.rule !== null) return { tiers, rule: told.rule };
  }
  return { tiers, rule: null };
}

/** The first rule that matches decides, unless it passes on; else the end of the tier does, where it is isolated. */
function tellTier(
  scene: Scene,
  direction: Direction,
  { other, members }: Subject & { readonly members: readonly Policy[] },
): ToldTier {
  let decided: Rule | null = null;
  const policies: PolicyStory[] = [];
  for (const policy of members) {
    const rules: RuleStory[] = [];
    const open: readonly Rule[] = decided === null ? policy[direction] : [];
    for (const rule of open) {
      const mismatch = ruleMismatch(scene, rule, other);
      rules.push({ rule: rule.id, action: rule.action, source: rule.source, mismatch, decides: mismatch === null });
      if (mismatch !== null) continue;
      decided = rule;
      break;
    }
    if (rules.length === 0 && !policy.isolates[direction]) continue;
    policies.push({
      policy: policyName(policy.source),
      source: policy.source,
      isolates: policy.isolates[direction],
      rules,
    });
  }
  const story = { tier: members[0]?.tier.name ?? '', policies };
  // Nothing passes on towards an address that a pod not yet known may have.
  if (decided !== null) return { story, rule: decided.action === 'pass' && !other.inPodBlock ? null : decided.id };
  return { story, rule: endOfTier(members, direction) };
}

function endOfTier(members: readonly Policy[], direction: Direction): RuleId | null {
  const isolating = members.filter((policy) => policy.isolates[direction]);
  const tier = isolating[0]?.tier;
  return tier === undefined || tier.end === 'none' ? null : defaultDenyId(tier, direction, isolating);
}

/** `NetworkPolicy shop/allow-web`. */
function policyName({ kind, namespace, name }: Source): string {
  return namespace === '' ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}
