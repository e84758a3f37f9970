// Runs the project's checks and tests and counts them: `check.ts all`, `check.ts test`, `check.ts NAME…`. A check that
// fails counts as one failed test. `--write` lets the formatters change files. Closes with `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Counts } from './reporters/counts.ts';

type Step = { readonly name: string; readonly title: string; readonly run: () => Counts };

const ROOT = join(import.meta.dirname, '..');

/** Test files of these folders use the machine's network: one file at a time. */
const ONE_AT_A_TIME = /^(test|src\/(datapath\/ebpf|kernel|agent|sandbox|cli|main))\//;

/** Tests of minutes, which `make test` has no time for. */
const LONG: readonly string[] = ['test/half-served.ts'];
/** What a file of tests may take, in milliseconds. */
const TIMEOUT = 600_000;
const LONG_TIMEOUT = 1_800_000;

const PASSED: Counts = { passed: 1, failed: 0, skipped: 0 };
const FAILED: Counts = { passed: 0, failed: 1, skipped: 0 };

/** What failed in the tests, in short: said again at the end. */
const failures: string[] = [];

const { values: options, positionals } = parseArgs({
  options: { write: { type: 'boolean', default: false } },
  allowPositionals: true,
});

const STEPS: readonly Step[] = [
  { name: 'format', title: 'format, lint and import order (biome)', run: () => biome() },
  { name: 'format', title: 'format of the C sources (clang-format)', run: () => clangFormat() },
  { name: 'types', title: 'types', run: () => node('node_modules/typescript/bin/tsc', '-p', 'tsconfig.json') },
  {
    name: 'types',
    title: 'types of the pure rooms, without Node',
    run: () => node('node_modules/typescript/bin/tsc', '-p', 'tsconfig.pure.json'),
  },
  { name: 'dead', title: 'dead code (knip)', run: () => node('node_modules/knip/bin/knip.js', '--no-progress') },
  { name: 'test', title: 'tests', run: () => tests(2, testFiles('together')) },
  { name: 'test', title: 'tests, one file at a time', run: () => tests(1, testFiles('alone')) },
  { name: 'long', title: 'tests that take minutes', run: () => tests(1, LONG, LONG_TIMEOUT) },
  { name: 'kernels', title: 'the conformance suite on the oldest kernel, in an emulator', run: () => oldestKernel() },
];

function biome(): Counts {
  return node('node_modules/@biomejs/biome/bin/biome', 'check', ...(options.write ? ['--write'] : []), '.');
}

function clangFormat(): Counts {
  const files = globSync('{bpf,cni,bench,tools}/**/*.{c,h}', { cwd: ROOT });
  if (files.length === 0) return { ...PASSED, passed: 0 };
  return command('clang-format', ...(options.write ? ['-i'] : ['--dry-run', '-Werror']), ...files);
}

function node(script: string, ...args: readonly string[]): Counts {
  return command(process.execPath, script, ...args);
}

function command(program: string, ...args: readonly string[]): Counts {
  const result = spawnSync(program, args, { cwd: ROOT, stdio: 'inherit' });
  if (result.error) console.error(`${program}: ${result.error.message}`);
  return result.status === 0 ? PASSED : FAILED;
}

function testFiles(how: 'together' | 'alone'): readonly string[] {
  const files = globSync('{src,test,tools,bench}/**/*.test.ts', { cwd: ROOT }).sort();
  return files.filter((file) => ONE_AT_A_TIME.test(file) === (how === 'alone'));
}

function tests(concurrency: number, files: readonly string[], timeout = TIMEOUT): Counts {
  if (files.length === 0) return { ...PASSED, passed: 0 };
  const scratch = mkdtempSync(join(tmpdir(), 'moat-check-'));
  try {
    const result = spawnSync(process.execPath, testArguments(concurrency, scratch, timeout, files), {
      cwd: ROOT,
      stdio: 'inherit',
    });
    const counts = readCounts(join(scratch, 'counts'));
    failures.push(readFileSync(join(scratch, 'failures'), 'utf8'));
    return result.status !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function testArguments(concurrency: number, scratch: string, timeout: number, files: readonly string[]): string[] {
  return [
    '--test',
    `--test-concurrency=${concurrency}`,
    `--test-timeout=${timeout}`,
    ...reporter('report', 'stdout'),
    ...reporter('counts', join(scratch, 'counts')),
    ...reporter('failures', join(scratch, 'failures')),
    ...files,
  ];
}

function reporter(name: string, destination: string): string[] {
  return [`--test-reporter=./tools/reporters/${name}.ts`, `--test-reporter-destination=${destination}`];
}

function oldestKernel(): Counts {
  const scratch = mkdtempSync(join(tmpdir(), 'moat-check-'));
  try {
    const file = join(scratch, 'counts.json');
    const args = ['tools/kernels/run.ts', '--kernel', '6.1', '--cpus', '1', 'src/datapath/ebpf/conformance.test.ts'];
    spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit', env: { ...process.env, MOAT_COUNTS_FILE: file } });
    return readCounts(file);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** A run that wrote none is one failure. */
function readCounts(file: string): Counts {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Counts;
  } catch {
    return FAILED;
  }
}

function runStep(step: Step): Counts {
  console.log(`\n== ${step.title}`);
  const begun = performance.now();
  const counts = step.run();
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`   ${counts.failed === 0 ? 'passed' : 'FAILED'} in ${seconds} s`);
  return counts;
}

function main(): void {
  const wanted = positionals.length === 0 ? ['all'] : positionals;
  const steps = STEPS.filter((step) => wanted.includes('all') || wanted.includes(step.name));
  if (steps.length === 0) {
    console.error(`no such check: ${wanted.join(' ')} (all, ${[...new Set(STEPS.map((s) => s.name))].join(', ')})`);
    process.exit(2);
  }
  const counts = steps.map(runStep);
  const sum = (key: keyof Counts): number => counts.reduce((total, each) => total + each[key], 0);
  if (sum('skipped') > 0) console.log(`\n${sum('skipped')} did not run; each is named above`);
  if (failures.join('') !== '') console.log(`\n== what failed\n${failures.join('')}`);
  const line = `${sum('passed')} passed, ${sum('failed')} failed`;
  const file = process.env.MOAT_RESULT_FILE;
  if (file === undefined) console.log(`\n${line}`);
  else writeFileSync(file, `${line}\n`);
  process.exitCode = sum('failed') === 0 ? 0 : 1;
}

main();
