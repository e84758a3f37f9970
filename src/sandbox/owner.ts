// Who holds a sandbox: one live process a name. What a dead one left behind is found and removed.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { removeInstancePins } from '#kernel/bpffs.ts';
import { strangeFolder } from '#kernel/own-folder.ts';
import { SandboxError } from './error.ts';
import { COMPILE_CACHE, checkInstanceName, runFolder, type StatePaths, statePaths } from './names.ts';
import { SandboxNetwork } from './network.ts';

/** A process, told apart from a later one with the same number by its start time (in clock ticks since boot). */
export type Owner = { readonly pid: number; readonly startedTicks: string };

/** What was removed after a crash. */
export type Leftovers = {
  readonly namespaces: readonly string[];
  readonly processes: readonly number[];
  readonly pins: boolean;
};

/** Throws where this process is not root: nothing of a sandbox can be made, seen or removed then. */
export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new SandboxError('root', 'a sandbox makes network namespaces, which needs root', 'run it with sudo');
}

/** Takes the name for this process. Throws where a live process has it. Call `removeLeftovers` next. */
export function claim(instance: string): StatePaths {
  const paths = statePaths(checkInstanceName(instance));
  // Agents inherit it: what they and Node write (code that root will run, among it) is for nobody else to change.
  process.umask(0o077);
  mkdirSync(runFolder(), { recursive: true, mode: 0o755 });
  // With its parents: another sandbox's end may take the run folder away at any moment.
  mkdirSync(paths.folder, { recursive: true, mode: 0o700 });
  requireOwn(paths.folder, 0o077);
  if (existsSync(COMPILE_CACHE)) requireOwn(COMPILE_CACHE, 0o022);
  const owner: Owner = { pid: process.pid, startedTicks: startedTicks(process.pid) ?? '' };
  for (let tries = 0; tries < 2; tries++) {
    if (writeNew(paths.owner, JSON.stringify(owner))) return paths;
    const holder = readOwner(instance);
    if (holder !== null) throw heldError(instance, holder);
    rmSync(paths.owner, { force: true });
  }
  throw new SandboxError('held', `another process is taking the sandbox '${instance}' right now`, 'try again');
}

/** Refuses what is no folder of this user, or gives others one of these rights: made before this process, or a link. */
function requireOwn(path: string, rights: number): void {
  const strange = strangeFolder(path, rights);
  if (strange !== null) throw new SandboxError('folder', strange, 'remove it, and try again');
}

/** The live process that holds a sandbox, or null. */
export function readOwner(instance: string): Owner | null {
  const { owner } = statePaths(instance);
  if (!existsSync(owner)) return null;
  const { pid, startedTicks: ticks } = JSON.parse(readFileSync(owner, 'utf8')) as Owner;
  return startedTicks(pid) === ticks ? { pid, startedTicks: ticks } : null;
}

/** Names of sandboxes that have a state folder, live or not. */
export function listInstances(): readonly string[] {
  return existsSync(runFolder()) ? readdirSync(runFolder()) : [];
}

/** Removes agents, namespaces and pins of an instance, whoever made them. */
export async function removeLeftovers(instance: string): Promise<Leftovers> {
  const processes = findAgents(instance);
  for (const pid of processes) process.kill(pid, 'SIGKILL');
  while (findAgents(instance).length > 0) await pause(5);
  const namespaces = await new SandboxNetwork(instance).destroy();
  // Last: while an interface lives, its hooks keep it closed.
  const pins = removeInstancePins(instance);
  return { namespaces, processes, pins };
}

/** Gives the name back: the state folder goes, with everything in it. */
export function release(instance: string): void {
  rmSync(statePaths(instance).folder, { recursive: true, force: true });
  try {
    rmdirSync(runFolder());
  } catch (error) {
    // Another sandbox is there, or its own release was quicker.
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOTEMPTY' && code !== 'ENOENT') throw error;
  }
}

/** Live agents of an instance: its name stands in their arguments, as JSON, exactly. */
function findAgents(instance: string): readonly number[] {
  const found: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const args = readProcFile(`/proc/${name}/cmdline`)?.split('\0') ?? [];
    const isAgent = args.some((arg) => arg.endsWith('/agent/main.ts'));
    if (isAgent && args.some((arg) => arg.startsWith(`{"instance":"${instance}",`))) found.push(Number(name));
  }
  return found;
}

/** Field 22 of /proc/PID/stat; null for a process that is dead, be it that nobody has collected it yet. */
function startedTicks(pid: number): string | null {
  const stat = readProcFile(`/proc/${pid}/stat`);
  // The second field may hold spaces and brackets: count from its end.
  const [state, ...fields] = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return state === 'Z' || state === 'X' ? null : (fields[18] ?? null);
}

/** Null where the process has ended. */
function readProcFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return null;
    throw error;
  }
}

function writeNew(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function heldError(instance: string, holder: Owner): SandboxError {
  const message = `the sandbox '${instance}' is up already (process ${holder.pid})`;
  return new SandboxError('held', message, `use another --name, or 'moat sandbox down --name ${instance}' first`);
}
