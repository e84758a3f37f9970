// An agent killed between two writes of a change of Services, at each of them in turn, and the next one in its takeover:
// nothing goes to whom neither the old nor the new tables name, and nothing that is open is lost. Needs root.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import { SERVICE_CHANGES } from '#test/support/kills/half-services.ts';
import type { Halt } from '#test/support/kills/halting-state.ts';
import { ServedBed } from '#test/support/kills/served-bed.ts';
import { needsRoot, needsSources } from '#test/support/needs.ts';
import { makeNextVersion, type OtherVersion } from '#test/support/other-version.ts';

/** Each change has at least as many writes: a record, its places, its key, and who serves no more. */
const FEWEST = 4;
/** Places of a takeover: its tables are full, some pods have its hooks, or all and their new policy. */
const TAKEOVERS: readonly Halt[] = [
  { call: 'apply', times: 1 },
  { call: 'attach', times: 2 },
  { call: 'turn', times: 1 },
];

describe('an agent killed between two writes of a change of Services', {
  skip: needsRoot.skip || needsSources.skip,
}, () => {
  let next: OtherVersion;

  before(() => {
    mountBpffs();
    next = makeNextVersion();
  });

  after(() => next.remove());

  for (const [at, change] of SERVICE_CHANGES.entries()) {
    it(`sends nobody elsewhere, and ends nothing: ${change.name}`, async (t) => {
      const bed = new ServedBed(`served${at}`, change);
      try {
        await bed.start();
        let writes = 1;
        for (; await bed.stopAtWrite(writes); writes++) {
          const halt = TAKEOVERS[writes - 1];
          // The two versions in turn; not for each change the same one first.
          if (halt !== undefined) await bed.stopTakeover(halt, (at + writes) % 2 === 0 ? { root: next.root } : {});
          await bed.next();
        }
        t.diagnostic(`killed after each of ${writes - 1} writes`);
        assert.ok(writes > FEWEST);
        bed.wake();
      } finally {
        await bed.destroy();
      }
    });
  }
});
