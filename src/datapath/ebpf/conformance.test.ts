// The kernel programs pass the suite, frame by frame through BPF_PROG_TEST_RUN. Needs root.
import { after, before } from 'node:test';
import type { Factory } from '#datapath/conformance/harness.ts';
import { PODS } from '#datapath/conformance/rig.ts';
import { conformance } from '#datapath/conformance.ts';
import { needsRoot } from '#test/support/needs.ts';
import { TestRunBed } from '#test/support/test-run-bed.ts';

let bed: TestRunBed | null = null;

before(() => {
  bed = needsRoot.skip === false ? new TestRunBed('conformance', { kept: PODS.length }) : null;
});

after(() => bed?.destroy());

const factory: Factory = (options) => {
  if (bed === null) throw new Error('the suite runs before its interfaces are made');
  return bed.harness(options);
};

conformance('ebpf (root)', factory, [], needsRoot);
