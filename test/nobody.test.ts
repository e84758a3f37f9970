// A user without rights beside a live agent: no map, no socket, no signal, no file of it. As root, the same gets through.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { listenPrivately } from '#agent/listen.ts';
import { tablesPath } from '#datapath/ebpf/generations.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { NODE } from '#test/support/kills/slots.ts';
import { StillBed } from '#test/support/kills/still-bed.ts';
import { needsRoot } from './support/needs.ts';

const NOBODY = 65_534;

/** Builds the program that tries, where nobody may run it, with a folder that is nobody's own. */
function attacker(): { readonly folder: string; readonly program: string; readonly own: string } {
  const folder = mkdtempSync(join(tmpdir(), 'moat-nobody-'));
  chmodSync(folder, 0o755);
  const program = join(folder, 'nobody');
  execFileSync('clang', ['-O1', '-o', program, join(import.meta.dirname, 'support/nobody.c')]);
  chmodSync(program, 0o755);
  const own = join(folder, 'own');
  mkdirSync(own);
  chownSync(own, NOBODY, NOBODY);
  return { folder, program, own };
}

test('a user without rights reaches nothing of a live agent, whatever the umask (needs root)', needsRoot, async (t) => {
  mountBpffs();
  const before = process.umask(0);
  const still = new StillBed('nobody');
  const { folder, program, own } = attacker();
  t.after(async () => {
    process.umask(before);
    await still.destroy();
    rmSync(folder, { recursive: true });
  });
  const life = await still.start();
  // What is inside has to be closed by itself.
  chmodSync(still.folder, 0o755);
  // Compiled code is there because the test has it there: agents are started with a umask that closes it (moat, owner.ts).
  const names = readdirSync(still.folder).filter((name) => name !== 'code');
  const files = names.map((name) => join(still.folder, name));
  assert.ok(files.some((name) => name.endsWith('agent.sock')));
  const pin = join(tablesPath(still.bed.prefix, NODE), 'class_map');
  const args = [String(life.pid), pin, own, ...files, pin];
  const tries = (user: number): readonly string[] => {
    const told = execFileSync(program, args, { uid: user, gid: user, encoding: 'utf8', cwd: '/' });
    return told.trim().split('\n');
  };
  const refused = tries(NOBODY);
  assert.equal(refused.length, 9 + 7 * (files.length + 1));
  for (const line of refused) assert.match(line, /^[a-z-]+ (EPERM|EACCES)$/);
  assert.equal((await life.client.status()).problem, null);
  assert.ok(still.enforces() && still.speaks());
  // The same as root: what the program tries is something, and would have been seen.
  const did = new Set(
    tries(0)
      .filter((line) => line.endsWith(' done'))
      .map((line) => line.split(' ')[0]),
  );
  for (const what of ['open-pin', 'map-by-id', 'make-map', 'signal', 'ptrace', 'memory', 'connect', 'open', 'create']) {
    assert.ok(did.has(what), `${what} as root`);
  }
});

test(
  'a socket in a folder that others can change, or that is a link, is refused (needs root)',
  needsRoot,
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'moat-nobody-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const made = join(folder, 'made');
    const listens = async (): Promise<string> => {
      const server = createServer();
      try {
        await listenPrivately(server, join(made, 'agent.sock'));
        return 'listens';
      } catch (error) {
        return error instanceof Error ? error.message : String(error);
      } finally {
        server.close();
      }
    };
    const ways: readonly (() => void)[] = [
      () => chownSync(made, NOBODY, NOBODY),
      () => chmodSync(made, 0o777),
      () => {
        rmSync(made, { recursive: true });
        symlinkSync(folder, made);
      },
    ];
    for (const way of ways) {
      mkdirSync(made, { mode: 0o700 });
      assert.equal(await listens(), 'listens');
      way();
      assert.match(await listens(), /is not a folder that its owner alone can change .*: remove it, or choose another/);
      rmSync(made, { recursive: true });
    }
  },
);
