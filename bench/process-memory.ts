// What of a process's resident memory is what, as the kernel tells of each of its mappings (proc(5), smaps).
import { readFileSync, writeFileSync } from 'node:fs';

/** Megabytes. */
export type Resident = {
  /** All of it, now, and the most since the last `forgetPeak`. */
  readonly now: number;
  readonly peak: number;
  /** The kernel's tables that it has mapped: they are the kernel's, and not given back to anybody. */
  readonly tables: number;
  /** Node's own file, code and constants, shared by all processes of it; and libraries. */
  readonly files: number;
  /** Of `files`, what the process has written to, so that it is its own. */
  readonly written: number;
  /** malloc's heap and V8's, stacks. */
  readonly anonymous: number;
};

export function resident(pid: number): Resident {
  const [tables, files, written, anonymous] = [0, 0, 0, 0];
  const sums = { tables, files, written, anonymous };
  let kind: 'tables' | 'files' | 'anonymous' = 'anonymous';
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    if (/^[0-9a-f]+-/.test(line)) {
      const isTable = line.includes('bpf-map') || line.includes('bpf_ringbuf');
      kind = isTable ? 'tables' : /\s\/\S+$/.test(line) ? 'files' : 'anonymous';
    } else if (line.startsWith('Rss:')) sums[kind] += kilobytes(line);
    else if (line.startsWith('Anonymous:') && kind === 'files') sums.written += kilobytes(line);
  }
  const status = readFileSync(`/proc/${pid}/status`, 'utf8').split('\n');
  const field = (name: string): number => kilobytes(status.find((line) => line.startsWith(name)) ?? '');
  const inMb = Object.entries({ ...sums, now: field('VmRSS:'), peak: field('VmHWM:') });
  return Object.fromEntries(inMb.map(([name, value]) => [name, (value * 1024) / 1e6])) as Resident;
}

/** The kernel tells the peak from now on (proc(5), clear_refs 5), so that a start's is not told as what came after. */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** proc_pid_stat(5): seconds of a CPU that a process has used, all threads, in user and kernel mode; ticks are 10 ms. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function kilobytes(line: string): number {
  return Number(line.replace(/\D+/g, ''));
}
