// A pod may have so many events a second of each kind: what uses up those of one kind hides nothing of another. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { UDP } from '#net/protocol.ts';
import { frame } from '#test/support/frames.ts';
import { endpointStep, ground, identitySteps, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

/** Events of a kind, interface and second. */
const RATE = 4;
/** Far more than there is to tell of within the seconds that sending them takes. */
const MANY = 2000;

describe('budgets of events (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let loud: BedPod;
  let open: BedPod;
  let closed: BedPod;
  let port = 1024;

  before(() => {
    mountBpffs();
    bed = new PodBed('budgets', 3);
    [loud, open, closed] = [bed.pod(0), bed.pod(1), bed.pod(2)];
    datapath = openDatapath({
      instance: bed.prefix,
      node: 'node-a',
      sizes: { ct_map: 8192, arena: 65536 },
      knobs: { dropWindow: 0n, dropRate: BigInt(RATE) },
    });
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), ...identitySteps(5, [loud.v4]), ...isolatingSet(9, 90)]);
    datapath.apply([endpoint(loud), endpoint(open, 'all'), endpoint(closed, 'none')]);
    datapath.settle();
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  /** Who lets nobody in, audited or not; without a word, who is not isolated. */
  function endpoint(pod: BedPod, audit?: 'all' | 'none'): Step {
    const step = endpointStep(pod.v4, audit === undefined ? {} : { ingress: 9 }, pod.name);
    if (step.kind !== 'endpoint' || step.value === null || audit !== 'all') return step;
    return { ...step, value: { ...step.value, audit } };
  }

  /** What is told of a datagram of a flow of its own. */
  function send(to: BedPod): readonly string[] {
    const ports = { sourcePort: port++, destinationPort: 80 };
    const bytes = frame({ sourceMac: loud.link.mac, source: loud.v4, destination: to.v4, protocol: UDP, ...ports });
    const { events } = inject(datapath, { frame: bytes, hook: 'from-pod', interfaceIndex: loud.link.interfaceIndex });
    return events.map(({ kind }) => kind);
  }

  /** Sends until nothing is told any more. */
  function useUp(to: BedPod): void {
    for (let sent = 0; sent < MANY; sent++) if (send(to).length === 0) return;
    assert.fail(`${MANY} datagrams were all told, at ${RATE} events a second`);
  }

  it('what passes by audit hides no drop', () => {
    useUp(open);
    assert.deepEqual(send(closed), ['drop']);
  });

  it('drops hide nothing that passes by audit', () => {
    datapath.moveClock(2);
    useUp(closed);
    assert.deepEqual(send(open), ['audit']);
  });
});
