// What must hold of any Plan, and what two Plans have in common apart from numbers.
import type { Interval, Layer, Plan, TableNumber } from '#compile/plan.ts';

/** A Plan as `emptyPlan` makes one: a compiler's shows addresses that it does not hold, and classes in pages. */
export function inMaps(plan: Plan): Plan {
  const layers = [...plan.layers].map(
    ([number, { base, classes }]) => [number, { base, classes: new Map(classes) }] as const,
  );
  return { ...plan, addresses: new Map(plan.addresses), layers: new Map(layers) };
}

/** The first pointer to something that the Plan does not hold; null where there is none. */
export function danglingPointer(plan: Plan): string | null {
  for (const [number, table] of plan.tables) {
    for (const { rule } of table) if (!plan.rules.has(rule)) return `table ${number} → rule ${rule}`;
  }
  for (const [number, layer] of plan.layers) {
    if (layer.base !== null && !plan.tables.has(layer.base)) return `layer ${number} → base ${layer.base}`;
    for (const [identity, table] of layer.classes) {
      if (!plan.tables.has(table)) return `layer ${number}, identity ${identity} → table ${table}`;
    }
  }
  for (const [number, set] of plan.sets) {
    for (const layer of set.layers) if (!plan.layers.has(layer)) return `set ${number} → layer ${layer}`;
  }
  for (const [key, identity] of plan.addresses) if (!plan.identities.has(identity)) return `${key} → ${identity}`;
  for (const [key, { identity }] of plan.prefixes) if (!plan.identities.has(identity)) return `${key} → ${identity}`;
  for (const [key, { egress, ingress }] of plan.endpoints) {
    if (!plan.sets.has(egress) || !plan.sets.has(ingress)) return `endpoint ${key} → set ${egress} or ${ingress}`;
  }
  return null;
}

/** A table whose intervals are not ascending and apart; null where there is none. */
export function disorder(plan: Plan): string | null {
  for (const [number, table] of plan.tables) {
    for (const [index, { first, last }] of table.entries()) {
      if (first > last || first <= (table[index - 1]?.last ?? -1)) return `table ${number} at ${index}`;
    }
  }
  return null;
}

/**
 * A Plan without its numbers: members of each identity, and what each endpoint meets, tables written out with rule
 * ids and with the ranks of orders within a layer.
 */
export function withoutNumbers(plan: Plan): unknown {
  const members = membersOf(plan);
  const name = (identity: number): string => (members.get(identity) ?? []).join(' ');
  const set = (number: number): unknown =>
    plan.sets.get(number)?.layers.map((layer) => layerWithoutNumbers(plan, plan.layers.get(layer), name));
  return {
    identities: [...plan.identities].map(([number, { unknown }]) => `${unknown} ${name(number)}`).sort(),
    endpoints: [...plan.endpoints]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, { pod, node, egress, ingress }]) => ({ key, pod, node, egress: set(egress), ingress: set(ingress) })),
    nodes: [...plan.nodes].sort(([a], [b]) => (a < b ? -1 : 1)),
    rules: [...plan.rules.values()].map((rule) => JSON.stringify(rule)).sort(),
    counts: [plan.tables.size, plan.layers.size, plan.sets.size],
  };
}

function membersOf(plan: Plan): Map<number, string[]> {
  const members = new Map<number, string[]>();
  const add = (identity: number, name: string): unknown =>
    members.set(identity, [...(members.get(identity) ?? []), name].sort());
  for (const [key, identity] of plan.addresses) add(identity, key);
  for (const [key, { identity }] of plan.prefixes) add(identity, key);
  return members;
}

function layerWithoutNumbers(plan: Plan, layer: Layer | undefined, name: (identity: number) => string): unknown {
  if (layer === undefined) return 'missing';
  const table = (number: TableNumber | null): readonly Interval[] =>
    number === null ? [] : (plan.tables.get(number) ?? []);
  const tables = [layer.base, ...layer.classes.values()].map(table);
  const orders = [...new Set(tables.flat().map(({ order }) => order))].sort((a, b) => a - b);
  const text = (number: TableNumber | null): string[] =>
    table(number).map(({ first, last, action, rule, order }) => {
      return `${first}-${last} ${action} ${plan.rules.get(rule)?.id} ${orders.indexOf(order)}`;
    });
  const classes = [...layer.classes].map(([identity, number]) => [name(identity), text(number)]);
  return { base: text(layer.base), classes: classes.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)) };
}
