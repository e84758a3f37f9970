// Filters outlive their process, so the next one must know of each: wherever it was killed while it put them there. Needs root.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { after, before, beforeEach, describe, it } from 'node:test';
import { closeObject, loadConstant, pinObject } from '#kernel/bpf.ts';
import { mountBpffs, pinPath, removePins } from '#kernel/bpffs.ts';
import { attachFilter, listFilters } from '#kernel/tc.ts';
import { needsRoot } from '#test/support/needs.ts';
import { PodBed } from '#test/support/pod-bed.ts';
import { ClsactHooks, dropAllFilters } from './clsact-hooks.ts';
import { POD_PLACES } from './hooks.ts';

const HOOK = { priority: 1, handle: 0x6d6f6174 };

describe('marks of filters (needs root)', needsRoot, () => {
  let bed: PodBed;
  let directory: string;
  const programs: number[] = [];
  const hooksOf = (program: number, at: string = directory): ClsactHooks =>
    new ClsactHooks({
      places: POD_PLACES,
      directory: at,
      programs: { from_pod: program, to_pod: program, from_node: program },
    });
  const program = (): number => {
    const made = loadConstant(0);
    programs.push(made);
    return made;
  };
  const index = (): number => bed.pod(0).link.interfaceIndex;
  const filters = (): number => listFilters(index(), 'ingress').length + listFilters(index(), 'egress').length;

  before(() => {
    mountBpffs();
    bed = new PodBed('marks-of', 1);
    directory = `${pinPath(bed.prefix, 'marks')}`;
  });
  beforeEach(() => mkdirSync(directory, { recursive: true }));
  after(() => {
    for (const each of programs) closeObject(each);
    removePins(bed.prefix, 'marks');
    bed.destroy();
  });

  it('are there before their filters: of what can’t be marked nothing stays', () => {
    const hooks = hooksOf(program(), `${directory}-is-not-there`);
    assert.throws(() => hooks.attach(index()));
    assert.equal(filters(), 0);
  });

  it('name the filters of a process that was killed before, between and after it swapped them', () => {
    for (const [what, swapped, renamed] of [
      ['before the filter', false, false],
      ['before the mark has its name', true, false],
      ['after it', true, true],
    ] as const) {
      const [old, next] = [program(), program()];
      mkdirSync(directory, { recursive: true });
      hooksOf(old).attach(index());
      assert.deepEqual([filters(), readdirSync(directory).length], [2, 2]);
      if (renamed) hooksOf(next).attach(index());
      else pinObject(next, `${directory}/next_${index()}_to_pod`);
      if (swapped) attachFilter(index(), 'egress', HOOK, next);
      assert.ok(hooksOf(next).stands(index()), what);
      dropAllFilters(directory);
      assert.deepEqual([filters(), readdirSync(directory)], [0, []], what);
    }
  });

  it('that a killed process left beside others are put right by the next', () => {
    const [old, next] = [program(), program()];
    hooksOf(old).attach(index());
    pinObject(next, `${directory}/next_${index()}_to_pod`);
    attachFilter(index(), 'egress', HOOK, next);
    const hooks = hooksOf(program());
    hooks.forgetGone();
    assert.deepEqual(readdirSync(directory).sort(), [`filter_${index()}_from_pod`, `filter_${index()}_to_pod`]);
    assert.deepEqual([hooks.stands(index()), hooks.look(index()).health], [true, 'first']);
    dropAllFilters(directory);
    assert.equal(filters(), 0);
  });
});
