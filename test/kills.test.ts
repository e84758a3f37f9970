// kill -9 of the agent again and again, at random points, while policies and pods change: `make soak` does it a thousand
// times and for half an hour, this some dozens of times.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountBpffs } from '#kernel/bpffs.ts';
import { KillRig } from '#test/support/kills/rig.ts';
import { drawRounds } from '#test/support/kills/rounds.ts';
import { quantile } from '#test/support/kills/tally.ts';
import { needsRoot } from '#test/support/needs.ts';
import { makeNextVersion } from '#test/support/other-version.ts';

const ROOT = join(import.meta.dirname, '..');
const KILLS = 24;

test(
  'needs root: an agent that is killed again and again loses nothing, opens nothing, leaves nothing',
  needsRoot,
  async (t) => {
    const seed = Number(process.env.MOAT_FUZZ_SEED ?? Math.trunc(Date.now() % 0x7fff_ffff));
    t.diagnostic(`seed ${seed}`);
    mountBpffs();
    const next = makeNextVersion();
    const rig = new KillRig('kills', [ROOT, next.root]);
    try {
      await rig.start();
      const drawn = drawRounds(seed, KILLS);
      for (const [at, round] of drawn.entries()) await rig.round(at === 1 ? { ...round, when: 'bypassed' } : round);
      const traffic = await rig.finish();
      const { tally } = rig;
      rig.tally.noteTrafficAtEnd(traffic);
      t.diagnostic(
        `${tally.kills} kills, ${tally.checks} looks, ${tally.verdicts} verdicts (${tally.allowed} allowed)`,
      );
      t.diagnostic(
        `starts: p50 ${quantile(tally.startsMs, 0.5).toFixed(0)} ms, max ${quantile(tally.startsMs, 1).toFixed(0)} ms`,
      );
      t.diagnostic(JSON.stringify({ ...traffic, usage: tally.usage.slice(0, 3), last: tally.usage.at(-1) }));
      assert.deepEqual(tally.findings, []);
      assert.ok(tally.checks > KILLS / 4 && traffic.tries > 1000 && traffic.echoed > 10_000);
      assert.ok(traffic.bypassed > 8, 'denied pairs met while policy was bypassed');
      assert.ok(tally.allowed > 8 && tally.allowed < tally.verdicts - 8, 'verdicts of both kinds were tried');
    } finally {
      await rig.destroy();
      next.remove();
    }
  },
);
