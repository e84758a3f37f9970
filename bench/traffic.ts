// Runs bench/traffic.c over pairs of pods.
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { type Pair, pairArgument } from './network.ts';
import { parseRun, type Run } from './slots.ts';

/** A kind of traffic, as bench/traffic.c names it. */
export type Kind = 'rtt' | 'udp' | 'cpu' | 'new' | 'crr' | 'bulk';

const PROGRAM = 'build/bench/traffic';
const SLOT_MS = 20;
/** Both ends run on this one. */
const CPU = 1;

export function buildTraffic(): void {
  mkdirSync('build/bench', { recursive: true });
  execFileSync('clang', ['-O2', '-Wall', '-o', PROGRAM, 'bench/traffic.c'], { stdio: 'inherit' });
}

/** Measures all pairs side by side. Throws where one of them can't talk. */
export async function runTraffic(kind: Kind, slots: number, pairs: readonly Pair[]): Promise<Run> {
  process.stderr.write(`bench: ${kind}: ${pairs.map((pair) => pair.name).join(', ')}\n`);
  return await runPairs(kind, slots, pairs.map(pairArgument));
}

/** As `runTraffic`, with pairs as bench/traffic.c reads them. */
export async function runPairs(kind: Kind, slots: number, pairs: readonly string[]): Promise<Run> {
  const args = [kind, String(slots), String(SLOT_MS), String(CPU), ...pairs];
  const { stdout } = await promisify(execFile)(PROGRAM, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  return parseRun(stdout);
}
