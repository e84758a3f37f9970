// Rules as lines of text → tables of a Plan, for the conformance suite: `allow a tcp/80 udp/53-60`, `default`.

import type { IdentityNumber, Interval, PortTable, RuleInfo, RuleNumber } from '#compile/plan.ts';
import { type AxisRange, axisRange, WHOLE_AXIS } from '#net/axis.ts';
import { ICMP, ICMPV6, SCTP, TCP, UDP } from '#net/protocol.ts';
import type { Action, Direction, RuleId } from '#policy/model.ts';

/**
 * One rule of a layer: `action peer ports…`; the peer is `any` or a name; no ports = all of every protocol. After that,
 * `of cluster` makes it one that is of no namespace.
 */
export type RuleLine = string;

/** The line of a default deny, the last of a layer. */
export const DEFAULT: RuleLine = 'default';

const OF_CLUSTER = ' of cluster';

type Line = {
  readonly action: Action;
  readonly peer: string;
  readonly ranges: readonly AxisRange[];
  readonly rule: RuleNumber;
  readonly order: number;
};

const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['tcp', TCP],
  ['udp', UDP],
  ['sctp', SCTP],
  ['icmp', ICMP],
  ['icmpv6', ICMPV6],
]);

/** Tables of one layer: for any peer, and for each identity that a rule names. */
export type LayerTables = {
  readonly base: PortTable | null;
  readonly classes: ReadonlyMap<IdentityNumber, PortTable>;
};

/** Compiles a layer. A rule by name that denies or passes counts as a deny for addresses not known yet. */
export function layerTables(
  lines: readonly RuleLine[],
  names: {
    readonly ruleOf: (line: RuleLine) => RuleNumber;
    readonly identityOf: (peer: string) => IdentityNumber;
    readonly unknown: readonly IdentityNumber[];
  },
): LayerTables {
  const parsed = lines.map((line, order): Line => ({ ...parseLine(line), rule: names.ruleOf(line), order }));
  const any = parsed.filter((line) => line.peer === 'any');
  const named = parsed.filter((line) => line.peer !== 'any');
  const classes = new Map<IdentityNumber, PortTable>();
  for (const { peer } of named) {
    const table = flatten(named.filter((line) => line.peer === peer));
    classes.set(names.identityOf(peer), table);
  }
  const feared = named.filter((line) => line.action !== 'allow' && !line.peer.startsWith('world'));
  const asDeny = feared.map((line): Line => ({ ...line, action: 'deny' }));
  if (asDeny.length > 0) for (const identity of names.unknown) classes.set(identity, flatten(asDeny));
  return { base: any.length === 0 ? null : flatten(any), classes };
}

/** What a rule number of the suite stands for: its line is its id. */
export function ruleInfo(line: RuleLine, direction: Direction): RuleInfo {
  const source = { dialect: 'suite', kind: 'Suite', namespace: 'suite', name: line, path: '', file: null, line: null };
  const isDefault = line === DEFAULT;
  return {
    id: line as RuleId,
    direction,
    action: parseLine(line).action,
    source: isDefault ? null : source,
    policies: isDefault ? [source] : [],
    places: 1,
    ...(line.endsWith(OF_CLUSTER) ? {} : { own: true }),
  };
}

function parseLine(line: RuleLine): Omit<Line, 'rule' | 'order'> {
  if (line === DEFAULT) return { action: 'deny', peer: 'any', ranges: [WHOLE_AXIS] };
  const [action, peer = 'any', ...ports] = line.replace(OF_CLUSTER, '').split(' ');
  if (action !== 'allow' && action !== 'deny' && action !== 'pass') throw new Error(`no action: ${line}`);
  return { action, peer, ranges: ports.length === 0 ? [WHOLE_AXIS] : ports.map(parseRange) };
}

/** `tcp`, `tcp/80`, `udp/1-9`, `47`; for ICMP the number is the type, all its codes. */
function parseRange(text: string): AxisRange {
  const [name = '', ports] = text.split('/');
  const protocol = PROTOCOLS.get(name) ?? Number(name);
  if (ports === undefined) return axisRange(protocol);
  const [first = '', last = first] = ports.split('-');
  if (protocol === ICMP || protocol === ICMPV6)
    return axisRange(protocol, Number(first) << 8, (Number(last) << 8) | 255);
  return axisRange(protocol, Number(first), Number(last));
}

/** First line that covers a position decides it. */
function flatten(lines: readonly Line[]): PortTable {
  const cuts = new Set<number>();
  for (const line of lines) for (const range of line.ranges) cuts.add(range.first).add(range.last + 1);
  const starts = [...cuts].sort((a, b) => a - b);
  const table: Interval[] = [];
  for (const [index, first] of starts.entries()) {
    const end = starts[index + 1];
    const line = lines.find(({ ranges }) => ranges.some((range) => range.first <= first && first <= range.last));
    if (end === undefined || line === undefined) continue;
    const previous = table.at(-1);
    const { action, rule, order } = line;
    if (previous?.last === first - 1 && previous.rule === rule)
      table[table.length - 1] = { ...previous, last: end - 1 };
    else table.push({ first, last: end - 1, action, rule, order });
  }
  return table;
}
