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
import { CniBed } from '#test/support/cni-bed.ts';
import { NODE } from '#test/support/kills/slots.ts';
import { StillBed } from '#test/support/kills/still-bed.ts';
import { needsRoot } from './support/needs.ts';

const NOBODY = 65_534;

/** Builds the program that tries, where nobody may run it. */
function attacker(): { readonly folder: string; readonly program: string } {
  const folder = mkdtempSync(join(tmpdir(), 'moat-nobody-'));
  chmodSync(folder, 0o755);
  const program = join(folder, 'nobody');
  execFileSync('clang', ['-O1', '-o', program, join(import.meta.dirname, 'support/nobody.c')]);
  chmodSync(program, 0o755);
  return { folder, program };
}

/** A folder of nobody's own, in the file system of what is tried: links go no further. */
function ownFolder(parent: string): string {
  const own = join(parent, 'own');
  mkdirSync(own);
  chownSync(own, NOBODY, NOBODY);
  return own;
}

/** What came of each attempt of a user; `args` as the program has them. */
function tries(program: string, user: number, args: readonly string[]): readonly string[] {
  const told = execFileSync(program, args, { uid: user, gid: user, encoding: 'utf8', cwd: '/' });
  return told.trim().split('\n');
}

/** All was tried on this many files, and none of it was allowed. */
function assertRefused(told: readonly string[], files: number): void {
  assert.equal(told.length, 9 + 7 * files);
  for (const line of told) assert.match(line, /^[a-z-]+ (EPERM|EACCES)$/);
}

test('a user without rights reaches nothing of a live agent, whatever the umask (needs root)', needsRoot, async (t) => {
  mountBpffs();
  const before = process.umask(0);
  const still = new StillBed('nobody');
  const { folder, program } = attacker();
  const own = ownFolder(folder);
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
  assertRefused(tries(program, NOBODY, args), files.length + 1);
  assert.equal((await life.client.status()).problem, null);
  assert.ok(still.enforces() && still.speaks());
  // The same as root: what the program tries is something, and would have been seen.
  const did = new Set(
    tries(program, 0, args)
      .filter((line) => line.endsWith(' done'))
      .map((line) => line.split(' ')[0]),
  );
  for (const what of ['open-pin', 'map-by-id', 'make-map', 'signal', 'ptrace', 'memory', 'connect', 'open', 'create']) {
    assert.ok(did.has(what), `${what} as root`);
  }
});

test(
  'nor what the CNI keeps: each folder is closed, and each file in it by itself (needs root)',
  needsRoot,
  async (t) => {
    const before = process.umask(0);
    const bed = new CniBed('nobody-cni');
    const { folder, program } = attacker();
    t.after(async () => {
      process.umask(before);
      await bed.destroy();
      rmSync(folder, { recursive: true });
    });
    bed.setPods([{ name: 'web' }]);
    await bed.listen();
    await bed.startAgent();
    await bed.add('c-web', bed.addNetns('web'), 'web');
    // What is inside has to be closed by itself, here and in each folder that is opened below.
    chmodSync(bed.folder, 0o755);
    const cni = join(bed.folder, 'cni');
    const [attachments, spool] = [join(cni, 'attachments'), join(cni, 'spool')];
    const kept = join(attachments, 'c-web@eth0.json');
    const pin = join(tablesPath(bed.instance, bed.place.node), 'class_map');
    const own = ownFolder(bed.folder);
    const args = (pid: number, files: readonly string[]): readonly string[] => [String(pid), pin, own, ...files];

    const { pid = 0 } = bed.agent;
    const inside = [attachments, spool, kept];
    const outside = [join(bed.folder, 'agent.sock'), cni];
    assertRefused(tries(program, NOBODY, args(pid, [...outside, ...inside])), 5);
    chmodSync(cni, 0o755);
    assertRefused(tries(program, NOBODY, args(pid, inside)), 3);

    // What the plugin leaves while the agent is away: the attachment stays until its DEL is done.
    await bed.killAgent();
    assert.equal((await bed.call({ command: 'DEL', container: 'c-web' })).exit, 0);
    const waiting = join(spool, 'c-web@eth0.json');
    assertRefused(tries(program, NOBODY, args(process.pid, [waiting, ...inside])), 4);
    for (const each of [attachments, spool]) chmodSync(each, 0o755);
    const files = [waiting, kept];
    assertRefused(tries(program, NOBODY, args(process.pid, files)), files.length);
    // As root, all but speaking to what is no socket.
    const did = tries(program, 0, args(process.pid, files)).filter((line) => line.endsWith(' done'));
    for (const what of ['open', 'link', 'create', 'symlink', 'rename', 'chmod']) {
      assert.equal(did.filter((line) => line === `${what} done`).length, files.length, `${what} as root`);
    }
  },
);

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
