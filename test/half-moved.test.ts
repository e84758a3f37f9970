// An agent killed between two slices of a change (docs/decisions/0020), and the next ones, of this and of another version,
// killed while they take over. At every moment each packet is judged as before the change or as after it. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import { HalfBed } from '#test/support/kills/half-bed.ts';
import { CHANGES } from '#test/support/kills/half-world.ts';
import type { Halt } from '#test/support/kills/halting-state.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeNextVersion, type OtherVersion } from '#test/support/other-version.ts';

/** The first slice may do no more than bring rules into force, the second one moves somebody. */
const SLICES = 2;
/** Places of a takeover: its tables are full, some pods have its hooks, or all and their new policy. */
const TAKEOVERS: readonly Halt[] = [
  { call: 'apply', times: 1 },
  { call: 'attach', times: 2 },
  { call: 'turn', times: 1 },
];

describe('an agent killed between two slices', { skip: needsRoot.skip || needsSources.skip }, () => {
  let next: OtherVersion;

  before(() => {
    mountBpffs();
    next = makeNextVersion();
  });

  after(() => next.remove());

  for (const [at, change] of CHANGES.entries()) {
    it(`leaves what was before the change or what is after it, and so do the next ones: ${change.name}`, async (t) => {
      const bed = new HalfBed(`half${at}`, change);
      try {
        await bed.start();
        const { flows, moved } = await bed.stopBetweenSlices(SLICES);
        t.diagnostic(`${moved} of ${flows} flows as after the change`);
        if (change.shows) assert.ok(moved > 0 && moved < flows, 'half-way');
        else assert.ok(moved === 0 && flows > 0, 'not yet');
        for (const [turn, halt] of TAKEOVERS.entries()) {
          // The two versions in turn; not for each change the same one first.
          await bed.stopTakeover(halt, (at + turn) % 2 === 0 ? { root: next.root } : {});
        }
        await bed.finish();
      } finally {
        await bed.destroy();
      }
    });
  }
});
