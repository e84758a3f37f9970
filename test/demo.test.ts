// The tour, by real packets: what it tells is so, and it leaves nothing behind.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { needsRoot } from './support/needs.ts';

const ROOT = join(import.meta.dirname, '..');
const NAME = `dt${process.pid}`;

type Row = { readonly from: string; readonly to: string; readonly port: number; readonly verdict: string };
type Place = { readonly object: string; readonly file: string; readonly line: number };
type Story = {
  readonly before: readonly Row[];
  readonly after: readonly Row[];
  readonly edit: {
    readonly rule: string;
    readonly file: string;
    readonly answeredBefore: number;
    readonly writeToFirstPacketMs: number;
    readonly places: readonly Place[];
  } | null;
  readonly denied: readonly { readonly from: string; readonly to: string; readonly places: readonly Place[] }[];
};

function leftovers(): readonly string[] {
  const namespaces = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  const copies = readdirSync(tmpdir()).filter((name) => name.startsWith(`moat-${NAME}-`));
  return [...namespaces.split('\n').filter((line) => line.includes(NAME)), ...copies];
}

test(
  'needs root: the tour shows packets before and after, a connection cut by an edit, and each denial by file and line',
  needsRoot,
  () => {
    const args = ['demo', '-f', 'examples/first', '--once', '-o', 'json', '--name', NAME];
    const { status, stdout, stderr } = spawnSync('./moat', args, { cwd: ROOT, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    const story = JSON.parse(stdout) as Story;
    assert.deepEqual(
      story.before.map(({ verdict }) => verdict),
      ['allow', 'allow'],
    );
    assert.equal(story.edit?.rule, 'networkpolicy/default/server-from-client/ingress/0');
    assert.equal(story.edit.file, 'examples/first/policy.yaml');
    assert.ok(story.edit.answeredBefore > 50, `${story.edit.answeredBefore} messages`);
    assert.ok(story.edit.writeToFirstPacketMs < 500, `${story.edit.writeToFirstPacketMs} ms`);
    const place = { object: 'NetworkPolicy default/server-from-client', file: 'examples/first/policy.yaml', line: 8 };
    assert.deepEqual(story.edit.places, [place]);
    assert.deepEqual(leftovers(), []);
  },
);

test('needs root: Ctrl-C ends the tour with 130, and nothing is left', needsRoot, async () => {
  const child = spawn('./moat', ['demo', '-f', 'examples/first', '--name', NAME], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = Promise.withResolvers<number | null>();
  child.once('exit', ended.resolve);
  let text = '';
  let stopped = false;
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
    if (!stopped && text.includes('It stays up until Ctrl-C')) stopped = child.kill('SIGINT');
  });
  assert.equal(await ended.promise, 130, text);
  assert.ok(!text.includes('\u001b'), 'plain in a pipe');
  assert.deepEqual(leftovers(), []);
});

test('needs root: a reader that closes the pipe ends the tour, and nothing is left', needsRoot, () => {
  // What it says first is read, and nothing of what it says later.
  const tour = './moat demo -f examples/first --name "$1" | head -n 2';
  const { stderr, stdout } = spawnSync('sh', ['-c', tour, 'sh', NAME], { cwd: ROOT, encoding: 'utf8' });
  assert.match(stdout, /The application comes up/, stderr);
  assert.deepEqual(leftovers(), []);
});
