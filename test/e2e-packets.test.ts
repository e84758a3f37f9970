// The Kubernetes e2e NetworkPolicy cases by real packets: one sandbox, policies and labels changed step by step.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startSandbox } from '#sandbox/sandbox.ts';
import { instanceName } from '#test/support/cluster.ts';
import { readE2eSteps } from '#test/support/e2e-cases.ts';
import { CASES, needsCases, needsRoot } from '#test/support/needs.ts';

const needs = needsRoot.skip ? needsRoot : needsCases;

test('needs root, needs cases: every cell of the Kubernetes e2e cases holds for real packets', needs, async (t) => {
  const startedMs = performance.now();
  const sandbox = await startSandbox({ name: instanceName(), paths: [] });
  t.after(() => sandbox.down());
  const wrong: string[] = [];
  let cells = 0;
  for (const step of readE2eSteps(CASES)) {
    await sandbox.setObjects(step.objects);
    const { rows, errors } = await sandbox.probe({ ports: [{ protocol: step.protocol, port: step.port }] });
    assert.deepEqual(errors, [], step.name);
    const verdicts = new Map(rows.map((row) => [`${row.from} ${row.to}`, row.verdict]));
    for (const { from, to, allowed } of step.cells) {
      cells++;
      const verdict = verdicts.get(`${from} ${to}`);
      if (verdict !== (allowed ? 'allow' : 'deny')) wrong.push(`${step.name}: ${from} → ${to} is ${verdict}`);
    }
  }
  t.diagnostic(`${cells} cells in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  assert.deepEqual(wrong, []);
  assert.equal(cells, 4680);
});
