// Hooks of new interfaces: at once, by filters, and then by links, with nothing passing meanwhile. Needs root and tcx.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, beforeEach, describe, it } from 'node:test';
import { attachTcx, closeObject, loadConstant, queryTcx } from '#kernel/bpf.ts';
import { mountBpffs, pinPath } from '#kernel/bpffs.ts';
import { destroyClsact, listFilters } from '#kernel/tc.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { interfaceFacts } from './links.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const TC_ACT_OK = 0;
const SIZES = { ct_map: 1280 };
const needsTcx = needsRoot.skip === false && ATTACH_MODES.length < 2 ? { skip: 'needs tcx' } : needsRoot;

describe('hooks of new interfaces (needs root)', needsTcx, () => {
  let bed: PodBed;
  let datapath: EbpfDatapath;
  let port = 100;

  const open = (): EbpfDatapath => openDatapath({ instance: bed.prefix, node: 'node-a', attach: 'tcx', sizes: SIZES });
  const passes = (): boolean => udpArrives(bed, bed.pod(0), bed.pod(1), { family: 4, port: port++ });
  const indexes = (): readonly number[] => bed.pods.map((pod) => pod.link.interfaceIndex);
  const pins = (kind: string): number =>
    readdirSync(pinPath(bed.prefix, 'node-a')).filter((name) => name.startsWith(kind)).length;
  const repaired = (): readonly (readonly [string, string])[] =>
    datapath.repair().map(({ found, now }) => [found, now]);
  /** Both pods; packets go through no program but these. */
  const isByLinks = (): void => {
    assert.deepEqual([pins('filter_'), pins('link_')], [0, 4]);
    for (const index of indexes()) {
      for (const place of ['ingress', 'egress'] as const) {
        assert.equal(queryTcx(index, place).length, 1);
        assert.deepEqual(listFilters(index, place), []);
      }
      assert.equal(interfaceFacts(index).clsact, false, 'the queue of the filters is gone');
      assert.equal(datapath.health(index), 'first');
    }
  };

  beforeEach(() => {
    if (bed === undefined) {
      mountBpffs();
      bed = new PodBed('staged', 2);
      datapath = open();
      datapath.apply([...ground(), ...isolatingSet(7, 70)]);
      for (const [index, pod] of bed.pods.entries()) {
        const sets = index === 1 ? { ingress: 7 } : {};
        datapath.apply(pod.link.addresses.map((each) => endpointStep(each, sets, pod.name)));
      }
    }
    datapath.detachAll();
    assert.equal(passes(), true, 'without hooks');
    for (const pod of bed.pods) datapath.attachNew(pod.link);
    datapath.settle();
  });

  after(() => {
    datapath.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
  });

  it('deny at once, by filters', () => {
    assert.equal(passes(), false);
    assert.deepEqual([pins('filter_'), pins('link_')], [4, 0]);
    for (const index of indexes()) {
      assert.deepEqual(queryTcx(index, 'ingress'), []);
      assert.equal(listFilters(index, 'ingress').length, 1);
      assert.equal(datapath.health(index), 'first');
    }
    assert.deepEqual(repaired(), []);
  });

  it('become links, one interface after the other', () => {
    datapath.finishNew();
    assert.deepEqual([pins('filter_'), pins('link_')], [2, 2]);
    assert.equal(passes(), false, 'half-way');
    datapath.finishNew();
    isByLinks();
    assert.equal(passes(), false);
    datapath.finishNew();
    assert.deepEqual(repaired(), []);
  });

  it('become links where somebody takes the filters off', () => {
    for (const index of indexes()) destroyClsact(index);
    assert.equal(passes(), true, 'without filters');
    assert.deepEqual(repaired(), [
      ['absent', 'first'],
      ['absent', 'first'],
    ]);
    isByLinks();
    assert.equal(passes(), false);
  });

  it('become links where somebody gets ahead, and are first again', () => {
    const pass = loadConstant(TC_ACT_OK);
    const theirs = indexes().flatMap((index) => [attachTcx(pass, index, 'ingress'), attachTcx(pass, index, 'egress')]);
    assert.equal(passes(), true, 'behind');
    assert.deepEqual(repaired(), [
      ['behind', 'first'],
      ['behind', 'first'],
    ]);
    assert.equal(passes(), false);
    for (const fd of [...theirs, pass]) closeObject(fd);
  });

  it('outlive their process, and the next one makes links of them', () => {
    datapath.close();
    assert.equal(passes(), false, 'without a process');
    datapath = open();
    assert.equal(passes(), false, 'before they are attached');
    for (const pod of bed.pods) datapath.attach(pod.link);
    datapath.apply([...ground(), ...isolatingSet(7, 70)]);
    for (const [index, pod] of bed.pods.entries()) {
      const sets = index === 1 ? { ingress: 7 } : {};
      datapath.apply(pod.link.addresses.map((each) => endpointStep(each, sets, pod.name)));
    }
    datapath.settle();
    isByLinks();
    assert.equal(passes(), false);
  });

  it('go with their interfaces: no pin stays', () => {
    datapath.detachAll();
    assert.deepEqual([pins('filter_'), pins('link_')], [0, 0]);
    assert.equal(passes(), true);
    datapath.finishNew();
    assert.deepEqual([pins('filter_'), pins('link_')], [0, 0]);
  });
});
