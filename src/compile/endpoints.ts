// The policy sets of local pods: from the policies that select a pod to its layers, and its entries in the Plan.
import { type AddressKey, formatAddress } from '#net/address.ts';
import { DEFAULT_TIER, type Direction, type PolicyKey } from '#policy/model.ts';
import type { Pod, PodKey } from '#policy/world.ts';
import type { ActivePolicies } from './active-policies.ts';
import type { ActivePolicy } from './active-policy.ts';
import type { LayerEntry, Layers, TierSpec } from './layers.ts';
import type { Recorder } from './recorder.ts';
import type { SetEntry, Sets } from './sets.ts';

type SetPair = { readonly egress: SetEntry; readonly ingress: SetEntry };

type Endpoint = SetPair & { readonly addresses: readonly AddressKey[]; readonly pod: Pod };

/** A pod as its endpoints need it. */
export type Subject = { readonly pod: Pod; readonly policies: ReadonlySet<PolicyKey> };

export class Endpoints {
  readonly #recorder: Recorder;
  readonly #active: ActivePolicies;
  readonly #layers: Layers;
  readonly #sets: Sets;
  readonly #endpoints = new Map<PodKey, Endpoint>();

  constructor(uses: {
    readonly recorder: Recorder;
    readonly active: ActivePolicies;
    readonly layers: Layers;
    readonly sets: Sets;
  }) {
    this.#recorder = uses.recorder;
    this.#active = uses.active;
    this.#layers = uses.layers;
    this.#sets = uses.sets;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  /** Gives a pod its sets anew. `owned`: its addresses that no other pod owns. */
  set(key: PodKey, subject: Subject, owned: Pod['addresses']): void {
    const { pod } = subject;
    const policies = this.#active.inOrder(subject.policies);
    const egress = this.#take('egress', policies, pod);
    const ingress = this.#take('ingress', policies, pod);
    const addresses = owned.map(formatAddress);
    const before = this.#endpoints.get(key);
    const stays = before !== undefined && before.pod.node === pod.node && sameSets(before, { egress, ingress });
    if (stays && before.addresses.join() === addresses.join()) {
      this.#sets.give(egress);
      this.#sets.give(ingress);
      return;
    }
    this.remove(key);
    for (const [index, address] of owned.entries()) {
      const text = addresses[index] ?? formatAddress(address);
      const sets = { egress: egress.number, ingress: ingress.number };
      this.#recorder.endpoint(text, { address, pod: key, node: pod.node, ...sets });
    }
    this.#endpoints.set(key, { egress, ingress, addresses, pod });
  }

  remove(key: PodKey): void {
    const before = this.#endpoints.get(key);
    if (before === undefined) return;
    this.#endpoints.delete(key);
    for (const address of before.addresses) this.#recorder.dropEndpoint(address, key);
    this.#sets.give(before.egress);
    this.#sets.give(before.ingress);
  }

  #take(direction: Direction, policies: readonly ActivePolicy[], pod: Pod): SetEntry {
    const ports = direction === 'ingress' ? pod.ports : [];
    const groups: TierSpec[][] = [[], [], []];
    for (const tier of tiersOf(policies.filter((active) => active.speaksOf(direction)))) {
      const blocks = tier.map((active) => active.block(direction, ports));
      groups[groupOf(tier)]?.push({ blocks, end: this.#active.end(direction, tier) });
    }
    const layers = groups.flatMap((tiers): LayerEntry[] => {
      const layer = tiers.length === 0 ? null : this.#layers.take(tiers);
      return layer === null ? [] : [layer];
    });
    return this.#sets.take(layers);
  }
}

function sameSets(a: SetPair, b: SetPair): boolean {
  return a.egress === b.egress && a.ingress === b.ingress;
}

/** Sorted policies, those of one tier together. */
function tiersOf(sorted: readonly ActivePolicy[]): ActivePolicy[][] {
  const tiers = new Map<number, ActivePolicy[]>();
  for (const active of sorted) {
    const { position } = active.policy.tier;
    const tier = tiers.get(position);
    if (tier === undefined) tiers.set(position, [active]);
    else tier.push(active);
  }
  return [...tiers.values()];
}

/** The layer that a tier belongs to: below the default tier, that tier, above it. */
function groupOf(tier: readonly ActivePolicy[]): 0 | 1 | 2 {
  const position = tier[0]?.policy.tier.position ?? DEFAULT_TIER.position;
  if (position === DEFAULT_TIER.position) return 1;
  return position < DEFAULT_TIER.position ? 0 : 2;
}
