// The kernel programs pass the suite where what comes from elsewhere meets an uplink's hook before the pod's: each frame
// gets the verdict and the one report that the pod's hook alone would give it. Needs root.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Factory } from '#datapath/conformance/harness.ts';
import { PODS } from '#datapath/conformance/rig.ts';
import { conformance } from '#datapath/conformance.ts';
import { needsRoot } from '#test/support/needs.ts';
import { TestRunBed } from '#test/support/test-run-bed.ts';

let bed: TestRunBed | null = null;

before(() => {
  bed = needsRoot.skip === false ? new TestRunBed('uplinked', { kept: PODS.length, uplink: true }) : null;
});

after(() => bed?.destroy());

const factory: Factory = (options) => {
  if (bed === null) throw new Error('the suite runs before its interfaces are made');
  return bed.harness(options);
};

conformance('ebpf behind an uplink (root)', factory, [], needsRoot);

test('packets of the suite went from the uplink straight into pods (root)', needsRoot, () => {
  assert.ok((bed?.delivered ?? 0n) > 20n, `${bed?.delivered} did`);
});
