// The steps from one Plan to another, for those who hold two Plans and no compiler.
import { type Address, type AddressKey, formatAddress, parseAddress } from '#net/address.ts';
import type { Layer, Plan, SetNumber, Step, TableNumber } from './plan.ts';
import { sameValue } from './same.ts';
import { inSafeOrder } from './step-order.ts';

/** Steps that make `before` into `after`, in the order that is safe for packets in flight. */
export function diffPlans(before: Plan, after: Plan): readonly Step[] {
  const steps: Step[] = [...layerSteps(before, after), ...addressSteps(before, after)];
  const add = (step: Step): unknown => steps.push(step);
  compare(before.rules, after.rules, (rule, value) => add({ kind: 'rule', rule, value }));
  compare(before.tables, after.tables, (table, value) => add({ kind: 'table', table, value }));
  compare(before.identities, after.identities, (identity, value) => add({ kind: 'identity', identity, value }));
  compare(before.sets, after.sets, (set, value) => add({ kind: 'set', set, value }));
  compare(before.nodes, after.nodes, (node, value) => add({ kind: 'node', node, value }));
  compare(before.services, after.services, (key, value) => {
    const at = value ?? before.services.get(key);
    if (at !== undefined) add({ kind: 'service', at, value });
  });
  compare(before.endpoints, after.endpoints, (key, value) => {
    add({ kind: 'endpoint', address: addressOf(key), value });
  });
  return [...inSafeOrder(steps), ...epochSteps(before, after)];
}

type Visit<Key, Value> = (key: Key, value: Value | null) => void;

function compare<Key, Value>(
  before: ReadonlyMap<Key, Value>,
  after: ReadonlyMap<Key, Value>,
  visit: Visit<Key, Value>,
): void {
  for (const key of before.keys()) if (!after.has(key)) visit(key, null);
  for (const [key, value] of after) if (!sameValue(before.get(key), value)) visit(key, value);
}

const NO_CLASSES: Layer['classes'] = new Map();

function layerSteps(before: Plan, after: Plan): Step[] {
  const steps: Step[] = [];
  for (const layer of new Set([...before.layers.keys(), ...after.layers.keys()])) {
    const old = before.layers.get(layer);
    const now = after.layers.get(layer);
    if (now === undefined) steps.push({ kind: 'layer', layer, value: null });
    else if (old === undefined || old.base !== now.base)
      steps.push({ kind: 'layer', layer, value: { base: now.base } });
    compare(old?.classes ?? NO_CLASSES, now?.classes ?? NO_CLASSES, (identity, value) => {
      steps.push({ kind: 'class', layer, identity, value });
    });
  }
  return steps;
}

function addressSteps(before: Plan, after: Plan): Step[] {
  const steps: Step[] = [];
  compare(before.addresses, after.addresses, (key, value) => {
    steps.push({ kind: 'address', address: addressOf(key), value });
  });
  compare(before.prefixes, after.prefixes, (key, value) => {
    const cidr = (value ?? before.prefixes.get(key))?.cidr;
    if (cidr !== undefined) steps.push({ kind: 'prefix', cidr, value: value?.identity ?? null });
  });
  return steps;
}

/** Sets whose tables differ, all sets where a prefix does, and addresses whose identity does. */
function epochSteps(before: Plan, after: Plan): Step[] {
  const prefixes = addressSteps(before, after).some((step) => step.kind === 'prefix');
  const sets: SetNumber[] = [];
  for (const set of after.sets.keys())
    if (before.sets.has(set) && (prefixes || setDiffers(before, after, set))) sets.push(set);
  const peers: Address[] = [];
  compare(before.addresses, after.addresses, (key) => peers.push(addressOf(key)));
  for (const [key, identity] of after.addresses) {
    if (before.addresses.get(key) !== identity) continue;
    if (before.identities.get(identity)?.unknown !== after.identities.get(identity)?.unknown)
      peers.push(addressOf(key));
  }
  return sets.length + peers.length === 0 ? [] : [{ kind: 'epoch', sets, peers }];
}

function setDiffers(before: Plan, after: Plan, set: SetNumber): boolean {
  const layers = after.sets.get(set)?.layers ?? [];
  if (!sameValue(before.sets.get(set)?.layers, layers)) return true;
  return layers.some((layer) => layerDiffers(before, after, layer));
}

function layerDiffers(before: Plan, after: Plan, number: number): boolean {
  const old = before.layers.get(number);
  const now = after.layers.get(number);
  const same = (a: TableNumber | null | undefined, b: TableNumber | null | undefined): boolean =>
    a === b && (a == null || sameValue(before.tables.get(a), after.tables.get(a)));
  if (!same(old?.base, now?.base)) return true;
  const identities = new Set([...(old?.classes.keys() ?? []), ...(now?.classes.keys() ?? [])]);
  return [...identities].some((identity) => !same(old?.classes.get(identity), now?.classes.get(identity)));
}

function addressOf(key: AddressKey): Address {
  const address = parseAddress(key);
  if (address === null || formatAddress(address) !== key) throw new Error(`not an address: ${key}`);
  return address;
}
