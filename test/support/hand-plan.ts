// Plans written by hand, as steps, for datapath tests: a few sets, tables and identities with fixed numbers.
import type { Interval, Step } from '#compile/plan.ts';
import type { Address } from '#net/address.ts';
import { parseCidr } from '#net/cidr.ts';
import { podKey } from '#policy/world.ts';

export const WORLD = 1;
export const OPEN_SET = 1;

/** Everything that must be there before endpoints: both families' whole space is identity WORLD, set 1 is open. */
export function ground(): Step[] {
  return [
    { kind: 'identity', identity: WORLD, value: { unknown: false } },
    prefixStep('0.0.0.0/0', WORLD),
    prefixStep('::/0', WORLD),
    { kind: 'set', set: OPEN_SET, value: { layers: [] } },
  ];
}

export function prefixStep(text: string, identity: number | null): Step {
  const parsed = parseCidr(text);
  if (parsed === null) throw new Error(`not a block: ${text}`);
  return { kind: 'prefix', cidr: parsed.cidr, value: identity };
}

/** An identity and the addresses that have it. */
export function identitySteps(identity: number, addresses: readonly Address[], unknown = false): Step[] {
  return [
    { kind: 'identity', identity, value: { unknown } },
    ...addresses.map((address): Step => ({ kind: 'address', address, value: identity })),
  ];
}

export function interval(first: number, last: number, action: Interval['action'], rule: number): Interval {
  return { first, last, action, rule, order: rule };
}

/**
 * A set of one layer, all three with one number, whose base table denies by `denyRule` what the classes don't allow.
 * `classes`: identity → intervals (rule numbers below `denyRule` decide earlier).
 */
export function isolatingSet(
  number: number,
  denyRule: number,
  classes: ReadonlyMap<number, readonly Interval[]> = new Map(),
): Step[] {
  const base = number * 100;
  const steps: Step[] = [{ kind: 'table', table: base, value: [interval(0, 0xff_ffff, 'deny', denyRule)] }];
  const tables = [...classes].map(([identity, table], index) => ({ identity, table, number: base + 1 + index }));
  for (const each of tables) steps.push({ kind: 'table', table: each.number, value: each.table });
  steps.push({ kind: 'layer', layer: number, value: { base } });
  for (const each of tables) {
    steps.push({ kind: 'class', layer: number, identity: each.identity, value: each.number });
  }
  steps.push({ kind: 'set', set: number, value: { layers: [number] } });
  return steps;
}

/** An endpoint of node `node-a`. */
export function endpointStep(address: Address, sets: { egress?: number; ingress?: number } = {}, pod = 'pod'): Step {
  const { egress = OPEN_SET, ingress = OPEN_SET } = sets;
  return {
    kind: 'endpoint',
    address,
    value: { address, pod: podKey('test', pod), node: 'node-a', egress, ingress },
  };
}
