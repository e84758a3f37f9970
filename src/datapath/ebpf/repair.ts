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
};

/** Repairs what a look found; null where nothing was wrong. */
export function repairHooks(hooks: Hooks, interfaceIndex: number, seen: HookView): Repair | null {
  if (seen.health === 'first' && seen.pinned) return null;
  const found = seen.health === 'first' ? 'unpinned' : seen.health;
  const failure = tryRepair(hooks, interfaceIndex);
  return { interfaceIndex, found, now: hooks.look(interfaceIndex).health, failure };
}

function tryRepair(hooks: Hooks, interfaceIndex: number): string | null {
  try {
    hooks.repair(interfaceIndex);
    return null;
  } catch (error) {
    if (error instanceof SystemCallError) return error.message;
    throw error;
  }
}
