// Which files run again in a guest: those whose process a signal ended, twice at most; never one in which a test failed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { GuestCounts } from './run-tests.ts';

/** What was reported before is on its way; it must arrive. */
const DIE = `await wait(300); process.kill(process.pid, 'SIGTRAP'); await wait(5000);`;

describe('test files in a guest', () => {
  let folder: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'moat-guest-'));
  });

  after(() => rmSync(folder, { recursive: true }));

  /** `bodies`: of two tests of a file; `runs` is how often the file has run before. */
  function outcome(...bodies: readonly [string, string]): { readonly text: string; readonly counts: GuestCounts } {
    const file = join(folder, 'one.test.mjs');
    const log = join(folder, 'runs');
    rmSync(log, { force: true });
    const head = `import { test } from 'node:test'; import assert from 'node:assert'; import * as fs from 'node:fs'; import { setTimeout as wait } from 'node:timers/promises';
const runs = fs.existsSync(${JSON.stringify(log)}) ? fs.readFileSync(${JSON.stringify(log)}, 'utf8').length : 0;
fs.appendFileSync(${JSON.stringify(log)}, '.');\n`;
    const tests = bodies.map((body, index) => `test('number ${index}', async () => { ${body} });\n`);
    writeFileSync(file, head + tests.join(''));
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const args = [join(import.meta.dirname, 'run-tests.ts'), file];
    const { stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', env });
    const result = stdout.match(/MOAT-RESULT (.*)/)?.[1];
    assert.ok(result, stdout);
    return { text: stdout, counts: JSON.parse(result.replaceAll(file, 'FILE')) };
  }

  it('run again where a signal ended them, loudly', () => {
    const { text, counts } = outcome('', `if (runs === 0) { ${DIE} }`);
    assert.deepEqual(counts, { passed: 2, failed: 0, skipped: 0, again: ['FILE'] });
    assert.match(text, /one\.test\.mjs was ended by SIGTRAP, and runs again/);
  });

  it('run three times at most, and say what ended them', () => {
    const { text, counts } = outcome('', `if (runs < 3) { ${DIE} }`);
    assert.deepEqual(counts, { passed: 1, failed: 1, skipped: 0, again: ['FILE', 'FILE'] });
    assert.match(text, /test failed \(SIGTRAP\)/);
  });

  it('do not run again where a test failed before that', () => {
    const { counts } = outcome('assert.ok(runs > 0);', `if (runs === 0) { ${DIE} }`);
    assert.deepEqual(counts, { passed: 0, failed: 1, skipped: 0, again: [] });
  });

  it('do not run again where a test of a suite failed before that', () => {
    const { counts } = outcome(
      '',
      `});
import { describe, it } from 'node:test';
describe('a suite', () => {
  it('fails', () => assert.ok(runs > 0));
  it('dies', async () => { if (runs === 0) { ${DIE} } });`,
    );
    assert.deepEqual(counts.again, []);
    assert.ok(counts.failed > 0);
  });

  it('do not run again where they ended by themselves', () => {
    const { text, counts } = outcome('', 'await wait(300); if (runs === 0) process.exit(3);');
    assert.deepEqual(counts, { passed: 1, failed: 1, skipped: 0, again: [] });
    assert.match(text, /test failed \(exit code 3\)/);
  });
});
