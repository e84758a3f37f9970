// The story that explain tells, held against the interpreter on random worlds, and read on small ones.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Compiler } from '#compile/compiler.ts';
import { evaluate } from '#policy/evaluate.ts';
import type { World } from '#policy/world.ts';
import { arbitraryFlow, arbitraryWorld, worldEvents } from '#test/support/arbitrary-world.ts';
import { holds } from '#test/support/property.ts';
import { explain } from './explain.ts';

const RUNS = 1000;

function planOf(world: World, ipBlockPods: boolean) {
  const compiler = new Compiler({ semantics: { ipBlockPods }, isLocal: () => true });
  compiler.apply(worldEvents(world));
  return compiler.plan;
}

for (const policies of ['network', 'tiered'] as const) {
  test(`on random worlds of ${policies} policies, the story ends at the rule that the interpreter names`, (t) => {
    holds(
      t,
      fc.property(
        arbitraryWorld(policies),
        fc.array(arbitraryFlow, { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        (world, flows, ipBlockPods) => {
          const judged = { world, plan: planOf(world, ipBlockPods), semantics: { ipBlockPods } };
          for (const flow of flows) {
            const told = explain(judged, flow);
            const expected = evaluate(world, flow, judged.semantics);
            for (const direction of ['egress', 'ingress'] as const) {
              assert.equal(told[direction].verdict, expected[direction].verdict);
              assert.equal(told[direction].rule, expected[direction].rule);
              const deciding = told[direction].tiers.flatMap((tier) => tier.policies.flatMap(({ rules }) => rules));
              const last = deciding.filter(({ decides }) => decides).at(-1);
              if (expected[direction].reason === 'rule') assert.equal(last?.rule, expected[direction].rule);
            }
          }
        },
      ),
      RUNS,
    );
  });
}
