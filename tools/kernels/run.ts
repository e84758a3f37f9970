// Runs the datapath's tests on other kernels than this machine's, in an emulator: `make kernels`. Kernels are Debian's, for
// x86-64; no acceleration is needed. `run.ts [--kernel NAME]… [--cpus N] [--cx16] [TEST FILE]…`.
import { spawn } from 'node:child_process';
import { globSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex, Readable } from 'node:stream';
import { parseArgs, styleText } from 'node:util';
import type { Counts } from '../reporters/counts.ts';
import { serveCompiler } from './compiler.ts';
import { fetchKernel, type Kernel, type Wanted } from './debian.ts';
import { writeInitramfs } from './initramfs.ts';
import type { GuestCounts } from './run-tests.ts';

type Outcome = GuestCounts & { readonly name: string; readonly release: string; readonly seconds: number };
/** What the emulator is: its CPUs, and of what kind. */
type Machine = { readonly cpus: string; readonly cpu: string };
type Trial = Wanted & { readonly command: (files: readonly string[]) => string };

const ROOT = join(import.meta.dirname, '../..');
const STORE = join(ROOT, '.moat/kernels');
const FAILED: GuestCounts = { passed: 0, failed: 1, skipped: 0, again: [] };
const LIMIT_MS = 120 * 60_000;

/**
 * Without cmpxchg16b, if not asked for by --cx16: qemu 7.2 emulates it wrongly at times, seen as a guest that panicked in kmalloc
 * with garbage in EFLAGS. Kernels that lack it take a lock instead; but newer ones then give programs no memory for sockets.
 */
const CPU = 'max,-cx16';
const WHOLE_CPU = 'max';
/**
 * Some tests hold a packet on one CPU while another one changes what it is judged by. Those that need none are safer with one:
 * two of the emulator's trip over code that the other is just patching, the kernel's and V8's.
 */
const CPUS = '2';
/** A guest that ends before it runs anything of ours is started so often. */
const BOOTS = 3;
const MEMORY_MB = 3072;

/** What a kernel has to pass; others are named. */
const FILES = ['src/datapath/ebpf/conformance.test.ts', 'src/datapath/ebpf/conformance-uplink.test.ts'];

const KERNELS: readonly Trial[] = [
  { name: '5.10', series: '5.10', suites: ['bullseye'], command: expectRefusal },
  { name: '6.1', series: '6.1', suites: ['bookworm'], command: runTests },
  { name: '6.12', series: '6.12', suites: ['trixie'], command: runTests },
  { name: 'newest', series: '', suites: ['trixie-backports', 'sid'], command: runTests },
];

/** In the guest: the tests, and how many passed, on one line. */
function runTests(files: readonly string[]): string {
  return `CI=true MOAT_GUEST=true node tools/kernels/run-tests.ts ${files.join(' ')}\n`;
}

/** In the guest, below the floor: one message and exit code 2, and nothing left behind. */
function expectRefusal(): string {
  return `said=$(node src/main/moat.ts sandbox up -f examples/first --detach 2>&1); code=$?
echo "$said"
count() { echo "MOAT-RESULT {\\"passed\\":$1,\\"failed\\":$((1 - $1)),\\"skipped\\":0,\\"again\\":[]}"; }
case "$code $said" in
"2 "*"Linux 6.1 or newer is needed"*) [ "$(echo "$said" | wc -l)" -le 2 ] && [ -z "$(ip netns list)" ] && count 1 || count 0 ;;
*) count 0 ;;
esac
`;
}

/** Null where the guest came to nothing of ours. */
async function boot(kernel: Kernel, archive: string, name: string, machine: Machine): Promise<GuestCounts | null> {
  const args = [
    ...['-accel', 'tcg', '-cpu', machine.cpu, '-smp', machine.cpus],
    ...['-m', String(MEMORY_MB), '-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-nic', 'none'],
    ...[
      '-device',
      'virtio-serial-pci',
      '-chardev',
      'socket,id=compiler,fd=3',
      '-device',
      'virtserialport,chardev=compiler',
    ],
    ...['-no-reboot', '-kernel', kernel.image, '-initrd', archive],
    ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off'],
  ];
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit', 'pipe'] });
  serveCompiler(child.stdio[3] as Duplex);
  const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  const end = (): never => {
    child.kill('SIGKILL');
    rmSync(archive, { force: true });
    process.exit(130);
  };
  process.once('SIGINT', end).once('SIGTERM', end);
  const ended = new Promise((resolve, reject) => child.on('close', resolve).on('error', reject));
  let counts = FAILED;
  let begun = false;
  const lines = createInterface({ input: child.stdout as Readable });
  lines.on('line', (line) => {
    const result = line.match(/MOAT-RESULT (\{.*\})/)?.[1];
    begun ||= line.startsWith('MOAT-KERNEL');
    if (result !== undefined) counts = JSON.parse(result) as GuestCounts;
    else console.log(`  ${name} │ ${line}`);
  });
  await ended;
  clearTimeout(limit);
  process.off('SIGINT', end).off('SIGTERM', end);
  return begun ? counts : null;
}

async function tryKernel(trial: Trial, files: readonly string[], machine: Machine): Promise<Outcome> {
  const begun = performance.now();
  const outcome = { name: trial.name, release: '?' };
  const seconds = (): number => Math.round((performance.now() - begun) / 1000);
  try {
    const kernel = fetchKernel(trial, STORE);
    outcome.release = kernel.release;
    const archive = join(STORE, `${trial.name}.${process.pid}.cpio`);
    try {
      writeInitramfs(kernel, trial.command(files), ROOT, archive);
      for (let count = 1; count <= BOOTS; count++) {
        const counts = await boot(kernel, archive, trial.name, machine);
        if (counts !== null) return { ...outcome, ...counts, seconds: seconds() };
        console.log(`  ${trial.name} │ the guest did not start (${count} of ${BOOTS} times)`);
      }
      return { ...outcome, ...FAILED, seconds: seconds() };
    } finally {
      rmSync(archive, { force: true });
      rmSync(`${archive}.root`, { recursive: true, force: true });
    }
  } catch (error) {
    console.error(`  ${trial.name} │ ${error instanceof Error ? error.message : String(error)}`);
    return { ...outcome, ...FAILED, seconds: seconds() };
  }
}

function describe(outcome: Outcome): string {
  const { name, release, passed, failed, skipped, again, seconds } = outcome;
  const mark = failed === 0 ? styleText('green', '✔') : styleText('red', '✖');
  const left = skipped === 0 ? '' : `, ${skipped} did not run`;
  const twice = again.length === 0 ? '' : `, ran again after a signal ended it: ${again.join(', ')}`;
  return `${mark} ${name} (${release}): ${passed} passed, ${failed} failed${left}${twice} · ${seconds} s`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      kernel: { type: 'string', multiple: true },
      cpus: { type: 'string', default: CPUS },
      cx16: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
  const chosen = KERNELS.filter((kernel) => values.kernel?.includes(kernel.name) ?? true);
  if (chosen.length === 0) {
    console.error(`no such kernel: ${values.kernel?.join(' ')} (${KERNELS.map((kernel) => kernel.name).join(', ')})`);
    process.exit(2);
  }
  const files = globSync(positionals.length > 0 ? positionals : FILES, { cwd: ROOT }).sort();
  mkdirSync(STORE, { recursive: true });
  const outcomes: Outcome[] = [];
  for (const trial of chosen) {
    outcomes.push(await tryKernel(trial, files, { cpus: values.cpus, cpu: values.cx16 ? WHOLE_CPU : CPU }));
    console.log(describe(outcomes.at(-1) as Outcome));
  }
  if (outcomes.length > 1) console.log(`\n${outcomes.map(describe).join('\n')}`);
  const sum = (key: keyof Counts): number => outcomes.reduce((total, each) => total + each[key], 0);
  if (process.env.MOAT_COUNTS_FILE !== undefined) {
    const counts: Counts = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') };
    writeFileSync(process.env.MOAT_COUNTS_FILE, JSON.stringify(counts));
  }
  process.exitCode = sum('failed') === 0 ? 0 : 1;
}

await main();
