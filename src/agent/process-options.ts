// What a supervisor tells an agent's process. `instance` comes first: that is how leftovers are recognised.
import type { PodNetworkOptions } from '#network/pod-network.ts';
import type { Semantics } from '#policy/world.ts';
import type { CniPlaces } from './cni-install.ts';
import type { LogOptions } from './log.ts';

/** Whom the agent follows: whoever serves a socket, or an API server. */
export type SourceOptions =
  | { readonly kind: 'socket'; readonly path: string }
  /** `kubeconfig` null: as a pod of the cluster. `services`: who sends on what pods send to Services. */
  | { readonly kind: 'kubernetes'; readonly kubeconfig: string | null; readonly services: ServicesBy };

export type ServicesBy = 'moat' | 'kube-proxy';

/** Where pages are served. Port 0: any. */
export type ListenAddress = { readonly host: string; readonly port: number };

export type AgentProcessOptions = {
  readonly instance: string;
  readonly node: string;
  /** File of the node's network namespace; null where the agent stays in its own. */
  readonly netns: string | null;
  readonly semantics: Semantics;
  readonly source: SourceOptions;
  readonly agentSocket: string;
  /** Folder of the CNI's attachments and spool, for a node whose pods' links this agent makes; null where others do. */
  readonly cniFolder: string | null;
  /** How pods reach other nodes' and the world; null where that is others' to see to. */
  readonly network: Pick<PodNetworkOptions, 'routes' | 'masquerade'> | null;
  /** Where the runtime finds the CNI's plugin, to be put there once pods can be attached; absent where others do that. */
  readonly cniPlaces?: CniPlaces | undefined;
  /** How people and programs watch over it. */
  readonly watched: WatchOptions;
};

export type WatchOptions = {
  /** Where /healthz and /readyz are served. */
  readonly health: ListenAddress | null;
  /** Where /metrics is served; it may be the same place. */
  readonly metrics: ListenAddress | null;
  readonly log: LogOptions;
  /** Whether flows that are denied are lines of the log. */
  readonly logDenies: boolean;
};

/** As a sandbox has it, which looks after its agents by their sockets. */
export const UNWATCHED: WatchOptions = {
  ...{ health: null, metrics: null, logDenies: false },
  log: { format: 'text', level: 'info' },
};

/** Stands in the log before the message of the failure that ended the process; nothing follows that message. */
export const FAILURE_MARK = 'moat agent failed: ';
