// What connections of pods that have gone do to the table of connections: frames through the kernel programs, and a clock
// that moves. Needs root.
import assert from 'node:assert/strict';
import { afterEach, before, beforeEach, describe, it } from 'node:test';
import { udp } from '#datapath/packets.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { endpointStep, ground } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { type BedPod, PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';
import { inject } from './test-run.ts';

const FLOWS = 8;

describe('connections of pods that have gone (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;

  before(() => mountBpffs());

  beforeEach(() => {
    bed = new PodBed('gone', 2);
    datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes: { ct_map: 512 } });
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), ...bed.pods.map(({ v4, name }) => endpointStep(v4, {}, name))]);
    datapath.settle();
  });

  afterEach(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  function speak(from: BedPod, to: BedPod): void {
    const { interfaceIndex, mac } = from.link;
    for (let flow = 0; flow < FLOWS; flow++) {
      const frame = udp({ from: from.v4, to: to.v4, sport: 1000 + flow, dport: 53, sourceMac: mac });
      assert.notEqual(inject(datapath, { hook: 'from-pod', interfaceIndex, frame }).verdict, 'drop');
    }
  }

  async function held(): Promise<number> {
    const fills = await datapath.usage({ address_map: 0, prefix_map: 0 });
    return fills.find(({ table }) => table === 'ct_map')?.entries ?? 0;
  }

  it('are kept for a minute without a packet, and swept then, though their time-out is longer; others are not', async () => {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    speak(a, b);
    speak(b, a);
    assert.equal(await held(), 2 * FLOWS);
    datapath.detach(a.link.interfaceIndex);
    datapath.moveClock(59);
    datapath.sweep();
    assert.equal(await held(), 2 * FLOWS, 'for a minute');
    datapath.moveClock(3);
    assert.equal(datapath.sweep(), FLOWS, 'those of the pod that has gone');
    assert.equal(await held(), FLOWS);
    datapath.moveClock(60);
    assert.equal(datapath.sweep(), FLOWS, 'of the pod that is here, by their time-out');
  });
});
