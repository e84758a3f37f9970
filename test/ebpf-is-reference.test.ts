// The kernel programs say of random frames, on random worlds that change, what the reference says: verdict, reason,
// leg and rules. Needs root.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { DROP_REASONS } from '#datapath/port.ts';
import { needsRoot } from '#test/support/needs.ts';
import { samples } from '#test/support/property.ts';
import { TestRunBed } from '#test/support/test-run-bed.ts';
import { arbitraryPlayed, play } from '#test/support/twins.ts';

let bed: TestRunBed | null = null;

before(() => {
  bed = needsRoot.skip === false ? new TestRunBed('twins', { uplink: true }) : null;
});

after(() => bed?.destroy());

test('frames on changing worlds fare in the kernel as in the reference (root)', needsRoot, async (context) => {
  assert.ok(bed);
  const seen = new Map<string, number>();
  let worlds = 0;
  let packets = 0;
  for (const played of samples(context, arbitraryPlayed, 40)) {
    packets += play(bed, played, seen);
    worlds++;
    // What is no longer used goes after two grace periods, on other threads' time.
    await setTimeout(1);
  }
  context.diagnostic(`${worlds} worlds, ${packets} packets`);
  for (const [reason, count] of [...seen].sort()) context.diagnostic(`${String(count).padStart(6)}  ${reason}`);
  context.diagnostic(`not reached: ${DROP_REASONS.filter((reason) => !seen.has(reason)).join(', ') || 'none'}`);
  assert.deepEqual(
    REACHED.filter((reason) => !seen.has(reason)),
    [],
  );
});

/** Outcomes that any forty worlds reach many times over; where one is missing, the frames try too little. */
const REACHED: readonly string[] = [
  ...['none', 'policy', 'no-endpoint', 'malformed', 'extension-header', 'spoofed-source', 'spoofed-neighbour'],
  ...['multicast', 'mid-flow', 'icmp-unrelated', 'no-backend', 'served', 'translated back'],
];
