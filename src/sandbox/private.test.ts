// What a user without rights meets: sockets, state folders and pins that are closed to it, whatever the umask was.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { listenPrivately } from '#agent/listen.ts';
import { needsRoot } from '#test/support/needs.ts';
import { SandboxError } from './error.ts';
import { statePaths } from './names.ts';
import { claim, release } from './owner.ts';

const NOBODY = 65_534;
const root = mkdtempSync(join(tmpdir(), 'moat-private-'));
// Others may enter: what is inside has to be closed by itself.
chmodSync(root, 0o755);
process.env.MOAT_RUN = join(root, 'run');
const before = process.umask(0);
after(() => {
  process.umask(before);
  rmSync(root, { recursive: true, force: true });
});

/** Connects as nobody; the errno's name, or `connected`. */
function connectAsNobody(path: string): string {
  const script = `require('node:net').connect(${JSON.stringify(path)}).on('connect', () => { console.log('connected'); process.exit() }).on('error', (error) => console.log(error.code))`;
  const found = spawnSync(process.execPath, ['-e', script], { uid: NOBODY, gid: NOBODY, encoding: 'utf8', cwd: '/' });
  return found.stdout.trim() || found.stderr;
}

test('a socket is closed to others from its first moment, with a umask of 0 (needs root)', needsRoot, async (t) => {
  const path = join(root, 'open.sock');
  const server = createServer((socket) => socket.end());
  t.after(() => server.close());
  let first = 0;
  server.on('listening', () => {
    first = statSync(path).mode & 0o777;
  });
  await listenPrivately(server, path);
  assert.equal(first, 0o600);
  assert.equal(process.umask(), 0);
  const refused = connectAsNobody(path);
  chmodSync(path, 0o666);
  const control = connectAsNobody(path);
  assert.equal(refused, 'EACCES');
  assert.notEqual(control, 'EACCES');
});

test('a state folder is for root alone, and so is what its processes write (needs root)', needsRoot, () => {
  process.umask(0);
  const { folder, owner } = claim('one');
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.equal(statSync(owner).mode & 0o777, 0o600);
  assert.equal(process.umask(), 0o077);
  const read = spawnSync('cat', [owner], { uid: NOBODY, gid: NOBODY });
  assert.notEqual(read.status, 0);
  release('one');
});

test('a state folder that somebody else made, opened or linked is refused (needs root)', needsRoot, () => {
  const { folder } = statePaths('two');
  const elsewhere = join(root, 'elsewhere');
  mkdirSync(elsewhere, { recursive: true, mode: 0o700 });
  const makes: readonly (() => void)[] = [
    () => {
      mkdirSync(folder, { recursive: true });
      chmodSync(folder, 0o777);
    },
    () => symlinkSync(elsewhere, folder),
  ];
  for (const make of makes) {
    mkdirSync(join(root, 'run'), { recursive: true });
    make();
    assert.throws(
      () => claim('two'),
      (error) => error instanceof SandboxError && error.code === 'folder',
    );
    rmSync(folder, { recursive: true, force: true });
  }
});
