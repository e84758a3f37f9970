// From the lines of bench/traffic.c to ratios: medians over interleaved slots, with what the same path gives against itself.

/** One slot's figures of one pair: a rate, or microseconds at p50 and p99. */
export type Slot = { readonly pair: string; readonly values: readonly number[] };

/** One line of the bench contract. `ratio` is against `baseline`; both null where nothing is compared. */
export type Figure = {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly baseline: string | null;
  readonly ratio: number | null;
  /** 5th and 95th percentile of the slots' own ratios to their round's baseline slot. */
  readonly spread?: readonly [number, number];
};

/** Parses traffic's output. Throws on a line that is not one. */
export function parseSlots(output: string): readonly Slot[] {
  return output
    .trim()
    .split('\n')
    .map((line) => {
      const [, pair, ...values] = line.split(' ');
      const numbers = values.map(Number);
      if (pair === undefined || numbers.length === 0 || numbers.some(Number.isNaN)) {
        throw new Error(`traffic printed '${line}', which is no slot`);
      }
      return { pair, values: numbers };
    });
}

/** What is compared: column of the slot's values, and who stands against whom. */
export type Comparison = {
  readonly name: string;
  readonly unit: string;
  readonly column: number;
  readonly pair: string;
  readonly against: string;
};

/** The median of a pair's slots, as a ratio to the median of its baseline's slots of the same run. */
export function compareSlots(slots: readonly Slot[], comparison: Comparison): Figure {
  const { name, unit, column, pair, against } = comparison;
  const values = columnOf(slots, pair, column);
  const baseline = columnOf(slots, against, column);
  const rounds = values.map((value, index) => value / (baseline[index] ?? Number.NaN));
  return {
    name,
    value: rounded(quantile(values, 0.5)),
    unit,
    baseline: against,
    ratio: rounded(quantile(values, 0.5) / quantile(baseline, 0.5)),
    spread: [rounded(quantile(rounds, 0.05)), rounded(quantile(rounds, 0.95))],
  };
}

function columnOf(slots: readonly Slot[], pair: string, column: number): readonly number[] {
  const values = slots.filter((slot) => slot.pair === pair).map((slot) => slot.values[column]);
  if (values.length === 0 || values.includes(undefined)) throw new Error(`no slot of pair '${pair}' was measured`);
  return values.filter((value) => value !== undefined);
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
