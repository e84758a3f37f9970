// Faults put into a Plan on purpose: the property that compares it with evaluate() must find each.
import { applyStep, emptyPlan, type MutablePlan } from '#compile/apply.ts';
import { diffPlans } from '#compile/diff.ts';
import type { Interval, Plan, TableNumber } from '#compile/plan.ts';

/** A copy that can be changed. */
export function copyPlan(plan: Plan): MutablePlan {
  const copy = emptyPlan();
  for (const step of diffPlans(copy, plan)) applyStep(copy, step);
  return copy;
}

/** Changes the Plan, at a place that `which` picks. False where there is nothing of the kind to change. */
type Mutation = (plan: MutablePlan, which: number) => boolean;

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  'a class entry dropped': (plan, which) => {
    const layer = pick([...plan.layers.values()], which);
    const identity = pick([...(layer?.classes.keys() ?? [])], which);
    return identity !== undefined && layer?.classes.delete(identity) === true;
  },
  'a class entry of another identity': (plan, which) => {
    const classes = pick([...plan.layers.values()], which)?.classes;
    const [first, second] = [...(classes ?? [])];
    if (classes === undefined || first === undefined || second === undefined) return false;
    classes.set(first[0], second[1]);
    return true;
  },
  'a base table dropped': (plan, which) => {
    const found = pick([...plan.layers], which);
    if (found === undefined || found[1].base === null) return false;
    plan.layers.set(found[0], { ...found[1], base: null });
    return true;
  },
  'the verdict of an interval turned': changeInterval((one) => ({
    ...one,
    action: one.action === 'allow' ? 'deny' : 'allow',
  })),
  'an interval one port longer': changeInterval((one) => ({ ...one, last: one.last + 1 })),
  'an interval one port shorter': changeInterval((one) => ({ ...one, first: one.first + 1 })),
  'an interval of another rule': (plan, which) => {
    const rule = pick([...plan.rules.keys()], which);
    return rule !== undefined && changeInterval((one) => ({ ...one, rule }))(plan, which);
  },
  'an order turned round': changeInterval((one) => ({ ...one, order: 2 ** 31 - 1 - one.order })),
  'an address of another identity': (plan, which) => {
    const key = pick([...plan.addresses.keys()], which);
    const identity = pick([...plan.identities.keys()], which);
    return key !== undefined && identity !== undefined && plan.addresses.set(key, identity) !== undefined;
  },
  'an address dropped': (plan, which) => {
    const key = pick([...plan.addresses.keys()], which);
    return key !== undefined && plan.addresses.delete(key);
  },
  'a prefix dropped': (plan, which) => {
    const key = pick([...plan.prefixes.keys()], which);
    return key !== undefined && plan.prefixes.delete(key);
  },
  'an unknown identity taken for known': (plan, which) => {
    const found = pick(
      [...plan.identities].filter(([, identity]) => identity.unknown),
      which,
    );
    return found !== undefined && plan.identities.set(found[0], { unknown: false }) !== undefined;
  },
  'the layers of a set turned round': (plan, which) => {
    const found = pick(
      [...plan.sets].filter(([, set]) => set.layers.length > 1),
      which,
    );
    return found !== undefined && plan.sets.set(found[0], { layers: [...found[1].layers].reverse() }) !== undefined;
  },
  'egress and ingress changed over': (plan, which) => {
    const found = pick([...plan.endpoints], which);
    if (found === undefined) return false;
    const [key, endpoint] = found;
    plan.endpoints.set(key, { ...endpoint, egress: endpoint.ingress, ingress: endpoint.egress });
    return true;
  },
  'an endpoint dropped': (plan, which) => {
    const key = pick([...plan.endpoints.keys()], which);
    return key !== undefined && plan.endpoints.delete(key);
  },
  'an endpoint that is audited though nobody asked for it': (plan, which) => {
    const found = pick(
      [...plan.endpoints].filter(([, { audit }]) => audit === undefined),
      which,
    );
    return found !== undefined && plan.endpoints.set(found[0], { ...found[1], audit: 'own' }) !== undefined;
  },
  "a denial of the cluster's taken for the namespace's own": (plan, which) => {
    const found = pick(
      [...plan.rules].filter(([, { own, action }]) => own === undefined && action !== 'allow'),
      which,
    );
    return found !== undefined && plan.rules.set(found[0], { ...found[1], own: true }) !== undefined;
  },
  "a node's addresses dropped": (plan, which) => {
    const name = pick([...plan.nodes.keys()], which);
    return name !== undefined && plan.nodes.delete(name);
  },
};

function changeInterval(change: (one: Interval) => Interval): Mutation {
  return (plan, which) => {
    const found: [TableNumber, readonly Interval[]] | undefined = pick([...plan.tables], which);
    if (found === undefined) return false;
    const at = which % found[1].length;
    plan.tables.set(
      found[0],
      found[1].map((one, index) => (index === at ? change(one) : one)),
    );
    return true;
  };
}

function pick<Value>(values: readonly Value[], which: number): Value | undefined {
  return values[which % Math.max(1, values.length)];
}
