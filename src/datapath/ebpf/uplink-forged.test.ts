// Forged packets from outside against the direct way between nodes. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { IPV4, Rig } from '#datapath/conformance/rig.ts';
import { tcp } from '#datapath/packets.ts';
import { needsRoot } from '#test/support/needs.ts';
import { TestRunBed } from '#test/support/test-run-bed.ts';

describe('forged packets at an uplink (root)', needsRoot, () => {
  let bed: TestRunBed;

  before(() => {
    bed = new TestRunBed('forged', { kept: 3, uplink: true });
  });

  after(() => bed.destroy());

  const rigOf = (): { readonly rig: Rig; close(): void } => {
    const harness = bed.harness({ establishedLimit: null, unassuredLimit: null });
    return { rig: new Rig(harness), close: () => harness.close() };
  };
  /** Whether a frame that arrives at the uplink goes straight into the pod. */
  const goesStraight = (rig: Rig, place: 'to a from afar' | 'to b from afar', bytes: Uint8Array): boolean => {
    const delivered = bed.delivered;
    rig.inject(place, bytes);
    return bed.delivered > delivered;
  };

  it('a SYN alone does not lead what the stack translates past it', () => {
    const { rig, close } = rigOf();
    const at = IPV4;
    try {
      // A pod's connection to a Service; the stack translates it to the backend, another node's pod.
      const service = { from: at.a, to: '10.96.0.1', sport: 40000, dport: 80 };
      rig.pass('from a', tcp({ ...service, flags: 'S' }));
      const wire = { from: at.remote, to: at.a, sport: 8080, dport: 40000 };
      rig.inject('to a from afar', tcp({ ...wire, flags: 'S' }));
      rig.inject('from a', tcp({ from: at.a, to: at.remote, sport: 40000, dport: 8080, flags: 'RA' }));
      assert.equal(goesStraight(rig, 'to a from afar', tcp({ ...wire, flags: 'A' })), false);
    } finally {
      close();
    }
  });

  it('one packet with options does not take an open flow off the direct way', () => {
    const { rig, close } = rigOf();
    const at = IPV4;
    try {
      const there = { from: at.remote, to: at.b, sport: 40000, dport: 80 };
      rig.pass('to b from afar', tcp({ ...there, flags: 'S' }));
      rig.pass('from b', tcp({ from: at.b, to: at.remote, sport: 80, dport: 40000, flags: 'SA' }));
      rig.pass('to b from afar', tcp({ ...there, flags: 'A' }));
      const segment = tcp({ ...there, flags: 'A' });
      assert.equal(goesStraight(rig, 'to b from afar', segment), true);
      // Four NOPs; the sum of the header is not looked at here.
      const forged = Buffer.concat([segment.subarray(0, 34), Buffer.from([1, 1, 1, 1]), segment.subarray(34)]);
      forged[14] = 0x46;
      forged.writeUInt16BE(forged.length - 14, 16);
      rig.inject('to b from afar', forged);
      assert.equal(goesStraight(rig, 'to b from afar', segment), true);
    } finally {
      close();
    }
  });
});
