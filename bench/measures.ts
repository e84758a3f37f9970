// What is measured of each pair of pods, how often, and what bars hold for it (issue 3, §3).
import type { Bar, Figures } from './figure.ts';
import type { End, Pair } from './network.ts';
import { type Comparison, compareSlots, type Ratio, type Run } from './slots.ts';
import { type Kind, runTraffic } from './traffic.ts';

/** One figure of a kind of traffic: a column of its slots. */
type Column = {
  readonly name: string;
  readonly unit: string;
  readonly column: number;
  readonly by: Comparison['by'];
  /** Against plain routing: one node, two nodes. */
  readonly bars: Partial<Record<End, Bar>>;
  /** Whether more is better: a peer that we are compared with is passed, where so. */
  readonly more: boolean;
};

type Measure = { readonly kind: Kind; readonly slots: number; readonly columns: readonly Column[] };

/** Slots are as many as a control within a hundredth needs; the 99th percentile needs the most by far. */
const SCALE = Number(process.env.MOAT_BENCH_SLOTS ?? 100) / 100;

const MEASURES: readonly Measure[] = [
  {
    kind: 'rtt',
    slots: 500,
    columns: [
      column('TCP round trip p50', 'µs', { bars: { near: { most: 1 }, far: { most: 1.05 } } }),
      column('TCP round trip p99', 'µs', { bars: { near: { most: 1 } }, column: 1, by: 'pool' }),
    ],
  },
  { kind: 'udp', slots: 150, columns: [column('64-byte UDP', 'packets/s', { bars: { near: { least: 1.15 } } })] },
  { kind: 'cpu', slots: 200, columns: [column('CPU a packet', 'ns', { bars: { near: { most: 1 } } })] },
  { kind: 'crr', slots: 200, columns: [column('new TCP connections', '1/s', { bars: { near: { least: 1 } } })] },
  { kind: 'bulk', slots: 150, columns: [column('TCP bulk', 'bytes/s', { bars: { near: { least: 1 } } })] },
];
/** On two nodes, where no bar is on a far percentile. */
const FAR_SLOTS = 150;

function column(name: string, unit: string, rest: Partial<Column>): Column {
  return { name, unit, column: 0, by: 'slots', bars: {}, more: unit.endsWith('/s'), ...rest };
}

/** Bars of the kinds of traffic that have one; or those of packets against plain routing; or a peer to be ahead of. */
type Bars = Readonly<Partial<Record<Kind, Bar>>> | 'plain' | 'ahead';

/** A pair that is measured, whom it stands against, and the bars for it. */
export type Row = { readonly name: string; readonly pair: Pair; readonly against: Pair; readonly bars: Bars };

export type Suite = {
  readonly end: End;
  readonly baseline: Pair;
  /** The baseline's twin: another network of the same shape. What differs here is the machine, not a path. */
  readonly control: Pair;
  readonly rows: readonly Row[];
  readonly kinds?: readonly Kind[];
};

/** In thousandths. */
const CONTROL = 10;
/** A machine that is not itself for a while is given time to become so. */
const ATTEMPTS = 3;

/** Measures all rows and the control in the same rounds, and prints a figure for each. */
export async function measureSuite(suite: Suite, figures: Figures): Promise<void> {
  const pairs = [suite.baseline, suite.control, ...suite.rows.flatMap((row) => [row.pair, row.against])];
  const distinct = [...new Map(pairs.map((pair) => [pair.name, pair])).values()];
  for (const measure of MEASURES) {
    if (suite.kinds !== undefined && !suite.kinds.includes(measure.kind)) continue;
    const wanted = suite.end === 'near' ? measure.slots : Math.min(measure.slots, FAR_SLOTS);
    const slots = Math.max(2, Math.round(wanted * SCALE));
    let run = await runTraffic(measure.kind, slots, distinct);
    for (
      let attempt = 1;
      attempt < ATTEMPTS && measure.columns.some((one) => isOff(controlOf(suite, run, one)));
      attempt++
    ) {
      process.stderr.write('bench: the control is off; once more\n');
      run = await runTraffic(measure.kind, slots, distinct);
    }
    for (const one of measure.columns) printColumn({ suite, run, kind: measure.kind, column: one }, figures);
  }
}

type Measured = { readonly suite: Suite; readonly run: Run; readonly kind: Kind; readonly column: Column };

function printColumn({ suite, run, kind, column: one }: Measured, figures: Figures): void {
  const compare = (pair: Pair, against: Pair): Ratio => {
    return compareSlots(run, { column: one.column, pair: pair.name, against: against.name, by: one.by });
  };
  const control = controlOf(suite, run, one);
  const invalid = isOff(control) ? { invalid: `the control differs from its twin by ${percent(control.ratio)}` } : {};
  const figure = { unit: one.unit, ...invalid };
  figures.print({ ...figure, name: `${one.name}, ${suite.control.name}`, baseline: suite.baseline.name, ...control });
  for (const row of suite.rows) {
    const bar = barOf(row.bars, { suite, kind, column: one });
    const barred = bar === undefined ? {} : { bar };
    const compared = compare(row.pair, row.against);
    figures.print({ ...figure, ...barred, name: `${one.name}, ${row.name}`, baseline: row.against.name, ...compared });
  }
}

function controlOf(suite: Suite, run: Run, { column: index, by }: Column): Ratio {
  return compareSlots(run, { column: index, pair: suite.control.name, against: suite.baseline.name, by });
}

function isOff({ ratio }: Ratio): boolean {
  return Math.round(Math.abs(ratio - 1) * 1000) > CONTROL;
}

function barOf(bars: Bars, { suite, kind, column: one }: Omit<Measured, 'run'>): Bar | undefined {
  if (bars === 'plain') return one.bars[suite.end];
  if (bars === 'ahead') return one.more ? { least: 1 } : { most: 1 };
  return bars[kind];
}

function percent(ratio: number): string {
  return `${((ratio - 1) * 100).toFixed(1)} %`;
}
