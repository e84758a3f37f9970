// The bpffs is unmounted under a live agent, in mount namespaces of tests: the machine's own stays. Needs root.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { mountBpffs } from '#kernel/bpffs.ts';
import { ATTACH_MODES } from '#test/support/attach-modes.ts';
import type { AgentLife } from '#test/support/kills/agent-process.ts';
import { StillBed, until } from '#test/support/kills/still-bed.ts';
import { firstWorld } from '#test/support/kills/world.ts';
import { needsRoot } from '#test/support/needs.ts';

const BPFFS = '/sys/fs/bpf';
/** An agent looks at its pins every 200 ms. */
const NOTICED_MS = 4000;

for (const attach of ATTACH_MODES) {
  describe(`the bpffs, unmounted under an agent with ${attach} (root)`, needsRoot, () => {
    let still: StillBed;
    let mounts: Mounts;

    beforeEach(() => {
      mountBpffs();
      still = new StillBed(`bpffs-${attach}`);
    });

    afterEach(async () => {
      mounts.close();
      await still.destroy();
    });

    async function start(kind: 'host' | 'guest'): Promise<AgentLife> {
      mounts = await Mounts.make(kind);
      return await still.start(firstWorld(), { attach }, { prefix: mounts.enter });
    }

    const complaint = async (life: AgentLife): Promise<string> => (await life.client.status()).problem ?? '';

    const missed = (life: AgentLife): Promise<void> =>
      until('it says so', async () => /not a BPF file system/.test(await complaint(life)), NOTICED_MS);

    function unmount(): void {
      mounts.run('umount', '-l', BPFFS);
      // As where it was the last place that had them: only the agent holds what was pinned.
      rmSync(still.directory, { recursive: true });
    }

    it('is mounted again by the agent, with all pins, and whoever comes next finds them', async () => {
      const life = await start('host');
      const pins = mounts.list(still.directory);
      unmount();
      await until('all is pinned again', () => `${mounts.list(still.directory)}` === `${pins}`, NOTICED_MS);
      await until('it is well', async () => (await complaint(life)) === '', NOTICED_MS);
      assert.match(life.complaints.join(), /had lost their pins; they are put back/);
      assert.ok(still.enforces() && still.speaks());
      await life.kill();
      await pause(500);
      assert.ok(still.enforces() && still.speaks(), 'without an agent');
      await still.live({ attach }, { prefix: mounts.enter });
      assert.ok(still.enforces() && still.speaks(), 'with the next one');
    });

    it('is missed where the agent may not mount it, until it is back', async () => {
      const life = await start('guest');
      const pins = mounts.list(still.directory);
      const aside = join(still.folder, 'aside');
      mkdirSync(aside);
      mounts.run('mount', '--bind', BPFFS, aside);
      unmount();
      await missed(life);
      await pause(500);
      assert.ok(still.enforces() && still.speaks(), 'the agent holds its hooks');
      mounts.run('mount', '--bind', aside, BPFFS);
      await until('it is mended', async () => (await complaint(life)) === '', NOTICED_MS);
      assert.deepEqual(mounts.list(still.directory), pins);
      unmount();
      await missed(life);
      assert.ok(still.denies());
      await life.kill();
      // A link ends with its last holder; a filter is held by its interface.
      if (attach === 'tcx') await until('pods are open', () => !still.denies());
      else await pause(500);
      assert.equal(still.denies(), attach !== 'tcx');
      await still.live({ attach });
      assert.ok(still.enforces(), 'with the next one');
    });
  });
}

/** A mount namespace apart from the machine's. In a host's, processes take it for that of process 1. */
class Mounts {
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  static async make(kind: 'host' | 'guest'): Promise<Mounts> {
    const script = `${kind === 'host' ? 'mount --bind /proc/$$ /proc/1 && ' : ''}echo ready && exec cat`;
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit').then(() => assert.fail('no mounts'))]);
    return new Mounts(holder);
  }

  /** What a command is started with, to be in it. */
  get enter(): readonly string[] {
    return ['nsenter', `--mount=/proc/${this.#holder.pid}/ns/mnt`];
  }

  run(...command: readonly string[]): void {
    const [nsenter = '', ...args] = [...this.enter, ...command];
    execFileSync(nsenter, args);
  }

  /** What is in a directory there. */
  list(directory: string): readonly string[] {
    const path = `/proc/${this.#holder.pid}/root${directory}`;
    try {
      return (readdirSync(path, { recursive: true }) as string[]).sort();
    } catch {
      return [];
    }
  }

  close(): void {
    this.#holder.kill();
  }
}
