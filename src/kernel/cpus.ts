// How many CPUs the kernel sizes per-CPU maps for.
import { readFileSync } from 'node:fs';

let known: number | null = null;

/** The number of possible CPUs: one past the last of /sys/devices/system/cpu/possible ("0-3", "0,2-5"). */
export function possibleCpus(): number {
  known ??= readPossibleCpus();
  return known;
}

function readPossibleCpus(): number {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim();
  const last = /(\d+)$/.exec(text)?.[1];
  if (last === undefined) throw new Error(`possible CPUs can't be read from "${text}"`);
  return Number(last) + 1;
}
