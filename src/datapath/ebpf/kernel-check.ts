// What the datapath needs of a machine, checked before anything is made: one clear message for what is missing.
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { DatapathError } from './error.ts';
import { type AttachMode, chooseMode } from './hooks.ts';

/** The kernel's types; programs are fitted to them when they are loaded. */
const BTF = '/sys/kernel/btf/vmlinux';
const FLOOR = [6, 1] as const;

/** What is known of a machine. */
export type Machine = { readonly release: string; readonly user: number; readonly btf: boolean };

/** What a machine lacks, in one sentence, or null. */
export function findLack(machine: Machine): string | null {
  if (machine.user !== 0) return `root is needed to load the kernel programs; this is user ${machine.user}`;
  const [major = 0, minor = 0] = machine.release.split('.').map((part) => Number.parseInt(part, 10));
  if (!(major > FLOOR[0] || (major === FLOOR[0] && minor >= FLOOR[1]))) {
    return `Linux ${FLOOR.join('.')} or newer is needed for the kernel programs; this is ${machine.release}`;
  }
  if (!machine.btf) return `${BTF} is missing: the kernel must be built with CONFIG_DEBUG_INFO_BTF`;
  return null;
}

/** How hooks are attached here. Throws DatapathError with what this machine lacks. */
export function checkKernel(forced: AttachMode | undefined): AttachMode {
  const user = process.geteuid?.() ?? -1;
  const lack = findLack({ release: release(), user, btf: existsSync(BTF) });
  if (lack !== null) throw new DatapathError(lack, null);
  try {
    return chooseMode(forced);
  } catch (cause) {
    throw new DatapathError(cause instanceof Error ? cause.message : String(cause), cause);
  }
}
