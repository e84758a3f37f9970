// What an agent knows of itself at one moment: status, health and metrics are read from this, and from nothing else.
import type { WatchState } from '#cluster/follower.ts';
import type { Counters } from '#datapath/ebpf/counters.ts';
import type { NodeState } from './node-state.ts';
import type { AgentStatus } from './protocol.ts';

export type AgentFacts = Pick<
  AgentStatus,
  | 'node'
  | 'revision'
  | 'known'
  | 'endpoints'
  | 'audited'
  | 'bypassMs'
  | 'policies'
  | 'rules'
  | 'lostEvents'
  | 'drops'
  | 'evictedFlows'
  | 'findings'
  | 'hooksRepaired'
> & {
  readonly identities: number;
  /** Interfaces of pods, by whether the policy of all their addresses is in force. */
  readonly attached: { readonly enforced: number; readonly closed: number };
  /** Null between a failure and the fresh start after it. */
  readonly counters: Counters | null;
  /** The datapath is open: not so between a failure and the fresh start after it. */
  readonly isOpen: boolean;
  /** What a fresh start has not mended yet. */
  readonly failure: string | null;
  /** Hooks that do not stand, or not first. */
  readonly hooks: string | null;
  /** What there is no room for, in the kernel and in the shares of namespaces. */
  readonly lacks: readonly string[];
  readonly shortages: readonly string[];
  /** Pods that run here without policy, a line each. */
  readonly unreached: readonly string[];
  /** The runtime's network configuration, as far as this agent puts it in place. */
  readonly cniConfig: { readonly problem: string | null; readonly changes: number } | null;
  /** What does not work between nodes; null where this agent keeps no routes. */
  readonly network: readonly string[] | null;
  /** What keeps the source from knowing the cluster. */
  readonly source: string | null;
  readonly watches: readonly WatchState[];
  /** Why new pods of a namespace wait, a line each. */
  readonly waits: readonly string[];
  /** Since the kernel's events and hooks were last looked after. */
  readonly sinceLookMs: number;
};

/** Between a failure and the fresh start nothing is known. */
export const NOTHING: Pick<
  NodeState,
  'endpoints' | 'audited' | 'policies' | 'rules' | 'identities' | 'lostEvents' | 'counted'
> = {
  endpoints: 0,
  audited: 0,
  policies: 0,
  rules: 0,
  identities: 0,
  lostEvents: 0,
  counted: { drops: {}, evictedFlows: 0 },
};
