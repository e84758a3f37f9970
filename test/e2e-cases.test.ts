// The Kubernetes e2e NetworkPolicy cases, judged by the interpreter: every cell of every truth table.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evaluate } from '#policy/evaluate.ts';
import { STANDARD_SEMANTICS } from '#policy/world.ts';
import { readE2eSteps } from './support/e2e-cases.ts';
import { CASES, needsCases } from './support/needs.ts';

test('evaluate agrees with all 4 680 cells of the Kubernetes e2e cases (needs the outside cases)', needsCases, () => {
  let cells = 0;
  const wrong: string[] = [];
  for (const step of readE2eSteps(CASES)) {
    for (const cell of step.cells) {
      const flow = { from: cell.fromAddress, to: cell.toAddress, protocol: step.protocol, port: step.port };
      const { verdict } = evaluate(step.world, flow, STANDARD_SEMANTICS);
      cells++;
      if ((verdict === 'allow') !== cell.allowed) wrong.push(`${step.name}: ${cell.from} to ${cell.to}: ${verdict}`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.equal(cells, 4680);
});
