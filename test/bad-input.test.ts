// What bad input gets, as a user sees it: one clear message each with object, field, file and line, no result, exit
// code 2, no stack trace. (Every message of the parser by itself is tested beside it.)
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const ROOT = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'moat-bad-input-'));
after(() => rmSync(folder, { recursive: true, force: true }));

type Run = { readonly code: number; readonly stdout: string; readonly stderr: string };

function run(program: string, args: readonly string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(program, [...args], { cwd: ROOT, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
  });
}

function policy(spec: string, name = 'p'): string {
  const head = [
    'apiVersion: networking.k8s.io/v1',
    'kind: NetworkPolicy',
    `metadata: {name: ${name}, namespace: shop}`,
  ];
  return [...head, 'spec:', '  podSelector: {}', ...spec.split('\n').map((line) => `  ${line}`)].join('\n');
}

function pod(name: string, address: string): string {
  const head = ['apiVersion: v1', 'kind: Pod', `metadata: {name: ${name}, namespace: shop}`];
  return [...head, 'spec: {containers: [{name: c}]}', `status: {phase: Running, podIP: ${address}}`].join('\n');
}

type Case = {
  readonly what: string;
  /** File name → text. */
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  /** What stderr must say, all of it. */
  readonly says: readonly RegExp[];
};

/** The object, its field and the line of its file. */
const AT = (field: string, line: number): RegExp =>
  new RegExp(`a\\.yaml:${line}: error: NetworkPolicy shop/p: ${field.replace(/[[\].]/g, '\\$&')}: `);

const REFUSED: readonly Case[] = [
  {
    what: 'an unknown field',
    files: { 'a.yaml': policy('ingres: []') },
    says: [AT('spec.ingres', 6), /Did you mean "ingress"/],
  },
  {
    what: 'a port number in quotes',
    files: { 'a.yaml': policy('ingress:\n- ports:\n  - port: "80"') },
    says: [AT('spec.ingress[0].ports[0].port', 8), /80 without quotes/],
  },
  {
    what: 'a port out of range, and an endPort below its port, both in one go',
    files: { 'a.yaml': policy('ingress:\n- ports:\n  - port: 65536\n  - port: 90\n    endPort: 80') },
    says: [AT('spec.ingress[0].ports[0].port', 8), AT('spec.ingress[0].ports[1].endPort', 10)],
  },
  {
    what: 'a CIDR that is none',
    files: { 'a.yaml': policy('ingress:\n- from:\n  - ipBlock: {cidr: 10.0.0.0/40}') },
    says: [AT('spec.ingress[0].from[0].ipBlock.cidr', 8), /10\.0\.0\.0\/40/],
  },
  {
    what: 'an exception outside its CIDR',
    files: { 'a.yaml': policy('ingress:\n- from:\n  - ipBlock:\n      cidr: 10.0.0.0/8\n      except: [11.0.0.0/16]') },
    says: [AT('spec.ingress[0].from[0].ipBlock.except[0]', 10), /11\.0\.0\.0\/16/],
  },
  {
    what: 'a selector operator that is none',
    files: {
      'a.yaml': policy('ingress:\n- from:\n  - podSelector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}'),
    },
    says: [AT('spec.ingress[0].from[0].podSelector.matchExpressions[0].operator', 8), /NotIn/],
  },
  {
    what: 'the same object in two files',
    files: { 'a.yaml': policy('ingress: []'), 'b.yaml': policy('egress: []') },
    says: [/b\.yaml:1: error: NetworkPolicy shop\/p: .*a\.yaml:1/],
  },
  {
    what: 'two running pods with one address',
    files: { 'a.yaml': `${pod('one', '10.1.2.3')}\n---\n${pod('two', '10.1.2.3')}` },
    says: [/error: Pod shop\/two: .*10\.1\.2\.3/, /shop\/one/],
  },
  { what: 'text that is no YAML', files: { 'a.yaml': 'kind: [Pod\nmetadata: {' }, says: [/a\.yaml:\d+: error: /] },
  {
    what: 'a binary file',
    files: { 'a.yaml': new Uint8Array(5000).map((_, i) => i * 7) },
    says: [/a\.yaml:?\d*: error: /],
  },
  {
    what: 'aliases that would unfold to gigabytes',
    files: { 'a.yaml': aliasBomb() },
    says: [/a\.yaml:\d+: error: .*alias/i],
  },
  {
    what: 'a document that is no object',
    files: { 'a.yaml': '- just\n- a list\n' },
    says: [/a\.yaml:1: warning: /, /there is no object/],
  },
  { what: 'an empty folder', files: {}, says: [/error: the directory \S+ holds no \.yaml/] },
  {
    what: 'a file with nothing in it',
    files: { 'a.yaml': '# nothing yet\n' },
    says: [/^moat: there is no object in /],
  },
];

/** Ten levels of ten aliases each. */
function aliasBomb(): string {
  const levels = Array.from({ length: 10 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(', ')}]`);
  return ['apiVersion: v1', 'kind: ConfigMap', 'metadata: {name: bomb}', 'a0: &a0 boom', ...levels].join('\n');
}

function written(what: string, files: Case['files']): string {
  const path = join(folder, what.replace(/\W+/g, '-'));
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
  return path;
}

for (const { what, files, says } of REFUSED) {
  test(`${what} is refused with one clear message`, async () => {
    const found = await run('./moat', ['reach', '-f', written(what, files)]);
    assertRefused(found, says);
  });
}

function assertRefused({ code, stdout, stderr }: Run, says: readonly RegExp[]): void {
  assert.equal(code, 2, stderr);
  assert.equal(stdout, '', 'no result');
  for (const pattern of says) assert.match(stderr, pattern);
  assert.ok(!/\n\s+at |node:internal|this is a bug/.test(stderr), `no stack: ${stderr}`);
  assert.ok(stderr.split('\n').length < 20, `short: ${stderr}`);
}

test('diagnostics come as JSON where the result would', async () => {
  const path = written('json', { 'a.yaml': policy('ingres: []') });
  const { code, stdout, stderr } = await run('./moat', ['reach', '-f', path, '-o', 'json']);
  assert.equal(code, 2);
  assert.equal(stdout, '');
  const { diagnostics } = JSON.parse(stderr) as { diagnostics: { path: string; line: number; severity: string }[] };
  assert.deepEqual(
    diagnostics.map(({ path: field, line, severity }) => [field, line, severity]),
    [['spec.ingres', 6, 'error']],
  );
});

test('--lenient takes an invalid policy as a cluster would, and never wider than written', async () => {
  const files = {
    'a.yaml': [policy('ingress:\n- from:\n  - ipBlock: {cidr: nonsense}'), pod('one', '10.1.2.3')].join('\n---\n'),
  };
  const path = written('lenient', files);
  const args = [
    'probe',
    '--datapath',
    'simulate',
    '-o',
    'json',
    '--ports',
    '80/TCP',
    '--external',
    '192.0.2.1',
    '--lenient',
  ];
  const { code, stdout } = await run('./moat', [...args, '-f', path]);
  assert.equal(code, 0);
  const rows = JSON.parse(stdout) as { from: string; to: string; verdict: string }[];
  assert.equal(rows.find(({ from, to }) => from === '192.0.2.1' && to === 'shop/one')?.verdict, 'deny');
});

test('--lenient isolates the namespace of a policy whose header is not understood', async () => {
  const broken = policy('ingress:\n- {}', 'a+b');
  const path = written('lenient header', { 'a.yaml': [broken, pod('one', '10.1.2.3')].join('\n---\n') });
  const args = ['explain', '-f', path, '--from', '192.0.2.1', '--to', 'shop/one', '--port', '80'];
  assertRefused(await run('./moat', args), [/error: NetworkPolicy shop\/a\+b: .*\n.*namespace shop is isolated/]);
  const lenient = await run('./moat', [...args, '--lenient']);
  assert.equal(lenient.code, 1, lenient.stderr);
  assert.match(lenient.stdout, /isolated by NetworkPolicy shop\/not-understood-a-yaml-1/);
});

test('host bits in a CIDR are a warning, and the result stands', async () => {
  const path = written('host bits', { 'a.yaml': policy('ingress:\n- from:\n  - ipBlock: {cidr: 10.1.2.3/8}') });
  const { code, stderr } = await run('./moat', ['reach', '-f', path]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /warning: NetworkPolicy shop\/p: .*10\.0\.0\.0\/8/);
});

test('carriage returns, a byte order mark and merge keys are read as kubectl reads them', async () => {
  const text =
    '\ufeffx: &labels {app: web}\r\napiVersion: v1\r\nkind: Pod\r\nmetadata:\r\n  name: a\r\n  labels:\r\n    <<: *labels\r\n';
  const path = written('crlf', { 'a.yaml': text });
  const { code, stdout, stderr } = await run('./moat', ['reach', '-f', path, '-o', 'json']);
  assert.equal(code, 0, stderr);
  assert.equal((JSON.parse(stdout) as unknown[]).length, 2);
});

test('a missing file, and a folder that links into itself, are named', async () => {
  const missing = await run('./moat', ['reach', '-f', join(folder, 'nowhere.yaml')]);
  assertRefused(missing, [/nowhere\.yaml can't be read: there is no such file/]);
  const loop = written('loop', {});
  symlinkSync('../loop', join(loop, 'again'));
  symlinkSync('self.yaml', join(loop, 'self.yaml'));
  assertRefused(await run('./moat', ['reach', '-f', loop]), [
    /self\.yaml can't be read: its symbolic links lead in a circle/,
  ]);
});

test('a file without permission is named', async () => {
  const path = written('permission', { 'a.yaml': pod('one', '10.1.2.3') });
  const file = join(path, 'a.yaml');
  chmodSync(file, 0o000);
  // Root may read anything, but for these two capabilities.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) chownSync(file, 65534, 65534);
  const without = ['--bounding-set', '-dac_override,-dac_read_search', '--', './moat'];
  const args = ['reach', '-f', path];
  const found = isRoot ? await run('setpriv', [...without, ...args]) : await run('./moat', args);
  assertRefused(found, [/a\.yaml can't be read: permission is denied/]);
});

test('Ctrl-C ends a command that waits for its input', async () => {
  const child = spawn('./moat', ['reach', '-f', '-'], { cwd: ROOT, stdio: ['pipe', 'ignore', 'ignore'] });
  const { promise, resolve } = Promise.withResolvers<unknown>();
  child.once('exit', (code, signal) => resolve(signal ?? code));
  setTimeout(() => child.kill('SIGINT'), 700);
  // A shell makes 130 of a child that SIGINT has ended.
  assert.equal(await promise, 'SIGINT');
});
