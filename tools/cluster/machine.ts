// A machine of the cluster: namespaces of every kind but users, cgroups, and a folder that is its /run and /var; of the rest
// it can only read. Its first process holds it; when that one ends, all of it is gone but the folder and the cgroups.
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { HIERARCHIES, joining, makeCgroups } from './cgroups.ts';
import { FinalError, run, titleOf, until } from './commands.ts';
import { DEBIAN, INSIDE, KUBERNETES, PAUSE, ROOT, STATE } from './places.ts';

const START_LIMIT_MS = 30_000;
/** What a kubelet sets for the whole kernel: a machine has files of its own there, with what it would write. */
const KUBELETS_SETTINGS: Readonly<Record<string, string>> = {
  'vm/overcommit_memory': '1',
  'vm/panic_on_oom': '0',
  'kernel/panic': '10',
  'kernel/panic_on_oops': '1',
  'kernel/keys/root_maxkeys': '1000000',
  'kernel/keys/root_maxbytes': '25000000',
};
/** Folders that a machine has to itself. */
const OWN = ['/run', '/var'];
const PATH = [KUBERNETES, join(DEBIAN, 'usr/bin'), join(DEBIAN, 'usr/sbin'), '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/**
 * Runs as the machine's first process until it becomes `pause`. $0: the machine's folder, $1: its name, $2: the hierarchies.
 * Connections of killed processes keep a network for minutes, if they may repeat what nobody will answer any more.
 */
const SET_UP = `set -e
mount -t proc proc /proc
hostname "$1"
echo 1 >/proc/sys/net/ipv4/tcp_orphan_retries
mount --bind "$0" ${INSIDE}
for each in ${OWN.join(' ')}; do mount --bind ${INSIDE}$each $each; done
(cd ${INSIDE}/sysctl && find . -type f) | while read -r each; do mount --bind "${INSIDE}/sysctl/$each" "/proc/sys/$each"; done
mount -o remount,bind,ro /
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for each in $2; do
  mkdir /sys/fs/cgroup/$each
  case $each in systemd) what=none,name=systemd ;; *) what=$each ;; esac
  mount -t cgroup -o $what cgroup /sys/fs/cgroup/$each
done
mkdir /sys/fs/cgroup/cgroup2
mount -t cgroup2 cgroup2 /sys/fs/cgroup/cgroup2
mount --make-rshared /
touch ${INSIDE}/made
exec ${PAUSE}
`;

export class Machine {
  readonly name: string;
  readonly folder: string;
  /** Its first process, by the number that it has outside. */
  readonly pid: number;

  private constructor(name: string, pid: number) {
    this.name = name;
    this.folder = join(STATE, name);
    this.pid = pid;
  }

  /** One that is up, whoever made it. */
  static open(name: string): Machine {
    return new Machine(name, Number(readFileSync(join(STATE, name, 'pid'), 'utf8')));
  }

  /** Throws where the machine would not see this checkout. */
  static async create(name: string): Promise<Machine> {
    const hidden = [...OWN, INSIDE].find((folder) => realpathSync(ROOT).startsWith(`${folder}/`));
    if (hidden !== undefined) throw new Error(`machines have a ${hidden} of their own: move this checkout elsewhere`);
    const folder = join(STATE, name);
    for (const each of ['run/netns', 'run/lock', 'var/lib', 'var/log', 'var/tmp', 'log']) {
      mkdirSync(join(folder, each), { recursive: true });
    }
    symlinkSync('/run', join(folder, 'var/run'));
    for (const [path, value] of Object.entries(KUBELETS_SETTINGS)) {
      if (!existsSync(`/proc/sys/${path}`)) continue;
      mkdirSync(join(folder, 'sysctl', path, '..'), { recursive: true });
      writeFileSync(join(folder, 'sysctl', path), `${value}\n`);
    }
    makeCgroups(name);
    const log = openSync(join(folder, 'log/machine.log'), 'a');
    const kinds = ['--net', '--mount', '--uts', '--ipc', '--pid', '--cgroup', '--fork'];
    const script = `${joining(name)} exec unshare ${kinds.join(' ')} sh -c "$3" "$0" "$1" "$2"`;
    const child = spawn('sh', ['-c', script, folder, name, HIERARCHIES.join(' '), SET_UP], {
      ...{ detached: true, stdio: ['ignore', log, log], env: environment() },
    });
    closeSync(log);
    child.unref();
    const said = (): string => readFileSync(join(folder, 'log/machine.log'), 'utf8').trim();
    const pid = await until(`the machine ${name}`, START_LIMIT_MS, async () => {
      if (child.exitCode !== null) throw new FinalError(said());
      return existsSync(join(folder, 'made')) ? childOf(child.pid ?? 0) : null;
    });
    writeFileSync(join(folder, 'pid'), String(pid));
    const machine = new Machine(name, pid);
    await machine.run('ip', ['link', 'set', 'lo', 'up']);
    return machine;
  }

  /** Runs a program in the machine; its standard output. */
  async run(program: string, args: readonly string[], input = ''): Promise<string> {
    const title = `${this.name}: ${titleOf(program, args)}`;
    return await run('sh', ['-c', this.#entering('exec "$0" "$@"'), program, ...args], input, title);
  }

  /** Starts a daemon, with a log and a file for its number by its name; a function that says whether it lives. */
  async start(name: string, program: string, args: readonly string[]): Promise<() => boolean> {
    const path = `${INSIDE}/log/${name}`;
    const started = `setsid "$0" "$@" </dev/null >>${path}.log 2>&1 & echo $! | tee ${path}.pid`;
    const pid = (await run('sh', ['-c', this.#entering(started), program, ...args])).trim();
    return () => existsSync(`/proc/${this.pid}/root/proc/${pid}`);
  }

  /** Ends a daemon, with SIGKILL. */
  async kill(name: string): Promise<void> {
    await this.run('sh', ['-c', `kill -9 $(cat ${INSIDE}/log/${name}.pid)`]);
  }

  /** The end of a daemon's log, for people. */
  tail(name: string): string {
    const path = join(this.folder, 'log', `${name}.log`);
    return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n').slice(-8).join('\n') : '';
  }

  /** A script for sh that goes into the machine, and does there what another one says, with its arguments. */
  #entering(script: string): string {
    const kinds = ['--net', '--mount', '--uts', '--ipc', '--pid', '--cgroup'];
    const enter = [
      'nsenter',
      '--target',
      String(this.pid),
      ...kinds,
      'env',
      `PATH=${PATH.join(':')}`,
      'TMPDIR=/var/tmp',
      'sh',
      '-c',
    ];
    return `${joining(this.name)} exec ${enter.join(' ')} '${script}' "$0" "$@"`;
  }
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: PATH.join(':') };
}

/** The one child of a process; null where it has none yet. */
function childOf(parent: number): number | null {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || !existsSync(`/proc/${name}/stat`)) continue;
    const stat = readStat(name);
    if (stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] === String(parent)) return Number(name);
  }
  return null;
}

/** Empty where the process has ended. */
function readStat(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return '';
  }
}
