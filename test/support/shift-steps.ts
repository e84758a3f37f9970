// Steps of one compiler after another on the same datapath: numbers must never be used twice, so they are shifted.
import type { Step } from '#compile/plan.ts';

/** The step with every number raised by `by`. */
export function shiftStep(step: Step, by: number): Step {
  const up = (number: number | null): number | null => (number === null ? null : number + by);
  switch (step.kind) {
    case 'rule':
      return { ...step, rule: step.rule + by };
    case 'table': {
      const value = step.value?.map((interval) => ({ ...interval, rule: interval.rule + by })) ?? null;
      return { ...step, table: step.table + by, value };
    }
    case 'layer':
      return { ...step, layer: step.layer + by, value: step.value && { base: up(step.value.base) } };
    case 'class':
      return { ...step, layer: step.layer + by, identity: step.identity + by, value: up(step.value) };
    case 'set': {
      const value = step.value && { layers: step.value.layers.map((layer) => layer + by) };
      return { ...step, set: step.set + by, value };
    }
    case 'identity':
      return { ...step, identity: step.identity + by };
    case 'address':
      return { ...step, value: up(step.value) };
    case 'prefix':
      return { ...step, value: up(step.value) };
    case 'endpoint': {
      const { value } = step;
      return { ...step, value: value && { ...value, egress: value.egress + by, ingress: value.ingress + by } };
    }
    case 'node':
    case 'service':
      return step;
    case 'epoch':
      return { ...step, sets: step.sets.map((set) => set + by) };
  }
}

/** One more than the greatest number of the steps. */
export function numbersEnd(steps: readonly Step[]): number {
  return 1 + Math.max(0, ...steps.map(numberOf));
}

function numberOf(step: Step): number {
  switch (step.kind) {
    case 'rule':
      return step.rule;
    case 'table':
      return step.table;
    case 'layer':
      return step.layer;
    case 'set':
      return step.set;
    case 'identity':
      return step.identity;
    default:
      return 0;
  }
}
