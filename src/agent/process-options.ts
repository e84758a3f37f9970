// What a supervisor tells an agent's process. `instance` comes first: that is how leftovers are recognised.
import type { Semantics } from '#policy/world.ts';

export type AgentProcessOptions = {
  readonly instance: string;
  readonly node: string;
  /** File of the node's network namespace. */
  readonly netns: string;
  readonly semantics: Semantics;
  readonly clusterSocket: string;
  readonly agentSocket: string;
};
