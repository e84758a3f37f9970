// Processes in cgroups as a kubelet makes them: `…/kubepods/burstable/podUID/CONTAINER`.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where both versions of cgroups take such a folder. */
const ROOT = existsSync('/sys/fs/cgroup/pids') ? '/sys/fs/cgroup/pids' : '/sys/fs/cgroup';

export class PodProcesses {
  readonly #folder: string;
  readonly #folders: string[] = [];
  readonly #processes: ChildProcess[] = [];

  constructor(name: string) {
    this.#folder = join(ROOT, name);
    this.#make(this.#folder);
  }

  /** A process of this pod, in a network namespace. */
  start(uid: string, netns: string): void {
    const folder = join(this.#folder, `pod${uid}`);
    this.#make(folder);
    this.#make(join(folder, 'container'));
    const process = spawn('nsenter', [`--net=${netns}`, 'sleep', '3600'], { stdio: 'ignore' });
    this.#processes.push(process);
    writeFileSync(join(folder, 'container', 'cgroup.procs'), String(process.pid));
  }

  async end(): Promise<void> {
    for (const process of this.#processes) {
      const gone = once(process, 'exit');
      process.kill('SIGKILL');
      await gone;
    }
    for (const folder of this.#folders.reverse()) rmdirSync(folder);
  }

  #make(folder: string): void {
    mkdirSync(folder);
    this.#folders.push(folder);
  }
}
