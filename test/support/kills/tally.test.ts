// What the soak takes for a finding, and for a leak: what goes on growing at half a life, not code that gets hot, nor one odd moment.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Held } from '../held.ts';
import { growth, Tally } from './tally.ts';
import type { TrafficReport } from './traffic.ts';

const EVERY_MS = 15_000;
/** A minute of a life under churn, about. */
const CHANGES = 1200;

/** A life as one of 15 minutes was, in bytes, with so much more for each change; malloc gave out 2.5 MB more for a moment. */
function life(minutes: number, leak: Partial<Held>): readonly Held[] {
  return Array.from({ length: minutes * 4 }, (_, at) => {
    const settles = 1 - Math.exp(-at / 12);
    const noise = ((at * 7) % 5) * 20_000;
    const changes = (at / 4) * CHANGES;
    return {
      data: 7_700_000 + 2_000_000 * settles + noise + changes * (leak.data ?? 0),
      code: 6_600_000 + 1_600_000 * settles,
      native: 5_000_000 + 900_000 * settles + noise + changes * (leak.native ?? 0) + (at % 19 === 11 ? 2_500_000 : 0),
    };
  });
}

test('a life that settles is no leak', () => {
  assert.equal(growth(life(15, {}), EVERY_MS)?.isLeak, false);
});

test('a hundred bytes for each change are one, wherever they are', () => {
  assert.equal(growth(life(15, { data: 100 }), EVERY_MS)?.isLeak, true);
  assert.equal(growth(life(15, { native: 100 }), EVERY_MS)?.isLeak, true);
});

test('a life of a few minutes says nothing', () => {
  assert.equal(growth(life(7, { data: 100 }), EVERY_MS), null);
});

test('what is lost, refused, passed or answered by somebody else is found', () => {
  const good: TrafficReport = {
    ...{
      lost: [],
      connections: 16,
      echoed: 1,
      longestStallMs: 0,
      stalled: '',
      longestSilenceMs: 5,
      sent: 9,
      received: 9,
      answered: 9,
    },
    ...{ opened: 5, refused: [], tries: 7, passed: 0, bypassed: 0 },
  };
  const findings = (report: Partial<TrafficReport>): number => {
    const tally = new Tally();
    tally.noteTrafficAtEnd({ ...good, ...report });
    return tally.findings.length;
  };
  assert.equal(findings({ bypassed: 3 }), 0);
  for (const bad of [
    { lost: ['one'] },
    { refused: ['2 to 10.0.0.1'] },
    { passed: 1 },
    { received: 8, answered: 8 },
    { answered: 8 },
    { longestSilenceMs: 7000 },
  ])
    assert.equal(findings(bad), 1, JSON.stringify(bad));
});
