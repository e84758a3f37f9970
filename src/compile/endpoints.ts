// The policy sets of local pods: from the policies that select a pod to its layers, and its entries in the Plan.
import { remember } from '#identity/collect.ts';
import { portsKey } from '#identity/pods.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { DEFAULT_TIER, type Direction } from '#policy/model.ts';
import type { Pod, PodKey } from '#policy/world.ts';
import type { ActivePolicies } from './active-policies.ts';
import type { ActivePolicy } from './active-policy.ts';
import type { Group } from './groups.ts';
import type { TierSpec } from './layer-rules.ts';
import type { LayerEntry, Layers } from './layers.ts';
import type { Recorder } from './recorder.ts';
import { numberOf, type SetEntry, type Sets } from './sets.ts';
import type { Shares } from './shares.ts';

type SetPair = { readonly egress: SetEntry; readonly ingress: SetEntry };

type Endpoint = SetPair & { readonly addresses: readonly Address[]; readonly pod: Pod };

/** A pod as its endpoints need it. */
export type Subject = { readonly pod: Pod; readonly group: Group };

/** What pods of one group have in common until the next `settle`; sets by the pod's ports. */
type Selection = { readonly inOrder: readonly ActivePolicy[]; readonly sets: Map<string, SetPair> };

/** An endpoint before and after a change. */
type Change = { readonly key: PodKey; readonly before: Endpoint | undefined; readonly now: Endpoint | null };

export class Endpoints {
  readonly #recorder: Recorder;
  readonly #active: ActivePolicies;
  readonly #layers: Layers;
  readonly #sets: Sets;
  readonly #shares: Shares;
  readonly #endpoints = new Map<PodKey, Endpoint>();
  readonly #changes: Change[] = [];
  readonly #selections = new Map<Group, Selection>();

  constructor(uses: {
    readonly recorder: Recorder;
    readonly active: ActivePolicies;
    readonly layers: Layers;
    readonly sets: Sets;
    readonly shares: Shares;
  }) {
    this.#recorder = uses.recorder;
    this.#active = uses.active;
    this.#layers = uses.layers;
    this.#sets = uses.sets;
    this.#shares = uses.shares;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  /** Gives a pod its sets anew; `settle` writes them. `owned`: its addresses that no other pod owns; null: as before. */
  set(key: PodKey, subject: Subject, known: Pod['addresses'] | null): void {
    const { pod } = subject;
    const { egress, ingress } = this.#setsOf(subject);
    const before = this.#endpoints.get(key);
    const owned = known ?? before?.addresses ?? [];
    const stays = before !== undefined && before.pod.node === pod.node && sameAddresses(before.addresses, owned);
    if (stays && sameSets(before, { egress, ingress })) {
      this.#sets.give(egress, egress);
      this.#sets.give(ingress, ingress);
      return;
    }
    const now = { egress, ingress, addresses: owned, pod };
    this.#changes.push({ key, before, now });
    this.#endpoints.set(key, now);
    if (before === undefined) return;
    this.#sets.give(before.egress, stays ? egress : null);
    this.#sets.give(before.ingress, stays ? ingress : null);
  }

  remove(key: PodKey): void {
    const before = this.#endpoints.get(key);
    if (before === undefined) return;
    this.#endpoints.delete(key);
    this.#changes.push({ key, before, now: null });
    this.#sets.give(before.egress, null);
    this.#sets.give(before.ingress, null);
  }

  /** Writes what changed. Sets have their numbers by now. */
  settle(): void {
    for (const { key, before, now } of this.#changes) {
      for (const address of before?.addresses ?? []) this.#recorder.dropEndpoint(formatAddress(address), key);
      if (now !== null) this.#write(key, now);
    }
    this.#changes.length = 0;
    this.#selections.clear();
  }

  #write(key: PodKey, { egress, ingress, addresses, pod }: Endpoint): void {
    const sets = { egress: numberOf(egress), ingress: numberOf(ingress) };
    for (const address of addresses) {
      this.#recorder.endpoint(formatAddress(address), { address, pod: key, node: pod.node, ...sets });
    }
  }

  /** One more use of the two sets of a pod. */
  #setsOf({ pod, group }: Subject): SetPair {
    const selection = this.#selection(group);
    const ports = portsKey(pod.ports);
    const found = selection.sets.get(ports);
    if (found !== undefined) {
      this.#sets.again(found.egress);
      this.#sets.again(found.ingress);
      return found;
    }
    const egress = this.#take('egress', selection.inOrder, pod);
    const ingress = this.#take('ingress', selection.inOrder, pod);
    selection.sets.set(ports, { egress, ingress });
    return { egress, ingress };
  }

  #selection(group: Group): Selection {
    return remember(this.#selections, group, () => ({ inOrder: this.#active.inOrder(group), sets: new Map() }));
  }

  #take(direction: Direction, policies: readonly ActivePolicy[], pod: Pod): SetEntry {
    const ports = direction === 'ingress' ? pod.ports : [];
    const groups: TierSpec[][] = [[], [], []];
    for (const tier of tiersOf(policies, direction)) {
      const blocks = tier.map((active) => active.block(direction, ports));
      groups[groupOf(tier)]?.push({ blocks, end: this.#active.end(direction, tier) });
    }
    const layers = groups.flatMap((tiers): LayerEntry[] => {
      const layer = tiers.length === 0 ? null : this.#layers.take(tiers, this.#shares.of(pod.namespace));
      return layer === null ? [] : [layer];
    });
    return this.#sets.take(layers);
  }
}

function sameSets(a: SetPair, b: SetPair): boolean {
  return a.egress === b.egress && a.ingress === b.ingress;
}

function sameAddresses(a: readonly Address[], b: readonly Address[]): boolean {
  return a === b || a.map(formatAddress).join() === b.map(formatAddress).join();
}

/** Those of sorted policies that speak of a direction, each tier's together. */
function tiersOf(sorted: readonly ActivePolicy[], direction: Direction): ActivePolicy[][] {
  const tiers: ActivePolicy[][] = [];
  let position: number | null = null;
  for (const active of sorted) {
    if (!active.speaksOf(direction)) continue;
    if (active.policy.tier.position === position) tiers.at(-1)?.push(active);
    else tiers.push([active]);
    position = active.policy.tier.position;
  }
  return tiers;
}

/** The layer that a tier belongs to: below the default tier, that tier, above it. */
function groupOf(tier: readonly ActivePolicy[]): 0 | 1 | 2 {
  const position = tier[0]?.policy.tier.position ?? DEFAULT_TIER.position;
  if (position === DEFAULT_TIER.position) return 1;
  return position < DEFAULT_TIER.position ? 0 : 2;
}
