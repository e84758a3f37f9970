// What the runs of a fuzz say of themselves, added up.

/** How many of what: `runs` of properties, `worlds`, `packets`. */
export type FuzzCounts = ReadonlyMap<string, number>;

const SAID = /^\s*# (?:seed -?\d+, )?((?:\d+ (?:runs|worlds|packets)(?:, |$))+)$/gm;

/** The counts in the diagnostics of a test's output (TAP): `# seed 7, 40 runs`, `# 40 worlds, 12000 packets`. */
export function readCounts(output: string): FuzzCounts {
  const parts = [...output.matchAll(SAID)].flatMap(([, said = '']) => said.split(', '));
  return parts.reduce<FuzzCounts>((sum, part) => {
    const [count, unit = ''] = part.split(' ');
    return addCounts(sum, new Map([[unit, Number(count)]]));
  }, new Map());
}

export function addCounts(a: FuzzCounts, b: FuzzCounts): FuzzCounts {
  const sum = new Map(a);
  for (const [unit, count] of b) sum.set(unit, (sum.get(unit) ?? 0) + count);
  return sum;
}

/** In words. */
export function formatCounts(counts: FuzzCounts): string {
  return counts.size === 0 ? 'no runs' : [...counts].map(([unit, count]) => `${count} ${unit}`).join(', ');
}
