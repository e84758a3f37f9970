// Plants the fault of each hole (support/holes.ts) in a copy of the project and runs the hole's test there, which must
// fail, by an assertion of its own; without the fault it must pass: `make teeth`, or `holes.ts WORDS` for some of them.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import type { Fault, Hole } from './support/holes/fault.ts';
import { HOLES } from './support/holes.ts';

const ROOT = join(import.meta.dirname, '..');
const COPIED = ['src', 'bpf', 'test', 'tools', 'package.json'] as const;
const LINKED = ['node_modules', '.moat', 'examples'] as const;
const LIMIT_MS = 300_000;
/** What a test says that saw something else than it expects. */
const FAILED = /ERR_ASSERTION|Property failed after/;
/** What a test says that could not even begin: programs that the verifier refuses, sources that do not parse. */
const BROKEN = /ObjectError|DatapathError: the kernel|SyntaxError|ERR_MODULE_NOT_FOUND/;

type Run = { readonly passed: number; readonly failed: number; readonly text: string };

function makeCopy(): string {
  const copy = mkdtempSync(join(tmpdir(), 'moat-holes-'));
  for (const name of COPIED) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  for (const name of LINKED) symlinkSync(join(ROOT, name), join(copy, name));
  return copy;
}

function isBuilt(copy: string): boolean {
  return spawnSync('sh', ['tools/build-bpf.sh'], { cwd: copy, stdio: 'ignore' }).status === 0;
}

/** Writes the faults, and returns what takes them back. */
function plant(copy: string, faults: readonly Fault[]): () => void {
  const before = new Map(faults.map(({ file }) => [join(copy, file), readFileSync(join(copy, file), 'utf8')]));
  for (const { file, from, to } of faults) {
    const path = join(copy, file);
    const text = readFileSync(path, 'utf8');
    if (!text.includes(from)) throw new Error(`${file} no longer says: ${from}`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
  }
  return () => {
    for (const [path, text] of before) writeFileSync(path, text);
  };
}

function run(copy: string, { file, test }: Hole): Run {
  const pattern = test.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const args = ['--test', '--test-reporter=tap', `--test-name-pattern=${pattern}`, file];
  const env = { ...process.env, CI: 'true' };
  const { stdout } = spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8', env, timeout: LIMIT_MS });
  const lines = stdout.split('\n').filter((line) => line.includes(test));
  return {
    passed: lines.filter((line) => /^\s*ok \d/.test(line) && !line.includes('# SKIP')).length,
    failed: lines.filter((line) => /^\s*not ok \d/.test(line)).length,
    text: stdout,
  };
}

/** What is wrong with a test that is to find a fault; null where it passes as long as there is none. */
function seenWhole(copy: string, hole: Hole): string | null {
  const { passed, failed, text } = run(copy, hole);
  return failed === 0 && passed > 0 ? null : `does not pass without the fault: ${text}`;
}

/** Null where the fault is found; else what was seen. */
function seenFaulty(copy: string, hole: Hole): string | null {
  const takeBack = plant(copy, hole.faults);
  try {
    if (!isBuilt(copy)) return 'can’t be run: the fault does not compile';
    const { failed, text } = run(copy, hole);
    if (failed === 0) return 'passes with the fault';
    return FAILED.test(text) && !BROKEN.test(text) ? null : `fails, but not by an assertion: ${text}`;
  } finally {
    takeBack();
  }
}

function tell({ rule, test }: Hole, seen: string | null): void {
  const mark = seen === null ? styleText('green', '✔') : styleText('red', '✖');
  console.log(`${mark} ${rule}${seen === null ? '' : `: '${test}' ${seen}`}`);
}

function main(words: readonly string[]): void {
  const chosen = HOLES.filter(({ rule, file, test }) =>
    words.every((word) => `${rule} ${file} ${test}`.includes(word)),
  );
  const copy = makeCopy();
  let left = 0;
  try {
    if (!isBuilt(copy)) throw new Error('the kernel programs can’t be built');
    const whole = new Map(chosen.map((hole) => [hole, seenWhole(copy, hole)]));
    for (const [hole, fault] of whole) {
      const seen = fault ?? seenFaulty(copy, hole);
      if (seen !== null) left++;
      tell(hole, seen);
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
  console.log(`\n${chosen.length - left} passed, ${left} failed`);
  process.exitCode = left === 0 && chosen.length > 0 ? 0 : 1;
}

main(process.argv.slice(2));
