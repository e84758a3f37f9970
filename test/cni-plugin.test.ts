// The CNI plugin alone: what it says without an agent, what it makes of an agent's replies, and that nothing it is given
// makes it crash.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { readRequest } from '#agent/request.ts';
import { cniPlugin } from '#test/support/node-bed.ts';
import { samples } from '#test/support/property.ts';

const ROOT = join(import.meta.dirname, '..');

type Run = { readonly exit: number | null; readonly stdout: string; readonly stderr: string };

async function run(program: string, env: Readonly<Record<string, string>>, input: string | Uint8Array): Promise<Run> {
  const child = spawn(program, [], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
    });
  }
  // It need not read all of its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [exit] = (await once(child, 'close')) as [number | null];
  return { exit, ...said };
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'moat-plugin-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function configOf(folder: string, more: Readonly<Record<string, unknown>> = {}): string {
  const own = { socket: join(folder, 'agent.sock'), spool: join(folder, 'spool') };
  return JSON.stringify({ cniVersion: '1.0.0', name: 'pods', ...own, ...more });
}

const ABOUT = { CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0', CNI_NETNS: '/run/netns/x' };

/** An agent that answers every line with what `reply` makes of it. */
async function agentOf(t: TestContext, folder: string, reply: (line: string) => string | null): Promise<void> {
  const server = createServer((socket) => {
    socket.setEncoding('utf8').on('data', (line: string) => {
      const answer = reply(line);
      if (answer === null) socket.destroy();
      else socket.write(answer);
    });
    socket.on('error', () => undefined);
  });
  server.listen(join(folder, 'agent.sock'));
  await once(server, 'listening');
  t.after(() => server.close());
}

test('VERSION needs no agent, and answers in the version that is asked for', async () => {
  for (const [asked, said] of [
    ['{"cniVersion":"0.4.0"}', '0.4.0'],
    ['{"cniVersion":"0.3.1","cniVersion":"1.0.0"}', '1.0.0'],
    ['{"a":{"cniVersion":"0.3.1"},"b":["x","\\"}"]}', '1.1.0'],
    ['', '1.1.0'],
    ['{"cniVersion":"1.0.0\\""}', '1.1.0'],
  ] as const) {
    const { exit, stdout } = await run(cniPlugin(), { CNI_COMMAND: 'VERSION' }, asked);
    assert.equal(exit, 0);
    const supportedVersions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
    assert.deepEqual(JSON.parse(stdout), { cniVersion: said, supportedVersions });
  }
});

test('each failure has its code, and is told in the version of the call', async (t) => {
  const folder = folderOf(t);
  const whole = configOf(folder);
  const rows: readonly [env: Record<string, string>, input: string, code: number][] = [
    [{}, whole, 4],
    [{ CNI_COMMAND: 'SING' }, whole, 4],
    [{ CNI_COMMAND: 'ADD' }, `{"a":"${'x'.repeat(600_000)}"}`, 5],
    [{ CNI_COMMAND: 'ADD' }, '[]', 6],
    [{ CNI_COMMAND: 'ADD' }, '', 6],
    [{ CNI_COMMAND: 'ADD' }, whole.slice(0, -1), 6],
    [{ CNI_COMMAND: 'ADD' }, '{"cniVersion":"1.0.0"}', 7],
    [{ CNI_COMMAND: 'ADD' }, configOf(folder, { spool: 3 }), 7],
    [{ CNI_COMMAND: 'ADD' }, configOf(folder, { socket: 'x'.repeat(300) }), 7],
    [{ CNI_COMMAND: 'ADD', CNI_ARGS: '\u0001'.repeat(100_000) }, configOf(folder, { more: '\\'.repeat(240_000) }), 7],
    [{ CNI_COMMAND: 'ADD', ...ABOUT }, whole, 11],
    [{ CNI_COMMAND: 'CHECK', ...ABOUT }, whole, 11],
    [{ CNI_COMMAND: 'GC' }, whole, 11],
    [{ CNI_COMMAND: 'STATUS' }, whole, 50],
    [{ CNI_COMMAND: 'DEL' }, whole, 4],
    [{ CNI_COMMAND: 'DEL', ...ABOUT, CNI_CONTAINERID: '../../etc/cron.d/x' }, whole, 4],
    [{ CNI_COMMAND: 'DEL', ...ABOUT, CNI_IFNAME: 'a/b' }, whole, 4],
    [{ CNI_COMMAND: 'DEL', ...ABOUT }, configOf(folder, { spool: join(folder, 'no/such') }), 11],
  ];
  for (const [env, input, code] of rows) {
    const { exit, stdout } = await run(cniPlugin(), env, input);
    assert.equal(exit, 1, stdout);
    const error = JSON.parse(stdout);
    assert.equal(error.code, code, `${JSON.stringify(env).slice(0, 80)} ${stdout}`);
    assert.equal(error.cniVersion, input.includes('1.0.0') && code !== 6 ? '1.0.0' : '1.1.0');
  }
});

test('DEL without an agent is kept, in a folder that is nobody else’s, as the request that an agent reads', async (t) => {
  const folder = folderOf(t);
  for (const _ of [1, 2]) {
    const env = { CNI_COMMAND: 'DEL', ...ABOUT, CNI_ARGS: 'K8S_POD_NAME="ü\n' };
    assert.deepEqual(await run(cniPlugin(), env, configOf(folder)), { exit: 0, stdout: '', stderr: '' });
  }
  assert.equal(statSync(join(folder, 'spool')).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(join(folder, 'spool')), ['c1@eth0.json']);
  const file = join(folder, 'spool/c1@eth0.json');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readRequest(JSON.parse(readFileSync(file, 'utf8'))), {
    ...{ id: 1, method: 'cni' },
    call: {
      ...{ command: 'DEL', containerId: 'c1', netns: '/run/netns/x', ifname: 'eth0', args: 'K8S_POD_NAME="ü\n' },
      config: configOf(folder),
    },
  });
  // Others could put calls there, or read them.
  chmodSync(join(folder, 'spool'), 0o750);
  const open = await run(cniPlugin(), { CNI_COMMAND: 'DEL', ...ABOUT }, configOf(folder));
  assert.equal(JSON.parse(open.stdout).code, 11);
});

test('what the agent answers is printed as it is; an agent that ends before it answers is away', async (t) => {
  const folder = folderOf(t);
  const line = (message: unknown): string => `${JSON.stringify(message)}\n`;
  const result = (exit: number, output: unknown): string => line({ kind: 'answer', id: 1, result: { exit, output } });
  const rows: readonly [reply: string | null, exit: number, stdout: string | RegExp][] = [
    [result(0, { a: [1, '}}'] }), 0, '{"a":[1,"}}"]}\n'],
    [result(0, null), 0, ''],
    [result(1, { code: 11 }), 1, '{"code":11}\n'],
    [line({ kind: 'refusal', id: 1, message: 'no "such" thing' }), 1, /"code":999,.*"details":"no \\"such\\" thing"/],
    ['{"kind":"flows"}\n', 1, /"code":999/],
    ['}}\n', 1, /"code":999/],
    [`${'x'.repeat(300_000)}\n`, 1, /"code":11/],
    [null, 1, /"code":11/],
  ];
  let next: string | null = null;
  await agentOf(t, folder, () => next);
  for (const [reply, exit, stdout] of rows) {
    next = reply;
    const done = await run(cniPlugin(), { CNI_COMMAND: 'ADD', ...ABOUT }, configOf(folder));
    assert.equal(done.exit, exit, done.stdout);
    if (typeof stdout === 'string') assert.equal(done.stdout, stdout);
    else assert.match(done.stdout, stdout);
  }
  next = null;
  const del = await run(cniPlugin(), { CNI_COMMAND: 'DEL', ...ABOUT }, configOf(folder));
  assert.deepEqual([del.exit, readdirSync(join(folder, 'spool'))], [0, ['c1@eth0.json']]);
});

/** Built with checks of every access and of undefined behaviour, by the compiler that brings their libraries along. */
function checkedPlugin(folder: string): string {
  const program = join(folder, 'moat-cni-checked');
  const checks = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  execFileSync('gcc', ['-g', '-O1', ...checks, '-o', program, join(ROOT, 'cni/moat-cni.c')]);
  return program;
}

const text = fc.string({ unit: 'binary', maxLength: 40 }).map((value) => value.replaceAll('\0', ''));
const commands = fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION');
const strangeEnvironments = fc.record(
  {
    CNI_COMMAND: fc.oneof({ weight: 9, arbitrary: commands }, text),
    CNI_CONTAINERID: fc.oneof(fc.constant('c1'), text),
    CNI_IFNAME: fc.oneof(fc.constant('eth0'), text),
    CNI_NETNS: text,
    CNI_ARGS: text,
  },
  { requiredKeys: [] },
);
const environments = fc.oneof(
  strangeEnvironments,
  commands.map((command) => ({ CNI_COMMAND: command, ...ABOUT })),
);
/** What the scanner finds for "key" in each text, in a checked build. */
function scan(folder: string, jsons: readonly Uint8Array[]): readonly string[] {
  const program = join(folder, 'scan-many');
  const checks = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  execFileSync('gcc', ['-g', '-O1', ...checks, '-o', program, join(ROOT, 'test/support/scan-many.c')]);
  const records = jsons.map((json) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    return Buffer.concat([length, json]);
  });
  return execFileSync(program, { input: Buffer.concat(records), encoding: 'utf8' })
    .trim()
    .split('\n');
}

/** As JSON has it; null where the text is none, so that all but a crash will do. */
function expected(json: Uint8Array): string | null {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json));
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'broken';
  const text = 'key' in value ? value.key : undefined;
  const bytes = Buffer.from(typeof text === 'string' ? text : '');
  const isPlain = typeof text === 'string' && bytes.length < 16 && !JSON.stringify(text).includes('\\');
  return isPlain ? `${bytes.toString('hex')}.` : 'absent';
}

test('the scanner finds what JSON has, and looks at nothing beyond the text', (t) => {
  const folder = folderOf(t);
  const keys = fc.oneof(fc.constantFrom('key', 'kez', 'ke', 'key\n'), text);
  const plain = fc.oneof(text, fc.string({ maxLength: 20 }));
  const values = fc.oneof(plain, fc.jsonValue({ maxDepth: 3 }), fc.record({ key: plain }));
  const objects = fc.dictionary(keys, values, { maxKeys: 5 }).map((value) => JSON.stringify(value));
  const twice = plain.map((value) => `{"key":1,"a":[{"key":2}],"key" : ${JSON.stringify(value)}}`);
  const whole = fc.oneof(objects, twice, fc.json()).map((json) => Buffer.from(json));
  const broken = fc.oneof(objects, twice).chain(damaged);
  const soups = fc.array(pieces, { maxLength: 20 }).map((parts) => Buffer.from(parts.join('')));
  const jsons = [...samples(t, fc.oneof(whole, broken, soups), 4000)];
  const found = scan(folder, jsons);
  const counts = new Map<string, number>();
  for (const [index, json] of jsons.entries()) {
    const wanted = expected(json);
    const kind = wanted === null ? 'no JSON' : wanted.length > 1 && wanted.endsWith('.') ? 'found' : wanted;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    if (wanted !== null) assert.equal(found[index], wanted, Buffer.from(json).toString());
  }
  assert.equal(found.length, jsons.length);
  for (const kind of ['no JSON', 'found', 'absent', 'broken']) assert.ok((counts.get(kind) ?? 0) > 50, kind);
});

const pieces = fc.constantFrom(
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  '"',
  '\\',
  '"socket"',
  '"cniVersion"',
  '"1.0.0"',
  ' ',
  '0',
);
const damaged = (whole: string): fc.Arbitrary<Uint8Array> =>
  fc.tuple(fc.nat(whole.length), fc.nat(6), fc.uint8Array({ maxLength: 6 })).map(([at, cut, put]) => {
    const bytes = Buffer.from(whole);
    return Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + cut)]);
  });

test('whatever its input and environment are, it ends with a result or an error in JSON', async (t) => {
  const folder = folderOf(t);
  mkdirSync(join(folder, 'spool'), { mode: 0o700 });
  const program = checkedPlugin(folder);
  const whole = configOf(folder);
  const soups = fc.array(pieces, { maxLength: 40 }).map((parts) => Buffer.from(parts.join('')));
  // Of the others, one in sixty is a configuration that names no agent.
  const agentless = fc.constant(Buffer.from('{"cniVersion":"1.0.0","name":"pods"}'));
  const inputs = fc.oneof(
    ...[damaged(whole), soups, agentless],
    fc.uint8Array({ maxLength: 80 }),
    fc.constant(Buffer.from(whole)),
  );
  const codes = new Set<number>();
  for (const [env, input] of samples(t, fc.tuple(environments, inputs), 200)) {
    const { exit, stdout, stderr } = await run(program, env as Record<string, string>, input);
    assert.equal(stderr, '', `${JSON.stringify(env)} ${Buffer.from(input).toString('latin1')}`);
    assert.ok(exit === 0 || exit === 1);
    if (stdout !== '') codes.add(JSON.parse(stdout).code ?? 0);
  }
  // The cases went everywhere: a result, and errors of each kind.
  for (const code of [0, 4, 6, 7, 11, 50]) assert.ok(codes.has(code), `code ${code} of ${[...codes]}`);
  assert.ok(existsSync(join(folder, 'spool/c1@eth0.json')));
});

test('whatever an agent answers, it ends with a result or an error in JSON', async (t) => {
  const folder = folderOf(t);
  const program = checkedPlugin(folder);
  const heads = fc.constantFrom(
    '{"kind":"answer","id":1,"result":{"exit":0,"output":',
    '{"kind":"answer","id":1,"result":{"exit":1,"output":',
    '{"kind":"refusal","id":1,"message":',
  );
  const replies = fc.tuple(fc.oneof(heads, text), text, fc.constantFrom('}}', '}', '')).map((parts) => parts.join(''));
  let reply = '';
  await agentOf(t, folder, () => `${reply}\n`);
  for (const made of samples(t, replies, 60)) {
    reply = made;
    const { exit, stderr } = await run(program, { CNI_COMMAND: 'ADD', ...ABOUT }, configOf(folder));
    assert.equal(stderr, '', made);
    assert.ok(exit === 0 || exit === 1);
  }
});
