// A policy's rules in the form that layers are made of: parts, each with one kind of peer condition and its ports.
import type { AtomNumber, AtomSpec } from '#identity/atoms.ts';
import { unionOf } from '#identity/block-union.ts';
import { type AxisRange, axisRange, WHOLE_AXIS } from '#net/axis.ts';
import type { Protocol } from '#net/protocol.ts';
import type { Action, Peer, Policy, Port, Ports, Rule } from '#policy/model.ts';
import type { NamedPort } from '#policy/world.ts';
import type { Allowance } from './allowance.ts';
import type { RuleNumber } from './plan.ts';

/** A named port of an egress rule: resolved on the peer. */
export type PeerPort = { readonly atom: AtomNumber; readonly protocol: Protocol };

/** A rule, or the part of it that one named port is. Immutable; `serial` stands for all of it. */
export type Part = {
  readonly serial: number;
  /** Key in the order list. */
  readonly key: number;
  readonly action: Action;
  readonly rule: RuleNumber;
  /** The peer has one of these; null: any peer. */
  readonly atoms: readonly AtomNumber[] | null;
  /** One of the atoms is a selector: it could match a pod that is not known yet. */
  readonly selects: boolean;
  /** Null: `ranges` are the ports. */
  readonly port: PeerPort | null;
  readonly ranges: readonly AxisRange[];
};

/** The peers of a rule as atoms. */
export type Head = {
  readonly rule: Rule;
  readonly number: RuleNumber;
  readonly atoms: readonly AtomNumber[] | null;
  /** Some of its peers ask for more than there is (allowance.ts): an allow has none of them, another rule is for all. */
  readonly lacking: boolean;
  readonly selects: boolean;
  readonly ports: readonly PeerPort[];
};

const NO_PORTS: readonly PeerPort[] = [];
const EVERY_PORT: readonly AxisRange[] = [WHOLE_AXIS];
/** Of ports that are the same object, as those of many rules are (interner.ts), the ranges are, too. */
const RANGES = new WeakMap<Ports, readonly AxisRange[]>();

let serials = 0;

/** A number never given before: names a part, or a block of them, in keys. */
export function nextSerial(): number {
  serials += 1;
  return serials;
}

/** A rule that matches nothing uses no atoms. */
const NEVER: Pick<Head, 'atoms' | 'lacking' | 'selects' | 'ports'> = {
  atoms: [],
  lacking: false,
  selects: false,
  ports: [],
};

/** Peers and named ports of a rule as atoms; each use is counted. */
export function headOf(
  rule: Rule,
  number: RuleNumber,
  side: { readonly atoms: Pick<Allowance, 'acquire' | 'release'>; readonly direction: 'egress' | 'ingress' },
): Head {
  if (rule.ports.kind === 'these' && rule.ports.ports.length === 0) return { ...NEVER, rule, number };
  const peers = rule.peers.kind === 'any' ? null : rule.peers.peers;
  const named = side.direction === 'egress' && peers?.length !== 0 ? namedPorts(rule) : [];
  const specs = peers === null ? [] : specsOf(peers);
  const asked = specs.map((spec) => side.atoms.acquire(spec));
  const lacking = asked.includes(null);
  const found = lacking ? asked.filter((atom) => atom !== null) : (asked as readonly AtomNumber[]);
  const isForAll = peers === null || (lacking && rule.action !== 'allow');
  if (isForAll) for (const atom of found) side.atoms.release(atom);
  return {
    rule,
    number,
    atoms: isForAll ? null : found,
    lacking,
    selects: peers?.some((peer) => peer.kind === 'pods') ?? false,
    ports: named.length === 0 ? NO_PORTS : portsOf(named, side.atoms),
  };
}

function portsOf(named: ReturnType<typeof namedPorts>, atoms: Pick<Allowance, 'acquire'>): PeerPort[] {
  return named.flatMap(({ name, protocol }) => {
    const atom = atoms.acquire({ kind: 'port', name, protocol });
    return atom === null ? [] : [{ atom, protocol }];
  });
}

/** Every atom that the rules of a policy ask for. */
export function atomsOf(policy: Pick<Policy, 'egress' | 'ingress'>): AtomSpec[] {
  const specs: AtomSpec[] = [];
  const atoms = { acquire: (spec: AtomSpec) => specs.push(spec), release: () => undefined };
  for (const direction of ['egress', 'ingress'] as const) {
    for (const rule of policy[direction]) headOf(rule, 0, { direction, atoms });
  }
  return specs;
}

/** Selectors each on its own; all blocks together: only whether one of them holds an address counts. */
function specsOf(peers: readonly Peer[]): AtomSpec[] {
  const blocks = peers.filter((peer) => peer.kind === 'cidr');
  const selectors = peers.filter((peer) => peer.kind === 'pods');
  return blocks.length === 0 ? selectors : [...selectors, { kind: 'addresses', ...unionOf(blocks) }];
}

/** The parts of a rule. `subject`: the subject's named ports, for ingress; empty for egress. */
export function partsOf(head: Head, key: number, subject: readonly NamedPort[]): Part[] {
  if (head.atoms?.length === 0) return [];
  const { action } = head.rule;
  const common = { key, action, rule: head.number, atoms: head.atoms, selects: head.selects };
  const ranges = rangesOf(head.rule, subject);
  const plain = ranges.length === 0 ? [] : [{ ...common, serial: nextSerial(), port: null, ranges }];
  if (head.ports.length === 0) return plain;
  return [...plain, ...head.ports.map((port) => ({ ...common, serial: nextSerial(), port, ranges: [] }))];
}

/** Rules for any peer stand in the base table; a named port of an egress rule asks the peer. */
export function isBase(part: Part): boolean {
  return part.atoms === null && part.port === null;
}

/** Where a part's entries stand among those of a class. */
export function orderOf({ key }: Pick<Part, 'key'>): number {
  return key * 2;
}

/** The named ports that a rule mentions. */
export function namedPorts(rule: Rule): (Port & { kind: 'named' })[] {
  return rule.ports.kind === 'any' ? [] : rule.ports.ports.filter((port) => port.kind === 'named');
}

function rangesOf({ ports }: Rule, subject: readonly NamedPort[]): readonly AxisRange[] {
  if (ports.kind === 'any') return EVERY_PORT;
  const known = RANGES.get(ports);
  if (known !== undefined) return known;
  const named = Map.groupBy(subject, nameOf);
  const ranges = ports.ports.flatMap((port) => {
    if (port.kind === 'range') return [axisRange(port.protocol, port.first, port.last)];
    return (named.get(nameOf(port)) ?? []).map((one) => axisRange(one.protocol, one.port, one.port));
  });
  if (ports.ports.every(({ kind }) => kind === 'range')) RANGES.set(ports, ranges);
  return ranges;
}

function nameOf({ name, protocol }: Pick<NamedPort, 'name' | 'protocol'>): string {
  return `${name} ${protocol}`;
}
