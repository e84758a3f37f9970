// Starting over on compiled code: once, as the same process, and never on code that is not the source's any more.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

const READY_CODE = join(import.meta.dirname, 'ready-code.ts');

/** Each start of the process says one line. */
type Start = { readonly pid: number; readonly args: readonly string[]; readonly version: number };

function scriptIn(folder: string, version: number): string {
  const path = join(folder, 'script.ts');
  const start = `{ pid: process.pid, args: process.argv.slice(2), version: ${version} satisfies number }`;
  const lines = [
    `import { startOnReadyCode } from ${JSON.stringify(READY_CODE)};`,
    `console.log(JSON.stringify(${start}));`,
    'startOnReadyCode();',
    'process.stdin.resume().on("end", () => console.log("end"));',
  ];
  writeFileSync(path, lines.join('\n'));
  return path;
}

async function run(script: string, env: Readonly<Record<string, string>>): Promise<readonly Start[]> {
  const { NODE_COMPILE_CACHE: _, ...rest } = process.env;
  const child = spawn(process.execPath, ['--max-semi-space-size=2', script, 'a b', '{"c":1}'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...rest, ...env },
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stdin.end();
  const [code] = await once(child, 'close');
  assert.equal(code, 0);
  const lines = said.trim().split('\n');
  assert.equal(lines.pop(), 'end', 'its standard input is the same');
  const starts = lines.map((line) => JSON.parse(line) as Start);
  for (const { pid, args } of starts) assert.deepEqual([pid, args], [child.pid, ['a b', '{"c":1}']]);
  return starts;
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'moat-code-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('a process that had to compile its code starts over once; what finds its code ready does not', async (t) => {
  const folder = folderOf(t);
  const script = scriptIn(folder, 1);
  const env = { NODE_COMPILE_CACHE: join(folder, 'cache') };
  assert.equal((await run(script, env)).length, 2);
  assert.equal((await run(script, env)).length, 1);
});

test('code that has changed since is the code that runs, in both starts', async (t) => {
  const folder = folderOf(t);
  const env = { NODE_COMPILE_CACHE: join(folder, 'cache') };
  await run(scriptIn(folder, 1), env);
  const versions = (await run(scriptIn(folder, 2), env)).map(({ version }) => version);
  assert.deepEqual(versions, [2, 2]);
});

test('without a cache, or with one that nothing can be written to, a process starts once', async (t) => {
  const folder = folderOf(t);
  const script = scriptIn(folder, 1);
  assert.equal((await run(script, {})).length, 1);
  writeFileSync(join(folder, 'file'), '');
  assert.equal((await run(script, { NODE_COMPILE_CACHE: join(folder, 'file/cache') })).length, 1);
});
