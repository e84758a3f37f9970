// A pod's interface with an `ingress` queue of somebody else's, as the bandwidth plugin makes one: links go beside it,
// filters have no place for what goes to the pod, and nobody is told that they had. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

for (const attach of ATTACH_MODES) {
  describe(`an ingress queue on a pod's interface, hooks by ${attach} (needs root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;
    let port = 100;
    const passes = (): boolean => udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: port++ });

    before(() => {
      mountBpffs();
      bed = new PodBed(`taken-${attach}`, 2);
      datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes: { ct_map: 1280 } });
      datapath.apply([...ground(), ...isolatingSet(7, 70)]);
      for (const [index, pod] of bed.pods.entries()) {
        const sets = index === 1 ? { ingress: 7 } : {};
        datapath.apply(pod.link.addresses.map((each) => endpointStep(each, sets, pod.name)));
      }
      datapath.attach(bed.pod(0).link);
      execFileSync('tc', ['qdisc', 'add', 'dev', 'h2', 'ingress']);
    });
    after(() => {
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    for (const way of ['attachNew', 'attach'] as const) {
      it(`${way}: both hooks judge, or it is refused by name, and nobody else is touched`, () => {
        assert.equal(passes(), true, 'without hooks');
        if (attach === 'tcx') {
          datapath[way](bed.pod(1).link);
          datapath.settle();
          assert.equal(passes(), false, 'denied on the way to the pod');
          assert.equal(datapath.health(bed.pod(1).link.interfaceIndex), 'first');
          datapath.detach(bed.pod(1).link.interfaceIndex);
        } else {
          const cause = /somebody's ingress queue is there/;
          assert.throws(
            () => datapath[way](bed.pod(1).link),
            (error) => cause.test(String((error as Error).cause)),
          );
          assert.equal(datapath.failure, null);
        }
        assert.match(execFileSync('tc', ['filter', 'show', 'dev', 'h2', 'ingress'], { encoding: 'utf8' }), /^\s*$/);
        assert.deepEqual(datapath.repair(), []);
      });
    }
  });
}
