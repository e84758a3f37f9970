// What a Plan allows between two places, for every protocol and port at once.
import { decide, identityOf } from '#compile/lookup.ts';
import type { Audit, IdentityNumber, Layer, Plan, PlanEndpoint, SetNumber, TableNumber } from '#compile/plan.ts';
import { isAudited, isOwnNode } from '#datapath/reference/verdict.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type AxisRange, WHOLE_AXIS } from '#net/axis.ts';
import type { Direction } from '#policy/model.ts';
import { intersectRanges, normalRanges, type RangeSet, rangesKey } from './ranges.ts';

/** An address as policy sees it. `address` is null for one of many alike (an external range). */
export type Place = {
  readonly family: Address['family'];
  readonly address: Address | null;
  readonly identity: IdentityNumber;
  readonly endpoint: PlanEndpoint | null;
};

const EVERYTHING: RangeSet = [WHOLE_AXIS];

/** The place of an address; null where the Plan's tables are incomplete. */
export function placeOf(plan: Plan, address: Address): Place | null {
  const identity = identityOf(plan, address);
  if (identity === null) return null;
  const endpoint = plan.endpoints.get(formatAddress(address)) ?? null;
  return { family: address.family, address, identity, endpoint };
}

/** Places with equal keys have equal connections, but for what comes from their own node. */
export function placeKey(place: Place): string {
  const { endpoint } = place;
  const sets = `${endpoint?.egress ?? ''}/${endpoint?.ingress ?? ''}/${endpoint?.audit ?? ''}`;
  return `${place.family}/${place.identity}/${sets}`;
}

/** Answers for one Plan, which must not change meanwhile; remembers what it worked out. */
export class Legs {
  readonly #plan: Plan;
  readonly #audits: 'heeded' | 'ignored';
  readonly #legs = new Map<string, RangeSet>();
  readonly #pairs = new Map<string, RangeSet>();
  readonly #numbers = new Map<RangeSet, number>();
  readonly #keys = new Map<string, number>();

  /** `audits` ignored: what policy would allow if everything were enforced. */
  constructor(plan: Plan, audits: 'heeded' | 'ignored' = 'heeded') {
    this.#plan = plan;
    this.#audits = audits;
  }

  /** Connections from one place to another that both ends allow. Never across families. */
  allowed(from: Place, to: Place): RangeSet {
    if (from.family !== to.family) return [];
    const egress = from.endpoint === null ? EVERYTHING : this.#leg(from.endpoint, 'egress', to.identity);
    const ingress = this.#isExempt(from, to) ? EVERYTHING : this.#ingress(from, to);
    return remember(this.#pairs, `${this.#number(egress)}&${this.#number(ingress)}`, () => {
      return intersectRanges(egress, ingress);
    });
  }

  /** Equal sets have one number; each is spelled out once, for there may be 32 768 ranges in it. */
  #number(ranges: RangeSet): number {
    return remember(this.#numbers, ranges, () => remember(this.#keys, rangesKey(ranges), () => this.#keys.size));
  }

  #ingress(from: Place, to: Place): RangeSet {
    return to.endpoint === null ? EVERYTHING : this.#leg(to.endpoint, 'ingress', from.identity);
  }

  #isExempt(from: Place, to: Place): boolean {
    if (from.address === null || to.endpoint === null) return false;
    return isOwnNode(this.#plan, to.endpoint, from.address);
  }

  #leg(own: PlanEndpoint, direction: Direction, peer: IdentityNumber): RangeSet {
    const set = own[direction];
    const audit = this.#audits === 'heeded' ? own.audit : undefined;
    return remember(this.#legs, `${set}/${peer}/${audit ?? ''}`, () => allowedRanges(this.#plan, { audit, set, peer }));
  }
}

function remember<Key, T>(known: Map<Key, T>, key: Key, make: () => T): T {
  const found = known.get(key) ?? make();
  known.set(key, found);
  return found;
}

type Leg = { readonly audit: Audit | undefined; readonly set: SetNumber; readonly peer: IdentityNumber };

/** What passes, by audit too. Between two neighbouring bounds of the tables the decision is one and the same, so one look-up tells all. */
function allowedRanges(plan: Plan, { audit, set, peer }: Leg): RangeSet {
  const starts = boundaries(plan, set, peer);
  const allowed: AxisRange[] = [];
  for (const [index, first] of starts.entries()) {
    const decision = decide(plan, { set, peer, position: first });
    const isAllowed = decision.kind === 'open' || (decision.kind === 'decided' && decision.action === 'allow');
    if (isAllowed || isAudited(plan, audit, decision))
      allowed.push({ first, last: (starts[index + 1] ?? WHOLE_AXIS.last + 1) - 1 });
  }
  return normalRanges(allowed);
}

/** Where the decision may change: the first position of each interval, and the one after its last. */
function boundaries(plan: Plan, set: SetNumber, peer: IdentityNumber): readonly number[] {
  const starts = new Set([WHOLE_AXIS.first]);
  for (const number of plan.sets.get(set)?.layers ?? []) {
    for (const table of tablesOf(plan.layers.get(number), peer)) {
      for (const interval of plan.tables.get(table) ?? []) starts.add(interval.first).add(interval.last + 1);
    }
  }
  starts.delete(WHOLE_AXIS.last + 1);
  return [...starts].sort((a, b) => a - b);
}

function tablesOf(layer: Layer | undefined, peer: IdentityNumber): readonly TableNumber[] {
  return [layer?.base, layer?.classes.get(peer)].flatMap((table) =>
    table === null || table === undefined ? [] : [table],
  );
}
