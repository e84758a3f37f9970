// The policy sets of local pods: from the policies that select a pod to its layers, and its entries in the Plan.
import { type Address, formatAddress } from '#net/address.ts';
import { DEFAULT_TIER, type Direction } from '#policy/model.ts';
import type { Pod, PodKey } from '#policy/world.ts';
import type { ActivePolicies } from './active-policies.ts';
import type { Group } from './groups.ts';
import type { TierSpec } from './layer-rules.ts';
import type { LayerEntry, Layers } from './layers.ts';
import type { Audit } from './plan.ts';
import type { Recorder } from './recorder.ts';
import { numberOf, type SetEntry, type Sets } from './sets.ts';
import type { Shares } from './shares.ts';
import type { LocalPod } from './subjects.ts';
import { TierLists } from './tier-lists.ts';

type SetPair = { readonly egress: SetEntry; readonly ingress: SetEntry };

type Endpoint = SetPair & { readonly addresses: readonly Address[]; readonly pod: Pod; readonly audit: Audit | null };

/** An endpoint before and after a change. */
type Change = { readonly key: PodKey; readonly before: Endpoint | undefined; readonly now: Endpoint | null };

export class Endpoints {
  readonly #recorder: Recorder;
  readonly #active: ActivePolicies;
  readonly #layers: Layers;
  readonly #sets: Sets;
  readonly #shares: Shares;
  readonly #auditOf: (namespace: string) => Audit | null;
  readonly #endpoints = new Map<PodKey, Endpoint>();
  readonly #changes: Change[] = [];
  readonly #tiers: TierLists;
  /** Sets given in this batch, by group and ports. */
  readonly #given = new Map<Group, Map<string, SetPair>>();

  constructor(uses: {
    readonly recorder: Recorder;
    readonly active: ActivePolicies;
    readonly layers: Layers;
    readonly sets: Sets;
    readonly shares: Shares;
    /** What of a namespace's pods is audited now. */
    readonly auditOf: (namespace: string) => Audit | null;
  }) {
    this.#recorder = uses.recorder;
    this.#active = uses.active;
    this.#tiers = new TierLists(uses.active);
    this.#layers = uses.layers;
    this.#sets = uses.sets;
    this.#shares = uses.shares;
    this.#auditOf = uses.auditOf;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  /** Gives a pod its sets anew; `settle` writes them. `owned`: its addresses that no other pod owns; null: as before. */
  set(key: PodKey, subject: LocalPod, known: Pod['addresses'] | null): void {
    const { pod } = subject;
    const { egress, ingress } = this.#setsOf(subject);
    const before = this.#endpoints.get(key);
    const owned = known ?? before?.addresses ?? [];
    const stays = before !== undefined && before.pod.node === pod.node && sameAddresses(before.addresses, owned);
    const audit = this.#auditOf(pod.namespace);
    if (stays && before.audit === audit && sameSets(before, { egress, ingress })) {
      this.#sets.give(egress, egress);
      this.#sets.give(ingress, ingress);
      return;
    }
    const now = { egress, ingress, addresses: owned, pod, audit };
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

  /** The layers of endpoints that are about to have another set than before, or the first one. */
  *turning(): Generator<LayerEntry> {
    for (const { before, now } of this.#changes) {
      if (now === null || (before !== undefined && isTheSame(before, now))) continue;
      yield* now.egress.layers;
      yield* now.ingress.layers;
    }
  }

  /** Writes what changed. Sets have their numbers by now. */
  settle(): void {
    for (const { key, before, now } of this.#changes) {
      if (before !== undefined && now !== null && isTheSame(before, now)) continue;
      for (const address of before?.addresses ?? []) this.#recorder.dropEndpoint(formatAddress(address), key);
      if (now !== null) this.#write(key, now);
    }
    this.#changes.length = 0;
    this.#given.clear();
    this.#tiers.settle();
  }

  #write(key: PodKey, { egress, ingress, addresses, pod, audit }: Endpoint): void {
    const sets = { egress: numberOf(egress), ingress: numberOf(ingress), ...(audit === null ? {} : { audit }) };
    for (const address of addresses) {
      this.#recorder.endpoint(formatAddress(address), { address, pod: key, node: pod.node, ...sets });
    }
  }

  /** One more use of the two sets of a pod. */
  #setsOf(subject: LocalPod): SetPair {
    const { group } = subject.kind;
    const given = this.#given.get(group) ?? new Map<string, SetPair>();
    this.#given.set(group, given);
    const found = given.get(subject.ports);
    if (found !== undefined) {
      this.#sets.again(found.egress);
      this.#sets.again(found.ingress);
      return found;
    }
    const sets = { egress: this.#take('egress', subject), ingress: this.#take('ingress', subject) };
    given.set(subject.ports, sets);
    return sets;
  }

  #take(direction: Direction, { pod, kind, ports }: LocalPod): SetEntry {
    const groups: TierSpec[][] = [[], [], []];
    const tiers = this.#tiers.of(kind.group, { direction, ports: { key: ports, list: pod.ports } });
    for (const { position, blocks, isolating } of tiers) {
      groups[groupOf(position)]?.push({ position, blocks, end: this.#active.end(direction, isolating) });
    }
    const layers = groups.flatMap((specs): LayerEntry[] => {
      const layer = specs.length === 0 ? null : this.#layers.take(specs, this.#shares.of(pod.namespace));
      return layer === null ? [] : [layer];
    });
    return this.#sets.take(layers);
  }
}

/** True where nothing of what the Plan says of the endpoint is other than before. */
function isTheSame(before: Endpoint, now: Endpoint): boolean {
  if (before.audit !== now.audit || before.pod.node !== now.pod.node || !sameAddresses(before.addresses, now.addresses))
    return false;
  return before.egress.number === now.egress.number && before.ingress.number === now.ingress.number;
}

function sameSets(a: SetPair, b: SetPair): boolean {
  return a.egress === b.egress && a.ingress === b.ingress;
}

function sameAddresses(a: readonly Address[], b: readonly Address[]): boolean {
  return a === b || a.map(formatAddress).join() === b.map(formatAddress).join();
}

/** The layer that a tier belongs to: below the default tier, that tier, above it. */
function groupOf(position: number): 0 | 1 | 2 {
  if (position === DEFAULT_TIER.position) return 1;
  return position < DEFAULT_TIER.position ? 0 : 2;
}
