// The bpffs must be the host's own: tried in mount namespaces where it is not. Needs root.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { needsRoot } from '#test/support/needs.ts';
import { BpffsError, mountBpffs, pinDirectory, removePins } from './bpffs.ts';

const MODULE = join(import.meta.dirname, 'bpffs.ts');
const SCRIPT = `
  const { BpffsError, pinDirectory } = await import(${JSON.stringify(MODULE)});
  try { pinDirectory('moattest-bpffs', 'a'); console.log('accepted'); }
  catch (error) { console.log(error instanceof BpffsError ? error.message : error); }
`;

/** What pinDirectory says in a mount namespace of its own, after a mount there. */
function saidAfter(mount: string): string {
  const shell = `${mount} && exec "$0" --input-type=module -e "$1"`;
  const result = spawnSync('unshare', ['--mount', 'sh', '-c', shell, process.execPath, SCRIPT], { encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout.trim();
}

describe('the directory of pins (root)', needsRoot, () => {
  it('is made on the host’s bpffs, also from another mount namespace that has it', () => {
    mountBpffs();
    assert.equal(pinDirectory('moattest-bpffs', 'a.b'), '/sys/fs/bpf/moat/moattest-bpffs/a_b');
    removePins('moattest-bpffs', 'a.b');
    assert.equal(saidAfter('true'), 'accepted');
    removePins('moattest-bpffs', 'a');
    assert.equal(existsSync('/sys/fs/bpf/moat/moattest-bpffs'), false);
  });

  it('is made on a bpffs that it mounts itself, where the host has none', () => {
    const asHost = 'mount --bind /proc/$$ /proc/1';
    assert.equal(saidAfter(`${asHost} && mount -t tmpfs none /sys/fs/bpf`), 'accepted');
    assert.equal(existsSync('/sys/fs/bpf/moat/moattest-bpffs'), false, 'not on the machine’s');
  });

  it('is refused in a container that has the folder of a host without one', () => {
    const asHost = 'mount --bind /proc/$$ /proc/1';
    const folder = 'mount -t sysfs none /mnt && mount --bind /mnt/fs/bpf /sys/fs/bpf';
    assert.match(saidAfter(`${asHost} && ${folder}`), /not a BPF file system: run `mount -t bpf/);
  });

  it('is refused on a bpffs that only this mount namespace sees', () => {
    assert.match(saidAfter('mount -t bpf bpf /sys/fs/bpf'), /is private to this mount namespace/);
  });

  it('is refused where there is none and this is not the host’s mount namespace, with the command that mounts it', () => {
    assert.match(saidAfter('mount -t tmpfs none /sys/fs/bpf'), /not a BPF file system: run `mount -t bpf/);
  });

  it('is refused where somebody else made it, or a part of its path, opened it, or put a link there', () => {
    const [made, elsewhere] = ['/sys/fs/bpf/moat/moattest-theirs', '/sys/fs/bpf/moattest-elsewhere'];
    const accepted = (): boolean => {
      try {
        return pinDirectory('moattest-theirs', 'a') !== '';
      } catch (error) {
        assert.ok(error instanceof BpffsError);
        assert.match(error.message, /is not a folder that its owner alone can change .*: remove it, and start again/);
        return false;
      }
    };
    const ways: readonly (() => void)[] = [
      () => chownSync(made, 65_534, 65_534),
      () => chmodSync(made, 0o777),
      () => chownSync(`${made}/a`, 65_534, 65_534),
      () => {
        rmSync(made, { recursive: true });
        mkdirSync(elsewhere, { recursive: true });
        symlinkSync(elsewhere, made);
      },
    ];
    try {
      for (const way of ways) {
        assert.ok(accepted(), 'as it makes it itself');
        way();
        assert.ok(!accepted());
        rmSync(made, { recursive: true });
      }
    } finally {
      rmSync(made, { recursive: true, force: true });
      rmSync(elsewhere, { recursive: true, force: true });
    }
  });

  it('takes no name that is a path', () => {
    for (const name of ['..', '../x', 'a/b', '', '.hidden', 'x'.repeat(80)]) {
      assert.throws(() => pinDirectory('moattest-bpffs', name), { name: 'BpffsError' });
    }
  });
});
