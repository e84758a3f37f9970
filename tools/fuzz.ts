// `make fuzz`: the test files that have properties, with as many random cases as CASES asks for, or from seed to seed for
// MINUTES; all of them, or FILES. A line for each run of a file, and one of totals at the end, to which Ctrl-C leads, too.
import { spawn } from 'node:child_process';
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { addCounts, type FuzzCounts, formatCounts, readCounts } from './fuzz-counts.ts';

const ROOT = join(import.meta.dirname, '..');
/** Where the output of runs that failed is kept. */
const KEPT = join(ROOT, 'build/fuzz');
const PROPERTIES = /support\/property\.ts'/;
const MINUTE_MS = 60_000;
const ONCE_CASES = 2_000_000;
const LOOPED_CASES = 100_000;
/** Seeds of a property that are near each other may have parts in common. */
const SEED_STEP = 1_000_003;
const SEEDS = 0x7fff_ffff;

type Plan = {
  /** Null = each file once. */
  readonly minutes: number | null;
  readonly cases: number;
  readonly files: readonly string[];
  readonly seed: number;
};

type Run = { readonly isPassed: boolean; readonly output: string; readonly ms: number };

function readPlan({ MINUTES, CASES, FILES, MOAT_FUZZ_SEED }: NodeJS.ProcessEnv): Plan {
  const minutes = MINUTES ? Number(MINUTES) : null;
  const cases = Number(CASES || (minutes === null ? ONCE_CASES : LOOPED_CASES));
  const seed = Number(MOAT_FUZZ_SEED || Date.now() % SEEDS);
  if (!((minutes ?? 1) > 0 && cases > 0 && Number.isInteger(seed))) {
    throw new Error('MINUTES and CASES are numbers above 0, MOAT_FUZZ_SEED is a whole one');
  }
  const files = FILES ? FILES.split(/\s+/) : filesWithProperties();
  return { minutes, cases, files, seed };
}

function filesWithProperties(): readonly string[] {
  const files = globSync('{src,test}/**/*.test.ts', { cwd: ROOT }).sort();
  return files.filter((file) => PROPERTIES.test(readFileSync(join(ROOT, file), 'utf8')));
}

/** One file, in a process group of its own, so that Ctrl-C does not end it half-way, with what it has made still there. */
function runFile(file: string, seed: number, cases: number): Promise<Run> {
  const { promise, resolve, reject } = Promise.withResolvers<Run>();
  const begunMs = performance.now();
  const env = { ...process.env, MOAT_FUZZ_SEED: String(seed), MOAT_FUZZ_CASES: String(cases) };
  const args = ['--test', '--test-reporter=tap', '--test-timeout=86400000', file];
  const child = spawn(process.execPath, args, { cwd: ROOT, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  child.on('error', reject);
  child.on('close', (code) => resolve({ isPassed: code === 0, output, ms: performance.now() - begunMs }));
  return promise;
}

/** Keeps what a run said that failed; where. */
function keep(file: string, seed: number, output: string): string {
  mkdirSync(KEPT, { recursive: true });
  const path = join(KEPT, `${basename(file, '.test.ts')}-${seed}.log`);
  writeFileSync(path, output);
  return path;
}

async function fuzz(plan: Plan, isInterrupted: () => boolean): Promise<readonly string[]> {
  const begunMs = performance.now();
  const failures: string[] = [];
  let total: FuzzCounts = new Map();
  let runs = 0;
  const isOver = (): boolean =>
    isInterrupted() || (plan.minutes !== null && performance.now() - begunMs > plan.minutes * MINUTE_MS);
  for (let { seed } = plan, isFirst = true; isFirst || plan.minutes !== null; seed = (seed + SEED_STEP) % SEEDS) {
    for (const file of plan.files) {
      if (isOver()) break;
      const { isPassed, output, ms } = await runFile(file, seed, plan.cases);
      const counts = readCounts(output);
      total = addCounts(total, counts);
      runs++;
      const end = isPassed ? 'passed' : `FAILED: ${keep(file, seed, output)}`;
      console.log(`seed ${seed}  ${file}  ${formatCounts(counts)}  ${(ms / 1000).toFixed(1)} s  ${end}`);
      if (!isPassed)
        failures.push(`MOAT_FUZZ_SEED=${seed} MOAT_FUZZ_CASES=${plan.cases} sh tools/node.sh --test ${file}`);
    }
    isFirst = false;
    if (isOver()) break;
  }
  const minutes = ((performance.now() - begunMs) / MINUTE_MS).toFixed(1);
  console.log(`fuzz: ${minutes} minutes, ${runs} runs of files, ${formatCounts(total)}, ${failures.length} failed`);
  return failures;
}

let isInterrupted = false;
process.on('SIGINT', () => {
  isInterrupted = true;
  console.log('ends after this file');
});
const failures = await fuzz(readPlan(process.env), () => isInterrupted);
for (const failure of failures) console.log(`  ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;
