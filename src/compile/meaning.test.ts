// Same meaning: on any world, the compiled Plan gives the verdict, rule and reason that evaluate() gives.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { judge } from '#datapath/reference/verdict.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { World } from '#policy/world.ts';
import { arbitraryFlow, arbitraryWorld, worldEvents } from '#test/support/arbitrary-world.ts';
import { Compiler } from './compiler.ts';
import type { Plan } from './plan.ts';

function compiled(world: World, ipBlockPods: boolean): Plan {
  const compiler = new Compiler({ semantics: { ipBlockPods }, isLocal: () => true });
  compiler.apply(worldEvents(world));
  return compiler.plan;
}

for (const kind of ['network', 'tiered'] as const) {
  test(`a Plan of ${kind} policies means what evaluate() says`, () => {
    const flows = fc.array(arbitraryFlow, { minLength: 20, maxLength: 20 });
    fc.assert(
      fc.property(arbitraryWorld(kind), flows, fc.boolean(), (world, sampled, ipBlockPods) => {
        const plan = compiled(world, ipBlockPods);
        for (const flow of sampled) assert.deepEqual(judge(plan, flow), evaluate(world, flow, { ipBlockPods }));
      }),
      { numRuns: Number(process.env.MOAT_FUZZ_CASES ?? 20_000) / 20 },
    );
  });
}
