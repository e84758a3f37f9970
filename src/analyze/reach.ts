// Who can reach whom, workload by workload, read from a Plan: the same tables that judge packets.
import type { IdentityNumber, Plan } from '#compile/plan.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { compareText } from '#policy/model.ts';
import type { Pod, Workload, World } from '#policy/world.ts';
import { type Connection, connectionsOf } from './connections.ts';
import { type AddressRange, type ExternalRange, externalRanges, joinRanges, rangeText } from './external.ts';
import { Legs, type Place, placeKey, placeOf } from './legs.ts';
import { type RangeSet, rangesKey, unionRanges, withoutRanges } from './ranges.ts';

/**
 * `from`, `to`: `ns/name[Kind]`, or `a.b.c.d-e.f.g.h[External]`. `audited`: those of the connections that pass by audit alone;
 * absent where all would pass without any.
 */
export type ReachRow = {
  readonly from: string;
  readonly to: string;
  readonly connections: readonly Connection[];
  readonly audited?: readonly Connection[];
};

/** `uneven`: workloads whose pods do not all have the same connections, so that a row may hold for some of them only. */
export type Reach = { readonly rows: readonly ReachRow[]; readonly uneven: readonly string[] };

const NOTHING: RangeSet = [];

/** What passes, and what would if all audits ended. */
type Both = { readonly heeded: Legs; readonly ignored: Legs };
type Passing = { readonly all: RangeSet; readonly enforced: RangeSet };

type Group = { readonly name: string; readonly places: readonly Place[] };

/**
 * Every connection that policy lets pass from one workload to another, or to and from the outside world. A row is
 * there if any pod of the one may reach any pod of the other: the question is what can happen, and to leave out a
 * connection that can would be the worse mistake. Pairs with nothing, and a workload to itself, are left out.
 */
export function reach(world: World, plan: Plan): Reach {
  const groups = workloadGroups(world, plan);
  const hasAudits = [...plan.endpoints.values()].some(({ audit }) => audit !== undefined);
  const heeded = new Legs(plan);
  const legs: Both = { heeded, ignored: hasAudits ? new Legs(plan, 'ignored') : heeded };
  const rows = [...innerRows(groups, legs), ...outerRows(plan, groups, legs)];
  rows.sort((a, b) => compareText(a.from, b.from) || compareText(a.to, b.to));
  return { rows, uneven: groups.filter((group) => isUneven(group)).map((group) => group.name) };
}

/** `ns/name[Kind]`. */
export function workloadName(workload: Workload): string {
  return `${workload.namespace}/${workload.name}[${workload.kind}]`;
}

/** Finished pods have no addresses of their own, so they are nowhere. */
function workloadGroups(world: World, plan: Plan): readonly Group[] {
  const groups = new Map<string, Place[]>();
  for (const pod of world.pods.values()) {
    if (pod.finished) continue;
    const name = workloadName(pod.workload);
    const places = groups.get(name) ?? [];
    groups.set(name, places);
    places.push(...placesOf(pod, plan));
  }
  return [...groups].map(([name, places]) => ({ name, places: distinct(places) }));
}

/** Replicas are mostly alike, and to ask once for each kind of them is enough. */
function distinct(places: readonly Place[]): readonly Place[] {
  const kinds = new Map<string, Place>();
  for (const place of places) {
    // A node's address passes to its own pods unjudged, so nodes are never alike.
    const where = place.endpoint?.node ?? (place.address === null ? '' : formatAddress(place.address));
    kinds.set(`${placeKey(place)}/${where}`, place);
  }
  return [...kinds.values()];
}

/** An address that another pod has by now is not this one's place. */
function placesOf(pod: Pod, plan: Plan): readonly Place[] {
  const places = pod.addresses.flatMap((address) => placeOf(plan, address) ?? []);
  return places.filter(({ endpoint }) => (pod.hostNetwork ? endpoint === null : endpoint?.pod === pod.key));
}

function innerRows(groups: readonly Group[], legs: Both): readonly ReachRow[] {
  return groups.flatMap((from) =>
    groups.flatMap((to) => (from === to ? [] : row(from.name, to.name, passing(legs, from.places, to.places)))),
  );
}

function passing({ heeded, ignored }: Both, sources: readonly Place[], destinations: readonly Place[]): Passing {
  const all = anyOf(heeded, sources, destinations);
  return { all, enforced: ignored === heeded ? all : anyOf(ignored, sources, destinations) };
}

function anyOf(legs: Legs, sources: readonly Place[], destinations: readonly Place[]): RangeSet {
  const found = new Set<RangeSet>();
  for (const from of sources) for (const to of destinations) found.add(legs.allowed(from, to));
  return [...found].reduce((all, one) => (all.length === 0 ? one : unionRanges(all, one)), NOTHING);
}

/** Sets are shared by many pairs. */
const CONNECTIONS = new WeakMap<RangeSet, readonly Connection[]>();

function row(from: string, to: string, { all, enforced }: Passing): readonly ReachRow[] {
  const connections = CONNECTIONS.get(all) ?? connectionsOf(all);
  CONNECTIONS.set(all, connections);
  const audited = all === enforced ? [] : connectionsOf(withoutRanges(all, enforced));
  if (connections.length === 0) return [];
  return [{ from, to, connections, ...(audited.length === 0 ? {} : { audited }) }];
}

/** The outside in each direction; ranges that come to the same are one row where they touch. */
function outerRows(plan: Plan, groups: readonly Group[], legs: Both): readonly ReachRow[] {
  const families: readonly Address['family'][] = [4, 6];
  return families.flatMap((family) => {
    const outside = externalRanges(plan, family);
    return groups.flatMap((group) => [
      ...outerRowsOf(outside, (range) => passing(legs, [placeOfRange(range)], group.places)).flatMap(
        ({ range, passes }) => row(`${rangeText(range)}[External]`, group.name, passes),
      ),
      ...outerRowsOf(outside, (range) => passing(legs, group.places, [placeOfRange(range)])).flatMap(
        ({ range, passes }) => row(group.name, `${rangeText(range)}[External]`, passes),
      ),
    ]);
  });
}

function placeOfRange({ family, identity }: ExternalRange): Place {
  return { family, identity, address: null, endpoint: null };
}

function outerRowsOf(
  outside: readonly ExternalRange[],
  passing: (range: ExternalRange) => Passing,
): readonly { readonly range: AddressRange; readonly passes: Passing }[] {
  const alike = new Map<string, Alike>();
  // Ranges of one identity are alike, and there may be far more ranges than identities.
  const known = new Map<IdentityNumber, ExternalRange[]>();
  for (const range of outside) {
    const members = known.get(range.identity) ?? entryOf(alike, passing(range)).members;
    known.set(range.identity, members);
    members.push(range);
  }
  return [...alike.values()].flatMap(({ passes, members }) => joinRanges(members).map((range) => ({ range, passes })));
}

type Alike = { readonly passes: Passing; readonly members: ExternalRange[] };

function entryOf(alike: Map<string, Alike>, passes: Passing): Alike {
  const { all, enforced } = passes;
  const key = all === enforced ? rangesKey(all) : `${rangesKey(all)}/${rangesKey(enforced)}`;
  const entry = alike.get(key) ?? { passes, members: [] };
  alike.set(key, entry);
  return entry;
}

/** Pods of one workload that policy tells apart, by their labels or by their addresses. */
function isUneven({ places }: Group): boolean {
  const families = Map.groupBy(places, (place) => place.family);
  return [...families.values()].some((alike) => new Set(alike.map(placeKey)).size > 1);
}
