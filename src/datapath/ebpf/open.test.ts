// Packets through the real kernel: hand-made steps, two pods, a router between them. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

for (const attach of ATTACH_MODES) {
  describe(`eBPF datapath with two pods, hooks by ${attach} (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;

    before(() => {
      mountBpffs();
      bed = new PodBed(`open-${attach}`, 2);
      datapath = openDatapath({
        instance: bed.prefix,
        node: 'node-a',
        attach,
        sizes: { ct_map: 2048 },
      });
    });

    after(() => {
      datapath.detachAll();
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    it('passes everything while no hook is attached', () => {
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 80 }), true);
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 6, port: 80 }), true);
    });

    it('denies everything on an attached interface without an endpoint step', () => {
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.poll();
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 80 }), false);
      assert.ok(datapath.poll().events.some((event) => event.kind === 'drop' && event.reason === 'no-endpoint'));
    });

    it('passes what an open set passes, and reports the connection', () => {
      const endpoints = bed.pods.flatMap((pod) => pod.link.addresses.map((each) => endpointStep(each, {}, pod.name)));
      datapath.apply([...ground(), ...endpoints]);
      datapath.poll();
      for (const family of [4, 6] as const) {
        assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family, port: 81 }), true, `IPv${family}`);
      }
      const news = datapath.poll().events.filter((event) => event.kind === 'new' && event.destinationPort === 81);
      assert.equal(news.length, 2);
    });

    it('names the rule that denies, and the leg', () => {
      const target = bed.pod(1);
      datapath.apply([
        ...isolatingSet(7, 70),
        ...target.link.addresses.map((each) => endpointStep(each, { ingress: 7 }, target.name)),
      ]);
      datapath.poll();
      for (const family of [4, 6] as const) {
        assert.equal(udpArrives(bed, bed.pod(0), target, { family, port: 82 }), false, `IPv${family}`);
      }
      const drops = datapath.poll().events.filter((event) => event.kind === 'drop' && event.destinationPort === 82);
      assert.deepEqual(
        drops.map((event) => [event.reason, event.leg, event.egressRule, event.ingressRule, event.hook]),
        [
          ['policy', 'ingress', null, 70, 'from-pod'],
          ['policy', 'ingress', null, 70, 'from-pod'],
        ],
      );
    });

    it('closes the node where a change fails half-way, until a fresh start settles', () => {
      const pods = bed.pods.map((pod) => [pod, endpointStep(pod.v4, {}, pod.name)] as const);
      datapath.apply(pods.map(([, step]) => step));
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 83 }), true);
      const nowhere = endpointStep(bed.pod(1).v4, { ingress: 999 }, 'pod2');
      assert.throws(() => datapath.apply([nowhere]), { name: 'DatapathError', message: /every packet is denied now/ });
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 84 }), false);
      datapath.close();
      datapath = openDatapath({
        instance: bed.prefix,
        node: 'node-a',
        attach,
        sizes: { ct_map: 2048 },
      });
      for (const [pod] of pods) datapath.attach(pod.link);
      datapath.apply([...ground(), ...pods.map(([, step]) => step)]);
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 85 }), false, 'not yet settled');
      datapath.settle();
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 86 }), true);
    });

    it('passes everything again once its hooks are off: what was denied was denied by them', () => {
      datapath.apply([...isolatingSet(7, 70), endpointStep(bed.pod(1).v4, { ingress: 7 }, 'pod2')]);
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 87 }), false);
      datapath.detachAll();
      assert.equal(udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: 88 }), true);
    });
  });
}
