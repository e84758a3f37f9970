// Same meaning: on any world, the compiled Plan gives the verdict, rule and reason that evaluate() gives.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { Flow } from '#policy/verdict.ts';
import { type Semantics, STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import { arbitraryFlow, arbitraryWorld, worldEvents } from '#test/support/arbitrary-world.ts';
import { Coverage } from '#test/support/corners.ts';
import { copyPlan, MUTATIONS } from '#test/support/mutations.ts';
import { fails, holds } from '#test/support/property.ts';
import { Compiler } from './compiler.ts';
import type { Plan } from './plan.ts';

const FLOWS = 40;
/** The whole cluster's audit now and then: what it lets pass, no namespace's audit shows. */
const semantics: fc.Arbitrary<Semantics> = fc.record({
  ipBlockPods: fc.boolean(),
  mode: fc.constantFrom('annotated', 'annotated', 'annotated', 'enforce', 'audit'),
});
const flows = fc.array(arbitraryFlow, { minLength: FLOWS, maxLength: FLOWS });

function compiled(world: World, semantics: Semantics): Plan {
  const compiler = new Compiler({ semantics, isLocal: () => true });
  compiler.apply(worldEvents(world));
  return compiler.plan;
}

for (const kind of ['network', 'tiered'] as const) {
  test(`a Plan of ${kind} policies means what evaluate() says, and the cases reach every corner`, (context) => {
    const coverage = new Coverage(kind);
    const property = fc.property(arbitraryWorld(kind), flows, semantics, (world, sampled, how) => {
      const plan = compiled(world, how);
      const judged = sampled.map((flow) => ({ flow, verdict: evaluate(world, flow, how) }));
      for (const { flow, verdict } of judged) assert.deepEqual(judge(plan, flow), verdict);
      coverage.add(world, judged);
    });
    holds(context, property, 700);
    context.diagnostic(`${coverage.cases} cases:`);
    for (const line of coverage.table()) context.diagnostic(line);
    assert.deepEqual(coverage.missed(), []);
  });
}

/** The verdicts of a Plan that something has been done to. */
function differs(world: World, sampled: readonly Flow[], plan: Plan): boolean {
  return sampled.some((flow) => {
    const expected = evaluate(world, flow, { ipBlockPods: true });
    return JSON.stringify(judge(plan, flow)) !== JSON.stringify(expected);
  });
}

for (const [name, mutate] of Object.entries(MUTATIONS)) {
  test(`a Plan with ${name} does not mean what evaluate() says`, (context) => {
    const property = fc.property(arbitraryWorld('tiered'), flows, fc.nat(), (world, sampled, which) => {
      const plan = copyPlan(compiled(world, STANDARD_SEMANTICS));
      if (mutate(plan, which)) assert.ok(!differs(world, sampled, plan));
    });
    context.diagnostic(`found in case ${fails(property, 5000)}`);
  });
}
