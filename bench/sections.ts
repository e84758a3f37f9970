// The parts of the packet bench: which sides stand against which.
import type { Figures } from './figure.ts';
import { FULL, MILLION } from './load.ts';
import { measureSuite, type Row } from './measures.ts';
import type { End } from './network.ts';
import { calicoRules } from './peers/calico.ts';
import { enforceNftables, iptablesEnforcer } from './peers/enforce.ts';
import { kubeRouterRules } from './peers/kube-router.ts';
import { moatSide, plainSide, type Side, Sides } from './sides.ts';
import type { Kind } from './traffic.ts';
import { type BenchWorld, calicoWorld, loadWorld, openWorld, selectingWorld } from './worlds.ts';

export type Section = (figures: Figures) => Promise<void>;

/** The sections by name, in the order they run. */
export const SECTIONS: Readonly<Record<string, Section>> = {
  policies: async (figures) => {
    const few = moat('moat-2', selectingWorld(2));
    await againstPlain([few, moat('moat-1000', selectingWorld(1000))], figures);
  },
  none: async (figures) => {
    const many = moat('moat-10000', selectingWorld(10_000));
    await againstPlain([moat('moat-none', openWorld()), many], figures, { bars: { cpu: { most: 1.03 } } });
  },
  rules: async (figures) => {
    const many = moat('moat-100000-rules', selectingWorld(1001, 100));
    await againstPlain([moat('moat-10-rules', selectingWorld(6)), many], figures, { bars: { crr: { least: 0.97 } } });
  },
  load: async (figures) => await againstPlain([moat('moat-load', loadWorld(FULL))], figures),
  calico: async (figures) => await againstPlain([moat('moat-calico-shape', calicoWorld())], figures),
  again: async (figures) => {
    const [shape, few] = [calicoWorld(), selectingWorld(2)];
    const entries = [1, 2, 3].flatMap((n) => [moat(`moat-calico-shape-${n}`, shape), moat(`moat-2-${n}`, few)]);
    await againstPlain(entries, figures, { ends: ['near'], kinds: ['rtt', 'crr'] });
  },
  million: async (figures) => await againstPlain([moat('moat-1000000-rules', loadWorld(MILLION))], figures),
  peers10: async (figures) => await againstPeers(10, figures),
  peers1000: async (figures) => await againstPeers(1000, figures),
  peers10000: async (figures) => await againstPeers(10_000, figures),
};

type Entry = { readonly name: string; readonly world: BenchWorld };

function moat(name: string, world: BenchWorld): Entry {
  return { name, world };
}

type Chosen = {
  /** Those of the last world against the first, on one node. */
  readonly bars?: Row['bars'];
  readonly ends?: readonly End[];
  readonly kinds?: readonly Kind[];
};

/** Moat under each world against plain routing, by default with all traffic on one node and on two. */
async function againstPlain(entries: readonly Entry[], figures: Figures, chosen: Chosen = {}): Promise<void> {
  const { bars, ends = ['near', 'far'], kinds } = chosen;
  const [first] = entries;
  const last = entries.at(-1);
  if (first === undefined || last === undefined) return;
  const plain = [plainSide('plain', first.world), plainSide('plain-twin', first.world)];
  const sides = await Sides.start([...plain, ...entries.map(({ name, world }) => moatSide(name, world))]);
  try {
    for (const end of ends) {
      const baseline = sides.pair('plain', end);
      const row = (name: string, against: string, own: Row['bars']): Row => {
        const figure = against === 'plain' ? `${name}-${end}` : `${name}-${end} against ${against}`;
        return { name: figure, pair: sides.pair(name, end), against: sides.pair(against, end), bars: own };
      };
      const rows = entries.map(({ name }) => row(name, 'plain', 'plain'));
      const compared = bars === undefined || end === 'far' ? [] : [row(last.name, first.name, bars)];
      const control = sides.pair('plain-twin', end);
      const suite = { end, baseline, control, rows: [...rows, ...compared] };
      await measureSuite(kinds === undefined ? suite : { ...suite, kinds }, figures);
    }
    await printMemory(sides, entries, figures);
  } finally {
    await sides.down();
  }
}

/** iptables comes in two makes; the older one was the faster here in every cell, so it stands for both. */
const KUBE_ROUTER = iptablesEnforcer(kubeRouterRules, 'legacy');
const CALICO = iptablesEnforcer(calicoRules, 'legacy');

/** Moat against other engines' rules for the same policies, and everybody against plain routing; on one node. */
async function againstPeers(policies: number, figures: Figures): Promise<void> {
  const world = selectingWorld(policies);
  const peers: readonly Side[] = [
    { name: 'kube-router-chains', world, enforcer: KUBE_ROUTER },
    { name: 'calico-chains', world, enforcer: CALICO },
    { name: 'calico-chains-middle', world: selectingWorld(policies, 2, 'middle'), enforcer: CALICO },
    { name: 'nftables-sets', world, enforcer: enforceNftables },
  ];
  const own = moatSide('moat', world);
  const sides = await Sides.start([plainSide('plain', world), plainSide('plain-twin', world), own, ...peers]);
  try {
    const [baseline, pair] = [sides.pair('plain', 'near'), sides.pair('moat', 'near')];
    const suffix = `${policies} policies`;
    const rows = peers.flatMap(({ name }): Row[] => {
      const peer = sides.pair(name, 'near');
      return [
        { name: `moat against ${name}, ${suffix}`, pair, against: peer, bars: 'ahead' },
        { name: `${name}, ${suffix}`, pair: peer, against: baseline, bars: {} },
      ];
    });
    const moatRow: Row = { name: `moat, ${suffix}`, pair, against: baseline, bars: {} };
    const control = sides.pair('plain-twin', 'near');
    await measureSuite(
      { end: 'near', baseline, control, rows: [moatRow, ...rows], kinds: ['rtt', 'udp', 'crr'] },
      figures,
    );
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
