// Which of many denied connections the demo explains, and what the kernel's rule ids stand for.
import type { NamedRule } from '#agent/protocol.ts';
import type { Direction } from '#policy/model.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';

/** A denied connection with the rule that its packet's event named, and that rule's places in the manifests. */
export type Denied = {
  readonly from: string;
  readonly to: string;
  readonly protocol: string;
  readonly port: number;
  readonly decidedBy: Direction;
  readonly rule: string;
  readonly places: readonly DeniedPlace[];
};

/** `object` as `NetworkPolicy shop/web`; `file` as the user knows it. */
export type DeniedPlace = { readonly object: string; readonly file: string | null; readonly line: number | null };

const SHOWN = 5;

/** A few that differ: by the end that denied them, by their namespaces; of each kind the one with the shortest story. */
export function pickDenied(
  rows: readonly ProbeRow[],
  rules: readonly NamedRule[],
  shown: (file: string) => string,
): readonly Denied[] {
  const named = new Map(rules.map((rule) => [rule.id as string, rule]));
  const denied = rows.flatMap((row) => deniedOf(row, named, shown));
  const kinds = [...Map.groupBy(denied, (each) => traitsOf(each).join(' ')).values()];
  const left = kinds.flatMap((alike) => alike.toSorted((a, b) => a.places.length - b.places.length)[0] ?? []);
  const picked: Denied[] = [];
  const seen = new Set<string>();
  while (picked.length < SHOWN && left.length > 0) {
    const news = left.map((each) => traitsOf(each).filter((trait) => !seen.has(trait)).length);
    const [next] = left.splice(news.indexOf(Math.max(...news)), 1);
    if (next === undefined) break;
    picked.push(next);
    for (const trait of traitsOf(next)) seen.add(trait);
  }
  return picked;
}

/** What makes one denial unlike another. */
function traitsOf({ from, to, decidedBy }: Denied): readonly string[] {
  const [source, destination] = [from, to].map((end) => end.split('/')[0]);
  return [decidedBy, `from ${source}`, `to ${destination}`, source === destination ? 'within' : 'across'];
}

function deniedOf(
  { from, to, protocol, port, decidedBy, rule }: ProbeRow,
  named: ReadonlyMap<string, NamedRule>,
  shown: (file: string) => string,
): readonly Denied[] {
  const id = decidedBy === null ? null : rule[decidedBy];
  if (decidedBy === null || id === null) return [];
  return [{ from, to, protocol, port, decidedBy, rule: id, places: placesOf(named.get(id), shown) }];
}

/** A rule's places, with the names of files that the user knows. */
export function placesOf(rule: NamedRule | null | undefined, shown: (file: string) => string): readonly DeniedPlace[] {
  return (rule?.places ?? []).map(({ object, file, line }) => ({
    object,
    line,
    file: file === null ? null : shown(file),
  }));
}
