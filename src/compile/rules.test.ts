// A rule's number says the same for as long as anybody may ask: a kernel event carries it, and is read later.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RuleId } from '#policy/model.ts';
import type { WorldEvent } from '#policy/world.ts';
import { arbitraryHistory } from '#test/support/arbitrary-world.ts';
import { fails, holds } from '#test/support/property.ts';
import { Compiler } from './compiler.ts';
import type { RuleNumber, Step } from './plan.ts';

const histories = fc.constantFrom('network' as const, 'tiered' as const).chain((kind) => arbitraryHistory(kind));

/** What happens to the steps of rules on their way: nothing, or a fault. */
type Numbering = (step: Step) => Step;

const asGiven: Numbering = (step) => step;
/** One number for all default denies of a direction, whoever isolates. */
const sharedByDenies: Numbering = (step) => {
  if (step.kind !== 'rule' || step.value === null || step.value.source !== null) return step;
  return { ...step, rule: step.value.direction === 'egress' ? -1 : -2 };
};

/** `renewed`: counts the default denies that were given a number beside one of another list of policies. */
function numbersStand(numbering: Numbering, renewed = { denies: 0 }): fc.IProperty<[WorldEvent[][]]> {
  return fc.property(histories, (history) => {
    const compiler = new Compiler({ semantics: { ipBlockPods: true }, isLocal: () => true });
    const ids = new Map<RuleNumber, RuleId>();
    for (const batch of history) {
      for (const given of compiler.apply(batch)) {
        const step = numbering(given);
        if (step.kind !== 'rule' || step.value === null) continue;
        const { id, source, policies, places } = step.value;
        const before = ids.get(step.rule);
        assert.equal(id, before ?? id, `rule ${step.rule} was ${before}`);
        if (before === undefined && source === null) renewed.denies++;
        assert.equal(places, source === null ? policies.length : 1);
        ids.set(step.rule, id);
      }
    }
  });
}

test('a number once given names the same rule, or the same policies that isolate, after any history', (context) => {
  const renewed = { denies: 0 };
  holds(context, numbersStand(asGiven, renewed), 300);
  assert.ok(renewed.denies > 300, `${renewed.denies} default denies`);
  fails(numbersStand(sharedByDenies), 1000);
});
