// One line of the bench contract, and the list of bars that were missed.

/** `most`: the ratio, or the value where nothing is compared, is at most this; `least`: at least. */
export type Bar = { readonly most: number } | { readonly least: number };

/** `ratio` is against `baseline`; both null where nothing is compared. */
export type Figure = {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly baseline: string | null;
  readonly ratio: number | null;
  /** 5th and 95th percentile of the slots' own ratios. */
  readonly spread?: readonly [number, number];
  readonly bar?: Bar;
  /** Whether the bar is met, and the run it comes from valid. */
  readonly ok?: boolean;
  /** Why the figure says nothing. */
  readonly invalid?: string;
};

/** Bars have two decimals, so a ratio is rounded to two before it is held against one. */
export function meets(ratio: number, bar: Bar): boolean {
  const rounded = Math.round(ratio * 100) / 100;
  return 'most' in bar ? rounded <= bar.most : rounded >= bar.least;
}

/** Prints figures as they come; keeps what must be said again at the end. */
export class Figures {
  readonly #missed: string[] = [];

  print(figure: Omit<Figure, 'ok'>): void {
    const { name, value, unit, baseline, ratio, bar, invalid, ...rest } = figure;
    const judged = bar === undefined ? {} : { bar, ok: meets(ratio ?? value, bar) && invalid === undefined };
    const doubt = invalid === undefined ? {} : { invalid };
    const line: Figure = { name, value, unit, baseline, ratio, ...rest, ...judged, ...doubt };
    process.stdout.write(`${JSON.stringify(line)}\n`);
    if (judged.ok === false || invalid !== undefined) this.#missed.push(sayMissed(figure));
  }

  /** Says on standard error which bars were missed. Returns how many. */
  close(): number {
    for (const text of this.#missed) process.stderr.write(`bench: ${text}\n`);
    return this.#missed.length;
  }
}

/** Measures at each of the loads, or at the one that LOAD names, and ends the process. `million` only where it is named. */
export async function measureLoads<Name extends string>(
  names: readonly Name[],
  measure: (figures: Figures, name: Name) => Promise<void>,
): Promise<never> {
  const figures = new Figures();
  const chosen = process.env.LOAD;
  for (const name of names) {
    if (chosen === name || (chosen === undefined && name !== 'million')) await measure(figures, name);
  }
  figures.close();
  process.exit(0);
}

function sayMissed({ name, value, ratio, bar, invalid }: Omit<Figure, 'ok'>): string {
  if (invalid !== undefined) return `not valid: ${name}: ${ratio} (${invalid})`;
  return `missed: ${name}: ${ratio ?? value}, the bar is ${JSON.stringify(bar)}`;
}
