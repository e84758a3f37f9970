// Hooks that somebody took off an interface, or got ahead of: put back, and said.
import { SystemCallError } from '#kernel/sockets.ts';
import type { HookHealth, Hooks, HookView } from './hooks.ts';

/** What was found wrong with an interface's hooks, and how they stand after the repair. */
export type Repair = {
  readonly interfaceIndex: number;
  /** unpinned: they stand, but would have ended with this process. */
  readonly found: 'absent' | 'behind' | 'unpinned';
  readonly now: HookHealth;
  /** Why the repair failed; null where it did not. */
  readonly failure: string | null;
  /** The interface is not there any more. */
  readonly gone: boolean;
};

/** Repairs what a look found; null where nothing was wrong. */
export function repairHooks(hooks: Hooks, interfaceIndex: number, seen: HookView): Repair | null {
  if (seen.health === 'first' && seen.pinned) return null;
  const found = seen.health === 'first' ? 'unpinned' : seen.health;
  const failure = tryRepair(hooks, interfaceIndex);
  const { health: now } = hooks.look(interfaceIndex);
  return { interfaceIndex, found, now, failure: failure?.message ?? null, gone: failure?.code === 'ENODEV' };
}

function tryRepair(hooks: Hooks, interfaceIndex: number): SystemCallError | null {
  try {
    hooks.repair(interfaceIndex);
    return null;
  } catch (error) {
    if (error instanceof SystemCallError) return error;
    throw error;
  }
}
