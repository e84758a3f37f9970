// How long CNI calls take a container runtime, from the start of the plugin to its end, as a node fills and empties: 110
// pods, so many at a time; and the agent's own processor time, which other work on the machine changes less. Beside it the same of
// the reference plugins ptp and host-local, which make a link with addresses and routes, and no policy. Needs root.
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Figures } from '../bench/figure.ts';
import { CniBed } from './support/cni-bed.ts';
import { cniPlugins } from './support/needs.ts';
import { cniPlugin } from './support/node-bed.ts';

const PROGRAM = 'build/bench/cni-calls';
const PODS = 110;
const WIDTHS = [1, 20] as const;
const NAMES = Array.from({ length: PODS }, (_, index) => `p${index}`);
/** Of ADD's 99th percentile, in milliseconds, with 20 at a time. */
const BAR = { most: 50 } as const;

/** `plugins`: where the reference plugins are, of which these calls are; null for Moat's. */
type Calls = { readonly width: number; readonly plugins: string | null };

/** Addresses of another block than Moat's. */
function referenceConfig(bed: CniBed): object {
  const ranges = ['10.89.0.0/24', 'fd89::/64'].map((subnet) => [{ subnet }]);
  const ipam = { type: 'host-local', ranges, dataDir: join(bed.folder, 'host-local') };
  return { cniVersion: '1.0.0', name: 'reference', type: 'ptp', ipam };
}

/** Makes one call for each pod; how long each took, in milliseconds, shortest first. */
async function callAll(bed: CniBed, command: string, { width, plugins }: Calls): Promise<readonly number[]> {
  const config = join(bed.folder, 'config.json');
  writeFileSync(config, JSON.stringify(plugins === null ? bed.config : referenceConfig(bed)));
  const plugin = plugins === null ? cniPlugin() : join(plugins, 'ptp');
  const args = [plugin, config, command, String(width), ...NAMES.map((name) => bed.netns(name))];
  // ptp makes its links in the namespace that it runs in; Moat's plugin does not care.
  const inNode = ['netns', 'exec', `${bed.prefix}-node`, PROGRAM, ...args];
  const env = { ...process.env, CNI_PATH: plugins ?? '' };
  const { stdout } = await promisify(execFile)('ip', inNode, { encoding: 'utf8', env });
  const tookMs = stdout
    .trim()
    .split('\n')
    .map((line) => Number(line) / 1000);
  return tookMs.sort((a, b) => a - b);
}

/** proc_pid_stat(5): what a process and the children that it waited for have used, in clock ticks of 10 ms. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return 10 * [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0);
}

async function measure(bed: CniBed, figures: Figures, command: string, calls: Calls): Promise<void> {
  const pid = bed.agent.pid ?? 0;
  const before = cpuMs(pid);
  const tookMs = await callAll(bed, command, calls);
  const agentMs = (cpuMs(pid) - before) / PODS;

  const at = (part: number): number => tookMs[Math.ceil(tookMs.length * part) - 1] ?? 0;
  const isMoat = calls.plugins === null;
  const bar = command === 'ADD' && calls.width > 1 && isMoat ? { bar: BAR } : {};
  const print = (what: string, value: number, more = {}): void => {
    const name = `cni ${isMoat ? '' : 'ptp + host-local '}${command} ${calls.width} at a time, ${what}`;
    figures.print({ name, value: Math.round(value * 10) / 10, unit: 'ms', baseline: null, ratio: null, ...more });
  };
  print('p50', at(0.5));
  print('p99', at(0.99), bar);
  if (isMoat) print('agent CPU', agentMs);
}

async function main(): Promise<void> {
  mkdirSync('build/bench', { recursive: true });
  execFileSync('clang', ['-O2', '-Wall', '-o', PROGRAM, 'bench/cni-calls.c'], { stdio: 'inherit' });
  const figures = new Figures();
  const bed = new CniBed('cnibench');
  try {
    for (const name of NAMES) bed.addNetns(name);
    bed.setPods(NAMES.map((name) => ({ name })));
    await bed.listen();
    await bed.startAgent();
    const reference = cniPlugins();
    if (reference === null) console.error('no reference plugins here: nothing to compare with');
    for (const width of WIDTHS) {
      for (const command of ['STATUS', 'ADD', 'DEL']) await measure(bed, figures, command, { width, plugins: null });
      if (reference === null) continue;
      for (const command of ['ADD', 'DEL']) await measure(bed, figures, command, { width, plugins: reference });
    }
  } finally {
    await bed.destroy();
  }
  figures.close();
}

await main();
