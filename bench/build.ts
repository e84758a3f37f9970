// The compiler alone at the load of the bars: a full build from objects in memory, and what sharing saves of the
// kernel's tables. CPU time: what other processes do meanwhile does not count. LOAD=full, calico or million.
import { Compiler } from '#compile/compiler.ts';
import type { LayerNumber, Plan, TableNumber } from '#compile/plan.ts';
import { STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import { CalicoLoad } from './calico-load.ts';
import { Figures } from './figure.ts';
import { FULL, Load, MILLION, NODE } from './load.ts';

/** Milliseconds of a full build: 1.5 s, and 1.2 times that with a million rules. */
const LOADS = {
  full: { make: () => new Load(FULL), mostMs: 1500 },
  calico: { make: () => new CalicoLoad(), mostMs: 1500 },
  million: { make: () => new Load(MILLION), mostMs: 1800 },
} as const;

/** Bytes in the kernel of an arena record, and of a class entry with its hash element. */
const RECORD = 16;
const CLASS = 64;

/** Bytes that a layer's tables and classes take, each table once. */
function layerBytes(plan: Plan, number: LayerNumber, counted: Set<TableNumber>): number {
  const layer = plan.layers.get(number);
  if (layer === undefined) throw new Error(`layer ${number} is not in the plan`);
  let bytes = layer.classes.size * CLASS;
  for (const table of [layer.base, ...layer.classes.values()]) {
    if (table === null || counted.has(table)) continue;
    counted.add(table);
    bytes += (1 + (plan.tables.get(table)?.length ?? 0)) * RECORD;
  }
  return bytes;
}

/** With sharing: each layer and table once. Without: once for each endpoint. */
function sharing(plan: Plan): { readonly shared: number; readonly alone: number } {
  const counted = new Set<TableNumber>();
  let shared = 0;
  for (const layer of plan.layers.keys()) shared += layerBytes(plan, layer, counted);
  let alone = 0;
  for (const { egress, ingress } of plan.endpoints.values()) {
    const own = new Set<TableNumber>();
    for (const set of [egress, ingress]) {
      for (const layer of plan.sets.get(set)?.layers ?? []) alone += layerBytes(plan, layer, own);
    }
  }
  return { shared, alone };
}

function measure(figures: Figures, name: keyof typeof LOADS): void {
  const { make, mostMs } = LOADS[name];
  const events: WorldEvent[] = [...make().pages()].flat();
  const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (pod) => pod.node === NODE });
  const start = process.threadCpuUsage();
  compiler.apply(events);
  const { user, system } = process.threadCpuUsage(start);
  const none = { baseline: null, ratio: null };
  const value = Math.round((user + system) / 1000);
  figures.print({ name: `full build, ${name} load: CPU`, value, unit: 'ms', ...none, bar: { most: mostMs } });
  const { plan } = compiler;
  figures.print({ name: `rules on the node, ${name} load`, value: plan.rules.size, unit: 'count', ...none });
  figures.print({ name: `identities, ${name} load`, value: plan.identities.size, unit: 'count', ...none });
  const { shared, alone } = sharing(plan);
  const ratio = Number((shared / alone).toFixed(4));
  const kilobytes = Math.round(shared / 1000);
  const what = { name: `policy in the kernel's tables, ${name} load`, value: kilobytes, unit: 'kB' };
  figures.print({ ...what, baseline: 'the same, each pod with tables of its own', ratio, bar: { most: 0.05 } });
}

const figures = new Figures();
const chosen = process.env.LOAD ?? 'full,calico';
for (const name of ['full', 'calico', 'million'] as const) if (chosen.split(',').includes(name)) measure(figures, name);
figures.close();
