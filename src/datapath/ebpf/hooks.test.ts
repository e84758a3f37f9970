// Hooks that somebody takes off, gets ahead of, or unpins: missed, put back first, and nothing passes meanwhile. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { attachTcx, closeObject, detachLink, getPinned, loadConstant } from '#kernel/bpf.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import { attachFilter, destroyClsact, detachFilter, listFilters } from '#kernel/tc.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed, udpArrives, waitFor } from '#test/support/pod-bed.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const TC_ACT_OK = 0;
const SIZES = { ct_map: 1280 };
/** A filter that lets everything pass, ahead of what stands at the first priority already. */
const FOREIGN = { priority: 1, handle: 7 };

for (const attach of ATTACH_MODES) {
  describe(`hooks by ${attach} that somebody touches (root)`, needsRoot, () => {
    let bed: PodBed;
    let datapath: EbpfDatapath;
    let pass: number;
    let port = 100;

    before(() => {
      mountBpffs();
      bed = new PodBed(`hooks-${attach}`, 2);
      datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach, sizes: SIZES });
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.apply([...ground(), ...isolatingSet(7, 70)]);
      for (const [index, pod] of bed.pods.entries()) {
        const sets = index === 1 ? { ingress: 7 } : {};
        datapath.apply(pod.link.addresses.map((each) => endpointStep(each, sets, pod.name)));
      }
      datapath.settle();
      pass = loadConstant(TC_ACT_OK);
    });

    after(() => {
      closeObject(pass);
      datapath.close();
      unpinDatapath(bed.prefix, 'node-a');
      bed.destroy();
    });

    const passes = (): boolean => udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: port++ });
    const target = (): number => bed.pod(1).link.interfaceIndex;
    const everywhere = (take: (interfaceIndex: number) => void): void => {
      for (const pod of bed.pods) take(pod.link.interfaceIndex);
    };
    const repaired = (): readonly (readonly [number, string, string])[] =>
      datapath.repair().map((each) => [each.interfaceIndex, each.found, each.now] as const);

    function takeOff(interfaceIndex: number): void {
      if (attach === 'clsact') {
        destroyClsact(interfaceIndex);
        return;
      }
      for (const side of ['from', 'to']) {
        const link = getPinned(`${pinPath(bed.prefix, 'node-a')}/link_${interfaceIndex}_${side}_pod`);
        assert.ok(link !== null);
        detachLink(link);
        closeObject(link);
      }
    }

    /** Puts the program that lets everything pass first, at both hooks; returns how to take it away. */
    function getAhead(interfaceIndex: number): () => void {
      const places = ['ingress', 'egress'] as const;
      if (attach === 'clsact') {
        for (const place of places) attachFilter(interfaceIndex, place, FOREIGN, pass);
        return () => {
          for (const place of places) assert.ok(detachFilter(interfaceIndex, place, FOREIGN));
        };
      }
      const links = places.map((place) => attachTcx(pass, interfaceIndex, place));
      return () => links.forEach(closeObject);
    }

    it('finds nothing to repair where nobody touched anything', () => {
      assert.equal(passes(), false);
      assert.deepEqual(repaired(), []);
    });

    it('puts hooks back that were taken off', () => {
      everywhere(takeOff);
      assert.equal(passes(), true, 'without hooks');
      assert.deepEqual(
        repaired(),
        bed.pods.map((pod) => [pod.link.interfaceIndex, 'absent', 'first']),
      );
      assert.equal(passes(), false);
      assert.deepEqual(repaired(), []);
    });

    it('gets ahead again of a program that lets everything pass', () => {
      const leave = bed.pods.map((pod) => getAhead(pod.link.interfaceIndex));
      assert.equal(datapath.health(target()), 'behind');
      assert.equal(passes(), true, 'behind the foreign program');
      assert.deepEqual(
        repaired(),
        bed.pods.map((pod) => [pod.link.interfaceIndex, 'behind', 'first']),
      );
      assert.equal(passes(), false);
      assert.deepEqual(repaired(), []);
      for (const each of leave) each();
      assert.equal(passes(), false);
    });

    it('pins again what was unpinned, directory and all, and stays the only writer', () => {
      const directory = pinPath(bed.prefix, 'node-a');
      const names = readdirSync(directory).sort();
      rmSync(directory, { recursive: true });
      assert.equal(passes(), false);
      assert.deepEqual(
        repaired(),
        bed.pods.map((pod) => [pod.link.interfaceIndex, 'unpinned', 'first']),
      );
      assert.deepEqual(readdirSync(directory).sort(), names);
      assert.throws(() => openDatapath({ instance: bed.prefix, node: 'node-a', attach }), /another process/);
    });

    it('says where an interface is gone, and goes on with the others', () => {
      const name = `gone${process.pid}`;
      execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
      const [found] = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', name], { encoding: 'utf8' }));
      const interfaceIndex = Number(found.ifindex);
      datapath.attach({ interfaceIndex, mac: Uint8Array.of(2, 0, 0, 0, 0, 7), addresses: [] });
      execFileSync('ip', ['link', 'del', name]);
      const [repair] = datapath.repair();
      assert.deepEqual([repair?.interfaceIndex, repair?.found, repair?.now], [interfaceIndex, 'absent', 'absent']);
      assert.match(repair?.failure ?? '', /no such device/i);
      datapath.detach(interfaceIndex);
      assert.deepEqual(repaired(), []);
      assert.equal(passes(), false);
    });

    it('leaves off what it was told to detach', () => {
      datapath.detachAll();
      assert.deepEqual(repaired(), []);
      assert.equal(passes(), true);
    });

    it('takes the place of hooks of the other way without a gap', { skip: ATTACH_MODES.length < 2 }, () => {
      for (const pod of bed.pods) datapath.attach(pod.link);
      assert.equal(passes(), false);
      datapath.close();
      const other = attach === 'tcx' ? 'clsact' : 'tcx';
      datapath = openDatapath({ instance: bed.prefix, node: 'node-a', attach: other, sizes: SIZES });
      assert.equal(passes(), false, 'the hooks of before');
      for (const pod of bed.pods) datapath.attach(pod.link);
      assert.equal(passes(), false);
      const names = readdirSync(pinPath(bed.prefix, 'node-a'));
      const [mine, foreign] = other === 'tcx' ? ['link_', 'filter_'] : ['filter_', 'link_'];
      assert.equal(names.filter((name) => name.startsWith(mine)).length, 4);
      assert.deepEqual(
        names.filter((name) => name.startsWith(foreign)),
        [],
      );
      assert.equal(listFilters(target(), 'egress').length, other === 'tcx' ? 0 : 1);
      assert.equal(datapath.health(target()), 'first');
    });

    it('goes with its pins', () => {
      for (const pod of bed.pods) datapath.attach(pod.link);
      datapath.close();
      assert.equal(passes(), false, 'hooks outlive the process');
      unpinDatapath(bed.prefix, 'node-a');
      assert.equal(existsSync(pinPath(bed.prefix, 'node-a')), false);
      // The kernel lets go of an unpinned link in its own time.
      assert.ok(waitFor(passes, 2000));
    });
  });
}
