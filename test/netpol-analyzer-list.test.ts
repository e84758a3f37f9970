// Reach against golden files that Moat did not make: netpol-analyzer's lists, those that a second evaluator reproduced
// and that use nothing but NetworkPolicy. Compared by meaning: external ranges cut at the same places, ports as sets.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addressNumber } from '#analyze/external.ts';
import { type ReachRow, reach, workloadName } from '#analyze/reach.ts';
import { planOf } from '#cli/plan.ts';
import { isInvalid, loadManifests } from '#cluster/load.ts';
import { parseAddress } from '#net/address.ts';
import type { World } from '#policy/world.ts';
import { CASES, needsCases } from './support/needs.ts';

const FOLDER = join(CASES, 'netpol-analyzer');

type Expectation = {
  readonly kind: string;
  readonly format: string;
  readonly dir: string;
  readonly expected: string;
  readonly kinds: readonly string[];
  readonly multipleNetworks: boolean;
  readonly verifiedByIndependentEvaluator: boolean;
};

/** Kinds of other issues' dialects, and of ways into the cluster that the analyzer models and a packet does not know. */
const OTHER_KINDS = ['AdminNetworkPolicy', 'BaselineAdminNetworkPolicy', 'Ingress', 'Route', 'ClusterNetworkPolicy'];

test('reach gives the connections of each verified list of netpol-analyzer (needs the cases)', needsCases, (t) => {
  const chosen = expectations();
  assert.ok(chosen.length >= 29, `found ${chosen.length} lists`);
  const counts = { lists: 0, connections: 0, setAside: 0 };
  for (const expectation of chosen) {
    const { compared, setAside } = compare(expectation);
    counts.lists++;
    counts.connections += compared;
    counts.setAside += setAside;
  }
  t.diagnostic(`${counts.lists} lists, ${counts.connections} connections compared, ${counts.setAside} set aside`);
  assert.ok(counts.connections > 1000, 'the lists hold connections');
});

function expectations(): readonly Expectation[] {
  const all = JSON.parse(readFileSync(join(FOLDER, 'index.json'), 'utf8')) as readonly Expectation[];
  return all
    .filter(({ kind, format, verifiedByIndependentEvaluator: ok }) => kind === 'list' && format === 'txt' && ok)
    .filter(({ kinds, multipleNetworks }) => !multipleNetworks && !kinds.some((kind) => OTHER_KINDS.includes(kind)));
}

/** `from to protocol` → the ports that are allowed. The outside is cut into pieces first. */
type Meaning = ReadonlyMap<string, string>;

function compare({ dir, expected }: Expectation): { readonly compared: number; readonly setAside: number } {
  const { world, diagnostics } = loadManifests([join(FOLDER, dir)]);
  assert.ok(!isInvalid(diagnostics), `${dir} is valid: ${JSON.stringify(diagnostics.slice(0, 3))}`);
  const found = reach(world, planOf(world, { ipBlockPods: false })).rows.map(foundLine);
  const golden = readFileSync(join(FOLDER, expected), 'utf8').split('\n').flatMap(goldenLine);
  const aside = hostNetworkWorkloads(world);
  const isAside = ({ from, to }: Line): boolean => aside.has(from) || aside.has(to);
  const cuts = cutsOf([...found, ...golden]);
  const [ours, theirs] = [found, golden].map((lines) =>
    meaningOf(
      lines.filter((line) => !isAside(line)),
      cuts,
    ),
  );
  assert.deepEqual(differences(ours ?? new Map(), theirs ?? new Map()), [], dir);
  return { compared: theirs?.size ?? 0, setAside: golden.filter(isAside).length };
}

/**
 * Deviation on purpose: the analyzer takes a hostNetwork pod for a pod like others. The standard calls policy for such
 * pods undefined, and leaves two possibilities: an engine can tell their traffic apart, or it ignores them in selectors
 * and treats their traffic as that of the node's address (Kubernetes documentation, "NetworkPolicy and hostNetwork
 * pods"). Moat does the second, as nearly all engines do, so lists with such a workload can't be the same.
 */
function hostNetworkWorkloads(world: World): ReadonlySet<string> {
  return new Set([...world.pods.values()].filter((pod) => pod.hostNetwork).map((pod) => workloadName(pod.workload)));
}

type Line = { readonly from: string; readonly to: string; readonly ports: ReadonlyMap<string, string> };

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'];
const ALL_PORTS = '1-65535';

/** Our row, in the analyzer's three protocols. */
function foundLine({ from, to, connections }: ReachRow): Line {
  const ports = connections
    .filter(({ protocol }) => PROTOCOLS.includes(protocol))
    .map(
      ({ protocol, ports: pairs }) => [protocol, pairs.map(([first, last]) => `${first}-${last}`).join(',')] as const,
    );
  return { from, to, ports: new Map(ports) };
}

/** `from => to : TCP 80,443-444,UDP 53` or `… : All Connections`. */
function goldenLine(text: string): readonly Line[] {
  const match = /^(\S+) => (\S+) : (.+)$/.exec(text.trim());
  if (match === null) return [];
  const [, from = '', to = '', connections = ''] = match;
  if (connections === 'All Connections')
    return [{ from, to, ports: new Map(PROTOCOLS.map((each) => [each, ALL_PORTS])) }];
  return [{ from, to, ports: goldenPorts(connections) }];
}

function goldenPorts(text: string): ReadonlyMap<string, string> {
  const ports = new Map<string, string>();
  for (const [, protocol = '', list = ''] of text.matchAll(/(TCP|UDP|SCTP) ([\d,-]+?)(?=,?(?:TCP|UDP|SCTP)|$)/g)) {
    const pairs = list.split(',').filter((each) => each !== '');
    ports.set(protocol, pairs.map((each) => (each.includes('-') ? each : `${each}-${each}`)).join(','));
  }
  return ports;
}

/** Where any range of either side begins, and one past where it ends. */
function cutsOf(lines: readonly Line[]): readonly bigint[] {
  const bounds = lines
    .flatMap(({ from, to }) => [from, to])
    .flatMap((end) => {
      const range = externalRange(end);
      return range === null ? [] : [range.first, range.last + 1n];
    });
  return [...new Set(bounds)].sort((a, b) => (a < b ? -1 : 1));
}

function externalRange(end: string): { readonly first: bigint; readonly last: bigint } | null {
  const match = /^([\d.]+)-([\d.]+)\[External\]$/.exec(end);
  const [first, last] = [parseAddress(match?.[1] ?? ''), parseAddress(match?.[2] ?? '')];
  return first === null || last === null ? null : { first: addressNumber(first), last: addressNumber(last) };
}

function pieces(end: string, cuts: readonly bigint[]): readonly string[] {
  const range = externalRange(end);
  if (range === null) return [end];
  return cuts.filter((cut) => range.first <= cut && cut <= range.last).map((cut) => `outside from ${cut}`);
}

function meaningOf(lines: readonly Line[], cuts: readonly bigint[]): Meaning {
  const meaning = new Map<string, string>();
  for (const { from, to, ports } of lines) {
    for (const source of pieces(from, cuts)) {
      for (const destination of pieces(to, cuts)) {
        for (const [protocol, list] of ports) meaning.set(`${source} => ${destination} ${protocol}`, list);
      }
    }
  }
  return meaning;
}

function differences(ours: Meaning, theirs: Meaning): readonly string[] {
  const keys = [...new Set([...ours.keys(), ...theirs.keys()])].filter((key) => ours.get(key) !== theirs.get(key));
  return keys
    .slice(0, 20)
    .map((key) => `${key}: ours ${ours.get(key) ?? 'nothing'}, theirs ${theirs.get(key) ?? 'nothing'}`);
}
