// iproute2 as the sandbox calls it: namespaces by name, failures with advice.
import { existsSync } from 'node:fs';
import * as ip from '#network/ip.ts';
import { errorText, SandboxError } from './error.ts';
import { netnsPath } from './names.ts';

/** Runs `ip` commands in order, in one process, inside a namespace (null: this process's own). Stops at the first failure. */
export async function ipBatch(netns: string | null, lines: readonly string[]): Promise<void> {
  await advised(netns, () => ip.ipBatch(fileOf(netns), lines));
}

/** As `ipBatch`, where some of the things to remove may be gone already: goes on after a failure, and reports none. */
export async function ipRemove(netns: string | null, lines: readonly string[]): Promise<void> {
  const file = fileOf(netns);
  // With its namespace everything in it is gone.
  if (file === null || existsSync(file)) await advised(netns, () => ip.ipForce(file, lines));
}

/** The parsed output of `ip -json …`. */
export async function ipJson(netns: string | null, args: readonly string[]): Promise<unknown> {
  return await advised(netns, () => ip.ipJson(fileOf(netns), args));
}

function fileOf(netns: string | null): string | null {
  return netns === null ? null : netnsPath(netns);
}

async function advised<T>(netns: string | null, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const place = netns === null ? '' : ` (in ${netns})`;
    throw new SandboxError('ip', `${errorText(error)}${place}`, 'check that you are root and iproute2 works', error);
  }
}
