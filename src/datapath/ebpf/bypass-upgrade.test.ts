// A bypass and an upgrade: it goes on to its end, and until the new version's programs judge, nobody is told that it was
// changed. Needs root.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { it } from 'node:test';
import { closeObject, getPinned, handleOf, lookupElement, updateBatch } from '#kernel/bpf.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { mapLayouts } from '#kernel/btf.ts';
import { endpointStep, ground, isolatingSet } from '#test/support/hand-plan.ts';
import { hold } from '#test/support/holder.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeNextVersion } from '#test/support/other-version.ts';
import { PodBed, udpArrives } from '#test/support/pod-bed.ts';
import { tablesPath } from './generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from './open.ts';

const NEEDS = needsSources.skip === false ? needsRoot : needsSources;
const LATER_NS = 600_000_000_000n;

/** As the version before was asked to. */
function bypassOf(tables: string, untilNs: bigint): void {
  const fd = getPinned(`${tables}/state_map`);
  assert.ok(fd !== null);
  const at = mapLayouts(fd)?.value.fields.get('bypass')?.offset;
  assert.ok(at !== undefined);
  const map = handleOf(fd);
  const value = Buffer.alloc(map.valueSize);
  lookupElement(map, Buffer.alloc(4), value);
  value.writeBigUInt64LE(untilNs, at);
  updateBatch(map, Buffer.alloc(4), value, 1);
  closeObject(fd);
}

it('a bypass goes on over an upgrade, and is nobody’s to change before that is through', NEEDS, async (t) => {
  mountBpffs();
  const next = makeNextVersion();
  const bed = new PodBed('bypass-upgrade', 3);
  const holder = await hold(bed, next.root);
  let datapath: EbpfDatapath | null = null;
  t.after(() => {
    holder.kill('SIGKILL');
    datapath?.close();
    unpinDatapath(bed.prefix, 'node-a');
    bed.destroy();
    next.remove();
  });
  const arrives = (port: number): boolean => udpArrives(bed, bed.pod(0), bed.pod(2), { family: 4, port });
  assert.ok(!arrives(90), 'denied');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  const untilNs = process.hrtime.bigint() + LATER_NS;
  bypassOf(tablesPath(bed.prefix, 'node-a'), untilNs);
  assert.ok(arrives(91), 'the version before bypasses');

  const own = openDatapath({ instance: bed.prefix, node: 'node-a', sizes: { ct_map: 2048 } });
  datapath = own;
  for (const pod of bed.pods) own.attach(pod.link);
  own.apply([...ground(), ...isolatingSet(3, 30)]);
  for (const [index, pod] of bed.pods.entries()) {
    own.apply(pod.link.addresses.map((each) => endpointStep(each, index === 2 ? { ingress: 3 } : {}, `pod${index}`)));
  }
  own.turn();
  for (const asked of [0n, untilNs + LATER_NS]) {
    assert.throws(() => {
      own.bypass = asked;
    }, /hooks still run the version before/);
  }
  assert.equal(own.bypass, untilNs, 'as it is');
  assert.ok(arrives(92), 'by the programs of before');

  own.settle();
  assert.equal(own.bypass, untilNs);
  assert.ok(arrives(93), 'by these programs');
  own.bypass = 0n;
  assert.ok(!arrives(94), 'denied again');
});
