// Packets with policy against the plain kernel without any: `make bench`. Needs root. One JSON line a figure on
// standard output; progress on standard error.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import type { Sandbox } from '#sandbox/sandbox.ts';
import { measureChanges } from './change.ts';
import { type Comparison, compareSlots, type Figure, parseSlots, quantile } from './slots.ts';
import { type Pair, pairArgument, startPlainWorld, startPolicyWorld } from './worlds.ts';

const SLOTS = Number(process.env.MOAT_BENCH_SLOTS ?? 100);
const SLOT_MS = 20;
const CHANGES = 50;
/** Both ends run on this one. */
const CPU = 1;
const POLICIES = [2, 1000] as const;
const PROGRAM = 'build/bench/traffic';

type Measure = { readonly kind: string; readonly columns: readonly { readonly name: string; readonly unit: string }[] };

const MEASURES: readonly Measure[] = [
  {
    kind: 'rtt',
    columns: [
      { name: 'TCP round trip p50', unit: 'µs' },
      { name: 'TCP round trip p99', unit: 'µs' },
    ],
  },
  { kind: 'udp', columns: [{ name: '64-byte UDP', unit: 'packets/s' }] },
  { kind: 'crr', columns: [{ name: 'new TCP connections', unit: '1/s' }] },
  { kind: 'bulk', columns: [{ name: 'TCP bulk', unit: 'bytes/s' }] },
];

function buildTraffic(): void {
  mkdirSync('build/bench', { recursive: true });
  execFileSync('clang', ['-O2', '-Wall', '-o', PROGRAM, 'bench/traffic.c'], { stdio: 'inherit' });
}

function measure(kind: string, pairs: readonly Pair[]): string {
  process.stderr.write(`bench: ${kind}, ${pairs.map((pair) => pair.name).join(' ')}\n`);
  const args = [kind, String(SLOTS), String(SLOT_MS), String(CPU), ...pairs.map(pairArgument)];
  return execFileSync(PROGRAM, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
}

/** Each pair against the plain one of its place, and that one against a second run of itself in the same rounds. */
function comparisonsOf({ columns }: Measure, pairs: readonly Pair[]): readonly Comparison[] {
  return columns.flatMap(({ name, unit }, column) =>
    pairs.flatMap((pair) => {
      const against = pair.name.endsWith('far') ? 'plain-far' : 'plain-near';
      if (pair.name === against) return [];
      return [{ name: `${name}, ${pair.name}`, unit, column, pair: pair.name, against }];
    }),
  );
}

function print(figure: Figure): void {
  process.stdout.write(`${JSON.stringify(figure)}\n`);
}

async function printChanges(sandbox: Sandbox, policies: number): Promise<void> {
  process.stderr.write(`bench: a changed policy among ${policies}\n`);
  const times = await measureChanges(sandbox, CHANGES);
  for (const [kind, values] of Object.entries(times)) {
    for (const share of [0.5, 0.99]) {
      const name = `policy change to first packet ${kind}, ${policies} policies, p${share * 100}`;
      print({ name, value: Number(quantile(values, share).toFixed(2)), unit: 'ms', baseline: null, ratio: null });
    }
  }
}

async function main(): Promise<void> {
  buildTraffic();
  const plain = await startPlainWorld();
  const worlds: Awaited<ReturnType<typeof startPolicyWorld>>[] = [];
  try {
    for (const policies of POLICIES) worlds.push(await startPolicyWorld(policies));
    const again = plain.pairs.map((pair) => ({ ...pair, name: pair.name.replace('plain', 'plain-again') }));
    const pairs = [...plain.pairs, ...again, ...worlds.flatMap((world) => world.pairs)];
    for (const one of MEASURES) {
      const slots = parseSlots(measure(one.kind, pairs));
      for (const comparison of comparisonsOf(one, pairs)) print(compareSlots(slots, comparison));
    }
    for (const [index, { sandbox }] of worlds.entries()) {
      const { nodes } = await sandbox.status();
      const value = Math.max(...nodes.map((node) => node.agent?.memoryMb ?? Number.NaN));
      const name = `agent memory, ${POLICIES[index]} policies`;
      print({ name, value, unit: 'MB resident', baseline: null, ratio: null });
      await printChanges(sandbox, POLICIES[index] ?? 0);
    }
  } finally {
    for (const { sandbox } of worlds) await sandbox.down();
    await plain.network.destroy();
  }
}

await main();
