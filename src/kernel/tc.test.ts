// Queues that filters hang on, as the kernel has them. Needs root.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed } from '#test/support/pod-bed.ts';
import { closeObject, loadConstant } from './bpf.ts';
import { attachFilter, createClsact, destroyClsact, listFilters, QueueTaken } from './tc.ts';

describe('a clsact queue (needs root)', needsRoot, () => {
  let bed: PodBed;
  let program: number;
  const tc = (command: string): void => {
    execFileSync('tc', command.split(' '));
  };

  before(() => {
    bed = new PodBed('queue', 1);
    program = loadConstant(0);
  });
  after(() => {
    closeObject(program);
    bed.destroy();
  });

  it('is made once', () => {
    const { interfaceIndex } = bed.pod(0).link;
    assert.equal(createClsact(interfaceIndex), true);
    assert.equal(createClsact(interfaceIndex), false);
    destroyClsact(interfaceIndex);
  });

  it('has no place beside somebody’s ingress queue, which would take filters of both sides for its own', () => {
    const { interfaceIndex } = bed.pod(0).link;
    tc('qdisc add dev h1 ingress');
    assert.throws(() => createClsact(interfaceIndex), QueueTaken);
    // Why nobody may go on: the kernel takes it, and it hangs on the other side.
    attachFilter(interfaceIndex, 'egress', { priority: 1, handle: 7 }, program);
    assert.equal(listFilters(interfaceIndex, 'ingress').length, 1);
    tc('qdisc del dev h1 ingress');
    assert.equal(createClsact(interfaceIndex), true);
    destroyClsact(interfaceIndex);
  });
});
