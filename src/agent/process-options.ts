// What a supervisor tells an agent's process. `instance` comes first: that is how leftovers are recognised.
import type { Semantics } from '#policy/world.ts';

export type AgentProcessOptions = {
  readonly instance: string;
  readonly node: string;
  /** File of the node's network namespace; null where the agent stays in its own. */
  readonly netns: string | null;
  readonly semantics: Semantics;
  readonly clusterSocket: string;
  readonly agentSocket: string;
};

/** Stands in the log before the message of the failure that ended the process; nothing follows that message. */
export const FAILURE_MARK = 'moat agent failed: ';
