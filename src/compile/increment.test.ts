// Events in any batches and any order leave what a fresh build of the final objects has; and each step is safe.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { Flow, FlowVerdict } from '#policy/verdict.ts';
import type { Pod, WorldEvent } from '#policy/world.ts';
import {
  arbitraryFlow,
  arbitraryHistory,
  arbitraryWorld,
  worldEvents,
  worldOf,
} from '#test/support/arbitrary-world.ts';
import { danglingPointer, disorder, withoutNumbers } from '#test/support/plan-check.ts';
import { applyStep, emptyPlan, type MutablePlan } from './apply.ts';
import { Compiler } from './compiler.ts';
import { diffPlans } from './diff.ts';
import type { Plan, Step } from './plan.ts';

const RUNS = Number(process.env.MOAT_FUZZ_CASES ?? 20_000) / 50;

const flows = fc.array(arbitraryFlow, { minLength: 20, maxLength: 20 });
const kinds = fc.constantFrom('network' as const, 'tiered' as const);
const histories = kinds.chain((kind) => arbitraryHistory(kind));

type Place = { readonly ipBlockPods: boolean; readonly isLocal: (pod: Pod) => boolean };

/** Where the compiler stands: on one node, or everywhere (the offline analysis). */
const places: fc.Arbitrary<Place> = fc.record({
  ipBlockPods: fc.boolean(),
  isLocal: fc.constantFrom(
    () => true,
    (pod: Pod) => pod.node === 'n1',
  ),
});

function compilerOf({ ipBlockPods, isLocal }: Place): Compiler {
  return new Compiler({ semantics: { ipBlockPods }, isLocal });
}

function fresh(place: Place, events: readonly WorldEvent[]): Compiler {
  const compiler = compilerOf(place);
  compiler.apply(worldEvents(worldOf(events)));
  return compiler;
}

/** Each leg that the Plan judges is judged as evaluate() does; the others are not this node's. */
function checkFlow(plan: Plan, verdict: FlowVerdict, flow: Flow): void {
  const found = judge(plan, flow);
  if (found.egress.reason !== 'not-endpoint') assert.deepEqual(found.egress, verdict.egress);
  if (found.ingress.reason !== 'not-endpoint') assert.deepEqual(found.ingress, verdict.ingress);
}

test('after any history, every flow has the verdict, rule and reason of the final objects', () => {
  fc.assert(
    fc.property(histories, flows, places, (history, sampled, place) => {
      const compiler = compilerOf(place);
      for (const [index, batch] of history.entries()) {
        compiler.apply(batch);
        const world = worldOf(history.slice(0, index + 1).flat());
        for (const flow of sampled) checkFlow(compiler.plan, evaluate(world, flow, place), flow);
        assert.equal(disorder(compiler.plan), null);
      }
    }),
    { numRuns: RUNS },
  );
});

test('after any history and a merge, the Plan is that of a fresh build up to its numbers', () => {
  fc.assert(
    fc.property(histories, places, (history, place) => {
      const compiler = compilerOf(place);
      for (const batch of history) compiler.apply(batch);
      compiler.merge();
      assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh(place, history.flat()).plan));
    }),
    { numRuns: RUNS * 2 },
  );
});

test('the order of events does not matter', () => {
  const shuffled = kinds
    .chain((kind) => arbitraryWorld(kind))
    .chain((world) => fc.tuple(fc.constant(worldEvents(world)), shuffle(worldEvents(world))));
  fc.assert(
    fc.property(shuffled, places, ([straight, mixed], place) => {
      const compiler = compilerOf(place);
      for (const event of mixed) compiler.apply([event]);
      compiler.merge();
      assert.deepEqual(withoutNumbers(compiler.plan), withoutNumbers(fresh(place, straight).plan));
    }),
    { numRuns: RUNS },
  );
});

function shuffle(events: readonly WorldEvent[]): fc.Arbitrary<WorldEvent[]> {
  return fc.shuffledSubarray([...events], { minLength: events.length, maxLength: events.length });
}

/** Applies steps one by one and asks after each that nothing points at nothing. */
function replay(plan: MutablePlan, steps: readonly Step[]): void {
  for (const [index, step] of steps.entries()) {
    applyStep(plan, step);
    assert.equal(danglingPointer(plan), null, `after step ${index} of ${steps.length}: ${JSON.stringify(step)}`);
  }
}

test('the steps of a history, one by one, never point at nothing and make the Plan', () => {
  fc.assert(
    fc.property(histories, places, (history, place) => {
      const compiler = compilerOf(place);
      const plan = emptyPlan();
      for (const batch of history) {
        replay(plan, compiler.apply(batch));
        assert.deepEqual(plan, compiler.plan);
      }
      replay(plan, compiler.merge());
      assert.deepEqual(plan, compiler.plan);
    }),
    { numRuns: RUNS },
  );
});

test('the steps between any two Plans never point at nothing and make the second', () => {
  fc.assert(
    fc.property(histories, histories, places, (one, other, place) => {
      const before = fresh(place, one.flat()).plan;
      const after = fresh(place, other.flat()).plan;
      const plan = emptyPlan();
      for (const step of diffPlans(plan, before)) applyStep(plan, step);
      assert.deepEqual(plan, before);
      replay(plan, diffPlans(before, after));
      assert.deepEqual(plan, after);
      assert.deepEqual(diffPlans(after, plan), []);
    }),
    { numRuns: RUNS },
  );
});

test('while one event takes effect step by step, each leg has its old or its new verdict', () => {
  fc.assert(
    fc.property(histories, flows, places, (history, sampled, place) => {
      const compiler = compilerOf(place);
      const plan = emptyPlan();
      for (const event of history.flat()) {
        const before = sampled.map((flow) => judge(plan, flow));
        const steps = compiler.apply([event]);
        if (event.kind === 'namespace') {
          // It relabels peers and subjects at once: a leg between two of its pods changes in two steps.
          for (const step of steps) applyStep(plan, step);
          continue;
        }
        const after = sampled.map((flow) => judge(compiler.plan, flow));
        for (const step of steps) {
          applyStep(plan, step);
          for (const [index, flow] of sampled.entries()) {
            checkBetween(judge(plan, flow), { before: before[index], after: after[index] }, step);
          }
        }
      }
    }),
    { numRuns: RUNS / 4 },
  );
});

type Between = { readonly before: FlowVerdict | undefined; readonly after: FlowVerdict | undefined };

function checkBetween(now: FlowVerdict, { before, after }: Between, step: Step): void {
  for (const leg of ['egress', 'ingress'] as const) {
    const allowed = [before?.[leg].verdict, after?.[leg].verdict];
    // Two addresses of one pod come and go one by one.
    if (before?.[leg].reason === 'self' || after?.[leg].reason === 'self') continue;
    assert.ok(
      allowed.includes(now[leg].verdict),
      `${leg} is ${now[leg].verdict}, not ${allowed}, ${JSON.stringify(step)}`,
    );
  }
}
