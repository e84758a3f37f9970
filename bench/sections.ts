// The parts of the packet bench: which sides stand against which.
import type { Figures } from './figure.ts';
import { FULL, type LoadSize, MILLION } from './load.ts';
import { measureSuite, type Row } from './measures.ts';
import { moatSide, plainSide, Sides } from './sides.ts';
import { type BenchWorld, calicoWorld, loadWorld, openWorld } from './worlds.ts';

export type Section = (figures: Figures) => Promise<void>;

/** So many policies select the measured pods; the one that lets them speak to each other comes last. */
function selecting(policies: number, rules = 2): LoadSize {
  return { pods: 5000, policies: 0, selecting: policies - 1, rules };
}

/** The sections by name, in the order they run. */
export const SECTIONS: Readonly<Record<string, Section>> = {
  policies: async (figures) => {
    const few = moat('moat-2', loadWorld(selecting(2)));
    await againstPlain([few, moat('moat-1000', loadWorld(selecting(1000)))], figures);
  },
  none: async (figures) => {
    const many = moat('moat-10000', loadWorld(selecting(10_000)));
    await againstPlain([moat('moat-none', openWorld()), many], figures, { cpu: { most: 1.03 } });
  },
  rules: async (figures) => {
    const many = moat('moat-100000-rules', loadWorld(selecting(1001, 100)));
    await againstPlain([moat('moat-10-rules', loadWorld(selecting(6))), many], figures, { crr: { least: 0.97 } });
  },
  load: async (figures) => await againstPlain([moat('moat-load', loadWorld(FULL))], figures),
  calico: async (figures) => await againstPlain([moat('moat-calico-shape', calicoWorld())], figures),
  million: async (figures) => await againstPlain([moat('moat-1000000-rules', loadWorld(MILLION))], figures),
};

type Entry = { readonly name: string; readonly world: BenchWorld };

function moat(name: string, world: BenchWorld): Entry {
  return { name, world };
}

/**
 * Moat under each world against plain routing, on one node and on two; `bars`: those of the last world against the
 * first, on one node.
 */
async function againstPlain(entries: readonly Entry[], figures: Figures, bars?: Row['bars']): Promise<void> {
  const [first] = entries;
  const last = entries.at(-1);
  if (first === undefined || last === undefined) return;
  const plain = [plainSide('plain', first.world), plainSide('plain-twin', first.world)];
  const sides = await Sides.start([...plain, ...entries.map(({ name, world }) => moatSide(name, world))]);
  try {
    for (const end of ['near', 'far'] as const) {
      const baseline = sides.pair('plain', end);
      const row = (name: string, against: string, own: Row['bars']): Row => {
        return { name: `${name}-${end}`, pair: sides.pair(name, end), against: sides.pair(against, end), bars: own };
      };
      const rows = entries.map(({ name }) => row(name, 'plain', 'plain'));
      const compared = bars === undefined || end === 'far' ? [] : [row(last.name, first.name, bars)];
      await measureSuite(
        { end, baseline, control: sides.pair('plain-twin', end), rows: [...rows, ...compared] },
        figures,
      );
    }
    await printMemory(sides, entries, figures);
  } finally {
    await sides.down();
  }
}

async function printMemory(sides: Sides, entries: readonly Entry[], figures: Figures): Promise<void> {
  for (const { name } of entries) {
    const value = await sides.memoryMb(name);
    if (value === null) continue;
    figures.print({ name: `agent memory, ${name}`, value, unit: 'MB resident', baseline: null, ratio: null });
  }
}
