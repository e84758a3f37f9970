// `make soak`: churn, load and kills for half an hour (MINUTES), or for so many kills (KILLS). Needs root. Ends with one
// line that sums it up, and fails where anything was lost, opened or left behind, or memory grew.
import { join } from 'node:path';
import { mountBpffs } from '#kernel/bpffs.ts';
import type { Held } from './support/held.ts';
import { KillRig, NOTE_MS } from './support/kills/rig.ts';
import { drawRounds, type Round } from './support/kills/rounds.ts';
import { growth, quantile, type Tally } from './support/kills/tally.ts';
import type { TrafficReport } from './support/kills/traffic.ts';
import { makeNextVersion } from './support/other-version.ts';

const ROOT = join(import.meta.dirname, '..');
const MINUTE_MS = 60_000;
/** Of a run by time, this share goes to kills, and the rest to one agent that lives on. */
const KILLING = 0.5;
const DRAWN = 256;

type Plan = { readonly minutes: number; readonly kills: number; readonly seed: number };

function readPlan(): Plan {
  const kills = Number(process.env.KILLS || Number.POSITIVE_INFINITY);
  const minutes = Number(process.env.MINUTES || (Number.isFinite(kills) ? Number.POSITIVE_INFINITY : 30));
  if (!(kills > 0 && minutes > 0)) throw new Error('MINUTES and KILLS are numbers above 0');
  return { kills, minutes, seed: Number(process.env.MOAT_FUZZ_SEED ?? Math.trunc(Date.now() % 0x7fff_ffff)) };
}

/** Without end, from one seed. */
function* rounds(seed: number): Generator<Round> {
  for (let turn = 0; ; turn++) yield* drawRounds(seed + turn, DRAWN);
}

async function soak(
  rig: KillRig,
  plan: Plan,
): Promise<{ readonly traffic: TrafficReport; readonly life: readonly Held[] }> {
  const begunMs = performance.now();
  const killing = (Number.isFinite(plan.kills) ? 1 : KILLING) * plan.minutes * MINUTE_MS;
  await rig.start();
  const drawn = rounds(plan.seed);
  let told = 0;
  for (const round of drawn) {
    await rig.round(round);
    for (const finding of rig.tally.findings.slice(told)) process.stderr.write(`${finding}\n`);
    told = rig.tally.findings.length;
    if (rig.tally.kills % 50 === 0) process.stderr.write(`soak: ${rig.tally.kills} kills, ${told} findings\n`);
    if (rig.tally.kills >= plan.kills || performance.now() - begunMs > killing) break;
  }
  const left = plan.minutes * MINUTE_MS - (performance.now() - begunMs);
  const life = Number.isFinite(plan.kills) ? [] : await rig.live(left, rounds(plan.seed + 1_000_000));
  return { traffic: await rig.finish(), life };
}

/** How memory grew, or that it was not judged. */
function noteGrowth(tally: Tally, life: readonly Held[]): string {
  const grown = growth(life, NOTE_MS);
  if (grown === null) return 'memory: not judged, the life was too short';
  const text = `${grown.data.toFixed(0)} kB of data and ${grown.native.toFixed(0)} kB by malloc more each minute`;
  tally.expect(!grown.isLeak, () => `memory grows: ${text}`);
  return `memory: ${text}`;
}

function summary(tally: Tally, traffic: TrafficReport, grown: string): string {
  const lives = tally.usage.map((usage) => usage.descriptors);
  return [
    `soak: ${tally.kills} kills, ${tally.checks} looks, ${tally.verdicts} verdicts (${tally.allowed} allowed)`,
    `start p50 ${quantile(tally.startsMs, 0.5).toFixed(0)} p99 ${quantile(tally.startsMs, 0.99).toFixed(0)} ms`,
    `${traffic.connections} connections kept, ${traffic.lost.length} lost, longest stall ${traffic.longestStallMs.toFixed(0)} ms (${traffic.stalled})`,
    `${traffic.sent - traffic.answered} of ${traffic.sent} datagrams or answers lost`,
    `outside without an answer for ${traffic.longestSilenceMs.toFixed(0)} ms at most`,
    `${traffic.refused.length} of ${traffic.opened + traffic.refused.length} connections refused`,
    `${traffic.passed} of ${traffic.tries} denied tries passed, and ${traffic.bypassed} while policy was bypassed`,
    `descriptors ${Math.min(...lives)} to ${Math.max(...lives)}`,
    `${tally.changes} changes in one life`,
    grown,
    `${tally.findings.length} findings`,
  ].join('; ');
}

const plan = readPlan();
process.stderr.write(`soak: seed ${plan.seed}\n`);
mountBpffs();
const next = makeNextVersion();
const rig = new KillRig('soak', [ROOT, next.root]);
try {
  const { traffic, life } = await soak(rig, plan);
  rig.tally.noteTrafficAtEnd(traffic);
  const grown = noteGrowth(rig.tally, life);
  for (const finding of rig.tally.findings) process.stderr.write(`${finding}\n`);
  process.stdout.write(`${summary(rig.tally, traffic, grown)}\n`);
  process.exitCode = rig.tally.findings.length === 0 ? 0 : 1;
} finally {
  await rig.destroy();
  next.remove();
}
