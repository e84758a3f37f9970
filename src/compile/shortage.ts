// Who is told, and what, where a namespace's share of a node is used up.
import type { Source } from '#policy/model.ts';
import type { Block } from './active-policy.ts';
import type { Asked } from './allowance.ts';
import type { LayerRules } from './layer-rules.ts';
import type { Taken } from './shares.ts';

/** A namespace whose policies found no room for all that they say. */
export type Shortage = {
  readonly namespace: string;
  readonly spent: keyof Taken | keyof Asked;
  /** Whose room it is that is used up. */
  readonly of: 'namespace' | 'node';
  readonly limit: number;
  /** Layers that let nobody through, and how many peers others deny, each for the layers that it lacks. */
  readonly closed: number;
  readonly peers: number;
  /** Rules with peers that match nobody. */
  readonly rules: number;
  /** The first rule of the policy that has the most to say. */
  readonly largest: Source | null;
};

type Short = { readonly rules: LayerRules; readonly lacking: ReadonlySet<unknown>; readonly closed: boolean };

/** What lacks room, by namespace. */
export function shortagesOf(bodies: Iterable<Short>): Shortage[] {
  const byShare = Map.groupBy(bodies, ({ rules }) => rules.share);
  return [...byShare].map(([{ namespace, limits, spent }, of]) => {
    const what = spent ?? 'entries';
    const peers = of.reduce((sum, { lacking }) => sum + lacking.size, 0);
    const largest = sourceOf(of.flatMap(({ rules }) => [...rules.blocks()]));
    return {
      namespace,
      spent: what,
      of: 'namespace',
      limit: limits[what],
      closed: of.filter(({ closed }) => closed).length,
      peers,
      rules: 0,
      largest,
    };
  });
}

function sourceOf(blocks: readonly Block[]): Source | null {
  let [largest, most] = [null as Source | null, 0];
  for (const { parts, rules } of new Set(blocks)) {
    const size = parts.reduce((sum, { ranges }) => sum + 1 + ranges.length, 0);
    if (size > most) [largest, most] = [rules[0]?.info.source ?? null, size];
  }
  return largest;
}

const MEANING: Readonly<Record<keyof Taken | keyof Asked, string>> = {
  entries: 'entries of port tables',
  ranges: 'port ranges of matching rules',
  classes: 'peers with rules of their own',
  blocks: 'address blocks and exceptions',
  labels: 'values of selectors (1 024 for one that names none)',
};

/** The shortage for people: what was found, where, the limit, and what to do. */
export function shortageText({ namespace, spent, of, limit, closed, peers, rules, largest }: Shortage): string {
  const place = largest === null ? '' : `${largest.kind} ${largest.namespace}/${largest.name}: ${placeOf(largest)}: `;
  const denied =
    rules > 0
      ? `of ${rules} rules some peers match nobody`
      : closed === 0
        ? `${peers} peers are denied`
        : `${peers} peers, and all peers of ${closed} groups of pods, are denied`;
  const hint = 'give rules fewer ports and blocks, or peers fewer rules';
  const room = of === 'namespace' ? 'its share of a node' : 'the others leave of a node';
  return `${place}the policies of namespace ${namespace} need more than ${room}, ${limit} ${MEANING[spent]}: ${denied}; ${hint}`;
}

function placeOf({ file, line, path }: Source): string {
  return file === null ? path : `${path} (${file}:${line ?? 1})`;
}
