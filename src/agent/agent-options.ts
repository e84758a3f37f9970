// What an agent is given, and what it gives.
import type { Follower, Source, Tell } from '#cluster/follower.ts';
import type { Fill } from '#datapath/port.ts';
import type { PodNetwork } from '#network/pod-network.ts';
import type { AgentFacts } from './agent-facts.ts';
import type { NodeState } from './node-state.ts';
import type { Observer } from './observer.ts';

export type AgentOptions = {
  readonly node: string;
  /** Begins to tell the follower of the cluster, everything first: called at the start, and after each failure. */
  readonly makeSource: (follower: Follower, tell: Tell) => Source;
  /** Socket that this agent serves; its folder must be closed to others. */
  readonly agentSocket: string;
  /** Where the CNI keeps what it made; null where others make the links of pods. */
  readonly cniFolder: string | null;
  /** Begins to keep routes to other nodes' pods; null where others do. */
  readonly makeNetwork: ((tell: Tell) => PodNetwork) | null;
  /** Opens the datapath, and takes over what is in the kernel: called at the start, and after each failure. */
  readonly makeState: () => NodeState;
  /** Put in place when the CNI can attach pods for the first time: whole is what is known, and in force. Null: others do that. */
  readonly cniConfig: (NonNullable<AgentFacts['cniConfig']> & { readonly install: () => void }) | null;
  /** Is told what happens. */
  readonly observer: Observer;
};

export type Agent = {
  /** What it knows of itself now. */
  readonly facts: () => AgentFacts;
  /** How full the kernel's tables are; empty between a failure and the fresh start after it. */
  readonly fills: () => Promise<readonly Fill[]>;
  readonly close: () => void;
};
