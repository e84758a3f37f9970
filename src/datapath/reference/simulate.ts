// All pairs by ports, judged on a Plan: `moat probe --datapath simulate`.

import type { Plan } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { type Protocol, TCP } from '#net/protocol.ts';
import type { Flow, FlowVerdict } from '#policy/verdict.ts';
import type { Pod } from '#policy/world.ts';
import { judge } from './verdict.ts';

/** One end of a probe: `ns/pod` or an address as text, and the addresses it has. */
export type ProbeEnd = {
  readonly name: string;
  readonly addresses: readonly Address[];
  /** As a destination, this end is tried on these ports instead of those that the probe asks for. */
  readonly ports?: readonly ProbePort[];
};

export type ProbePort = { readonly protocol: Protocol; readonly port: number };

/** One connection to try. */
export type Probe = { readonly from: string; readonly to: string; readonly flow: Flow };

export type SimulatedProbe = Probe & { readonly verdict: FlowVerdict };

/** Which ends to try on which ports. */
export type ProbeAsk = {
  readonly sources: readonly ProbeEnd[];
  readonly destinations: readonly ProbeEnd[];
  readonly ports: readonly ProbePort[];
};

/**
 * Every source to every destination on every port; an end to itself is left out, as are pairs without a common
 * address family. Two ends of one pair use the first address of the destination whose family the source has.
 */
export function probePairs(ask: ProbeAsk): readonly Probe[] {
  const probes: Probe[] = [];
  for (const source of ask.sources) {
    for (const destination of ask.destinations) {
      const pair = source.name === destination.name ? null : commonFamily(source, destination);
      if (pair === null) continue;
      for (const port of destination.ports ?? ask.ports) {
        probes.push({ from: source.name, to: destination.name, flow: { ...pair, ...port } });
      }
    }
  }
  return probes;
}

/** The same pairs by the family that `primary` does not use, where both ends have it: policy can tell them apart. */
export function secondFamilyPairs(ask: ProbeAsk, primary: readonly Probe[]): readonly Probe[] {
  const names = (probe: Probe): string => `${probe.from} ${probe.to} ${probe.flow.from.family}`;
  const used = new Set(primary.map(names));
  return ([4, 6] as const).flatMap((family) => {
    const only = (ends: readonly ProbeEnd[]): readonly ProbeEnd[] =>
      ends.map((end) => ({ ...end, addresses: end.addresses.filter((address) => address.family === family) }));
    const pairs = probePairs({ ...ask, sources: only(ask.sources), destinations: only(ask.destinations) });
    return pairs.filter((probe) => !used.has(names(probe)));
  });
}

/** What is tried where nobody says what. */
export const DEFAULT_PORT: ProbePort = { protocol: TCP, port: 80 };

/** The ports that a pod declares, each once; TCP 80 for one that declares none. */
export function ownPorts(pod: Pod): readonly ProbePort[] {
  const declared = [...pod.ports, ...(pod.namelessPorts ?? [])];
  const ports = new Map(declared.map(({ protocol, port }) => [`${protocol}/${port}`, { protocol, port }]));
  return ports.size === 0 ? [DEFAULT_PORT] : [...ports.values()];
}

/** The verdict of each probe, in the order asked. */
export function simulate(plan: Plan, probes: readonly Probe[]): readonly SimulatedProbe[] {
  return probes.map((probe) => ({ ...probe, verdict: judge(plan, probe.flow) }));
}

function commonFamily(source: ProbeEnd, destination: ProbeEnd): { from: Address; to: Address } | null {
  for (const to of destination.addresses) {
    const from = source.addresses.find((address) => address.family === to.family);
    if (from !== undefined) return { from, to };
  }
  return null;
}
