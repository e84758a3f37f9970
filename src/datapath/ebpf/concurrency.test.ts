// Packets on one CPU, changes on another: no packet ever meets half a change. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Step } from '#compile/plan.ts';
import type { DropReason } from '#datapath/port.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { UDP } from '#net/protocol.ts';
import { frame } from '#test/support/frames.ts';
import { Hammer } from '#test/support/hammer.ts';
import { endpointStep, ground, identitySteps, interval, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const EVERYTHING = [0, 0xff_ffff] as const;

describe('changes under traffic (root)', needsRoot, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let hammer: Hammer;

  before(() => {
    mountBpffs();
    bed = new PodBed('race', 2);
    const sizes = { ct_map: 4352, arena: 4096, set_slots: 256, endpoint_slots: 256 };
    datapath = openDatapath({ instance: bed.prefix, node: 'node-a', sizes, knobs: { dropRate: 1n } });
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([
      ...ground(),
      ...identitySteps(5, [bed.pod(0).v4]),
      ...identitySteps(6, []),
      ...identitySteps(7, []),
    ]);
    const endpoints = bed.pods.flatMap((pod) => pod.link.addresses.map((each) => endpointStep(each, {}, pod.name)));
    datapath.apply([...endpoints, ...isolatingSet(9, 90)]);
  });

  after(() => {
    datapath.detachAll();
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  function hammerOn(sourcePort: number): void {
    const [a, b] = [bed.pod(0), bed.pod(1)];
    const ports = { sourcePort, destinationPort: 53 };
    const bytes = frame({ source: a.v4, destination: b.v4, protocol: UDP, sourceMac: a.link.mac, ...ports });
    hammer = new Hammer({ program: datapath.program('from_pod'), frame: bytes, interfaceIndex: a.link.interfaceIndex });
  }

  /** The hammer's packets go straight to the neighbour; the pods' own neighbour discovery never does. */
  const passed = (): bigint => datapath.counters().redirected;
  const dropped = (reason: DropReason): bigint => datapath.counters().drops.get(reason) ?? 0n;

  it('a packet finds its tables whole at thousands of updates a second, though each place is used again', async () => {
    const b = bed.pod(1);
    const layer = 20;
    // Everybody may, and so may the class of somebody else; the class of the sender may not: a class, address or set that is
    // missed, or taken for another one, shows as a pass.
    const table = (number: number): Step => ({
      kind: 'table',
      table: number,
      value: [interval(...EVERYTHING, 'allow', 29)],
    });
    const denial = (number: number): Step => ({
      kind: 'table',
      table: number,
      value: [interval(...EVERYTHING, 'deny', 21)],
    });
    const classStep = (identity: number, number: number): Step => ({ kind: 'class', layer, identity, value: number });
    datapath.apply([
      ...[table(2000), denial(2001), { kind: 'layer', layer, value: { base: 2000 } } as const],
      ...[
        classStep(5, 2001),
        classStep(6, 2001),
        classStep(7, 2000),
        { kind: 'set', set: 20, value: { layers: [layer] } } as const,
      ],
      endpointStep(b.v4, { ingress: 20 }, b.name),
    ]);
    hammerOn(1);
    await hammer.more(1000);
    const before = {
      passed: passed(),
      policy: dropped('policy'),
      error: dropped('table-error'),
      none: dropped('no-identity'),
    };
    let updates = 0;
    const end = performance.now() + 1500;
    // A slow machine takes longer for as many.
    for (let number = 2002; performance.now() < end || updates <= 10_000; number += 2) {
      const identity = number % 4 === 0 ? 5 : 6;
      const steps: Step[] = [
        ...[table(number), denial(number + 1), { kind: 'layer', layer, value: { base: number } } as const],
        ...[classStep(5, number + 1), classStep(6, number + 1), classStep(7, number)],
        { kind: 'address', address: bed.pod(0).v4, value: identity },
        endpointStep(b.v4, { ingress: 20 }, b.name),
        { kind: 'table', table: number - 1, value: null },
        { kind: 'table', table: number - 2, value: null },
      ];
      datapath.apply(steps);
      updates += steps.length;
      if (number % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await hammer.more(1000);
    await hammer.stop();
    assert.ok(updates > 10_000, `${updates} updates`);
    assert.ok(dropped('policy') - before.policy > 50_000n, 'packets were judged meanwhile');
    assert.equal(passed() - before.passed, 0n);
    assert.equal(dropped('table-error') - before.error, 0n);
    assert.equal(dropped('no-identity') - before.none, 0n);
  });

  it('a packet under way while a rule comes writes no verdict that outlives the rule', async () => {
    const b = bed.pod(1);
    datapath.apply([endpointStep(b.v4, {}, b.name), { kind: 'epoch', sets: [], peers: [bed.pod(0).v4] }]);
    hammerOn(2);
    await hammer.more(1000);
    for (let round = 0; round < 60; round++) {
      datapath.apply([endpointStep(b.v4, { ingress: 9 }, b.name)]);
      await hammer.more(0);
      const stopped = passed();
      await hammer.more(400);
      assert.equal(passed(), stopped, `round ${round}: a packet passed after the rule`);
      datapath.apply([endpointStep(b.v4, {}, b.name)]);
      await hammer.more(0);
      const again = passed();
      await hammer.more(400);
      assert.ok(passed() > again, `round ${round}: it may pass again`);
    }
    await hammer.stop();
  });
});
