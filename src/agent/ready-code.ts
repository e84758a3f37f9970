// Compiling TypeScript takes memory that a process never gives back: 17 MB of an agent on a small node, 100 on a large one.
// So an agent that had to compile its code starts over, once, on what that left in Node's compile cache. There code is
// found by its content: what changed since is compiled, never taken for what it was.
import { readdirSync, statSync } from 'node:fs';
import { flushCompileCache, getCompileCacheDir } from 'node:module';
import { join } from 'node:path';

/** Set for the second start: whatever it finds, there is no third. */
const AGAIN = 'MOAT_AGENT_STARTED_AGAIN';

/**
 * Replaces this process by a new one with its id, arguments and standard streams, where code was compiled that it will find
 * ready to run. To be called once all code is loaded, before anything else is open.
 */
export function startOnReadyCode(): void {
  const isSecond = process.env[AGAIN] !== undefined;
  delete process.env[AGAIN];
  if (isSecond || !hasCompiled()) return;
  const args = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  process.execve?.(process.execPath, args, { ...process.env, [AGAIN]: '1' });
}

/** Whether this process has code for the cache. False where there is no cache. */
function hasCompiled(): boolean {
  const folder = getCompileCacheDir();
  if (folder === undefined) return false;
  flushCompileCache();
  return readdirSync(folder).some((file) => {
    const { mtimeMs } = statSync(join(folder, file), { throwIfNoEntry: false }) ?? { mtimeMs: 0 };
    return mtimeMs >= performance.timeOrigin;
  });
}
