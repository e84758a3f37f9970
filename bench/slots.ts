// From the lines of bench/traffic.c to ratios, each with what the same path gives against itself.

/** One slot's figures of one pair: a rate, a cost, or microseconds at p50 and p99. */
export type Slot = { readonly pair: string; readonly values: readonly number[] };

/** A run of bench/traffic.c. `pooled`: of a pair's samples of all slots together; empty where a kind keeps no samples. */
export type Run = { readonly slots: readonly Slot[]; readonly pooled: ReadonlyMap<string, readonly number[]> };

/** Parses traffic's output. Throws on a line that is not one. */
export function parseRun(output: string): Run {
  const slots: Slot[] = [];
  const pooled = new Map<string, readonly number[]>();
  for (const line of output.trim().split('\n')) {
    const [slot, pair, ...texts] = line.split(' ');
    const values = texts.map(Number);
    if (pair === undefined || values.length === 0 || values.some(Number.isNaN)) {
      throw new Error(`traffic printed '${line}', which is no slot`);
    }
    if (slot === 'all') pooled.set(pair, values);
    else slots.push({ pair, values });
  }
  return { slots, pooled };
}

/** What is compared: column of the slots' values, and who stands against whom. */
export type Comparison = {
  readonly column: number;
  readonly pair: string;
  readonly against: string;
  /**
   * A median is the median over slots of the ratio to the baseline's slot of the same round. A far percentile is taken
   * of the samples of all slots: one slot has too few beyond it.
   */
  readonly by: 'slots' | 'pool';
};

export type Ratio = {
  readonly value: number;
  readonly ratio: number;
  /** 5th and 95th percentile of the slots' own ratios to the baseline's slot of the same round. */
  readonly spread: readonly [number, number];
};

/** Compares two pairs of one run. Throws where one of them was not measured. */
export function compareSlots(run: Run, { column, pair, against, by }: Comparison): Ratio {
  const values = columnOf(run.slots, pair, column);
  const baseline = columnOf(run.slots, against, column);
  const rounds = values.map((value, index) => value / (baseline[index] ?? Number.NaN));
  const [value, ratio] =
    by === 'slots'
      ? [quantile(values, 0.5), quantile(rounds, 0.5)]
      : [pooledOf(run, pair, column), pooledOf(run, pair, column) / pooledOf(run, against, column)];
  return {
    value: rounded(value),
    ratio: rounded(ratio),
    spread: [rounded(quantile(rounds, 0.05)), rounded(quantile(rounds, 0.95))],
  };
}

function columnOf(slots: readonly Slot[], pair: string, column: number): readonly number[] {
  const values = slots.filter((slot) => slot.pair === pair).map((slot) => slot.values[column]);
  if (values.length === 0 || values.includes(undefined)) throw new Error(`no slot of pair '${pair}' was measured`);
  return values.filter((value) => value !== undefined);
}

function pooledOf(run: Run, pair: string, column: number): number {
  const value = run.pooled.get(pair)?.[column];
  if (value === undefined) throw new Error(`traffic kept no samples of pair '${pair}'`);
  return value;
}

/** The value below which `share` of the values lie (nearest rank). */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const index = Math.min(sorted.length - 1, Math.floor(share * sorted.length));
  return sorted[index] ?? Number.NaN;
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
