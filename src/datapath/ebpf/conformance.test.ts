// The kernel programs pass the suite, frame by frame through BPF_PROG_TEST_RUN. Needs root.
import { after, before } from 'node:test';
import type { Factory } from '#datapath/conformance/harness.ts';
import { conformance, type Skip } from '#datapath/conformance.ts';
import { needsRoot } from '#test/support/needs.ts';
import { TestRunBed } from '#test/support/test-run-bed.ts';

let bed: TestRunBed | null = null;

before(() => {
  bed = needsRoot.skip === false ? new TestRunBed('conformance') : null;
});

after(() => bed?.destroy());

const factory: Factory = (options) => {
  if (bed === null) throw new Error('the suite runs before its interfaces are made');
  return bed.harness(options);
};

/** Faults of the programs that the suite found; each goes when it is mended. */
const OPEN_FAULTS: readonly Skip[] = [
  'an ICMP message that is no echo opens nothing for the other side',
  'an extension header that ends after the packet is malformed',
  'neighbour discovery that came over a router is a forgery, one that is not whole is malformed',
  'neighbour discovery is not judged, so it does not leave the link',
].map((name) => ({ name, reason: 'the kernel programs do not do this yet' }));

conformance('ebpf (root)', factory, OPEN_FAULTS, needsRoot);
