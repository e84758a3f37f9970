// What a sandbox is asked and what it answers: the same in its own process and over its control socket.
import type { AgentStatus, FlowEvent } from '#agent/protocol.ts';
import type { ProbePort } from '#datapath/reference/simulate.ts';
import type { Address } from '#net/address.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import type { Semantics } from '#policy/world.ts';
import type { ProbeResult } from './probe.ts';

export type SandboxOptions = {
  /** 1 to 16 lower-case letters and digits; every namespace, pin and socket carries it. */
  readonly name: string;
  /** Files and directories of manifests; may be empty. */
  readonly paths: readonly string[];
  /** Nodes, at least, where the manifests declare none. */
  readonly nodes?: number;
  readonly semantics?: Semantics;
  /** Take invalid input as a cluster would (never wider than written) instead of refusing it. */
  readonly lenient?: boolean;
  /** False: the files are read once. True where it is not said: their changes take effect live. */
  readonly watch?: boolean;
  /** Hears everything from the first moment; `onEvent` adds listeners later. */
  readonly onEvent?: (event: SandboxEvent) => void;
};

/** What a change did. Times are milliseconds. */
export type Change = {
  readonly revision: number;
  /** `policy networkpolicy/shop/web added`, one a change. */
  readonly changes: readonly string[];
  /** From the moment the new objects were known until every node enforces them and every new pod is up. */
  readonly totalMs: number;
  /** Each node's own share: compile and program. */
  readonly nodeMs: Readonly<Record<string, number>>;
  readonly diagnostics: readonly Diagnostic[];
};

export type SandboxEvent =
  | { readonly kind: 'notice'; readonly text: string }
  | { readonly kind: 'change'; readonly change: Change }
  | { readonly kind: 'flows'; readonly node: string; readonly events: readonly FlowEvent[]; readonly lost: number };

export type SandboxProbe = {
  /** Null: on each pod the ports that it declares. */
  readonly ports: readonly ProbePort[] | null;
  /** Outside addresses, probed as sources and as destinations. */
  readonly externals?: readonly Address[];
  readonly progress?: (done: number, total: number) => void;
  /** How long each attempt waits for evidence, in milliseconds; as many attempts as entries. */
  readonly attemptsMs?: readonly number[];
};

/** A connection to keep open and watch. */
export type StreamAsk = {
  /** `namespace/pod`. */
  readonly from: string;
  readonly to: string;
  /** TCP or UDP. */
  readonly port: ProbePort;
  /** Pause between packets; 1 where it is not said. */
  readonly intervalMs?: number;
  /** True: don't wait for a first echo, and don't mind if none ever comes. */
  readonly mayBeDenied?: boolean;
};

export type SandboxStatus = {
  readonly name: string;
  readonly pid: number;
  readonly revision: number;
  readonly nodes: readonly {
    readonly name: string;
    readonly netns: string;
    readonly addresses: readonly string[];
    /** Null while the agent is away; the kernel goes on enforcing. */
    readonly agent: AgentStatus | null;
  }[];
  readonly pods: readonly {
    readonly name: string;
    readonly node: string;
    readonly netns: string;
    readonly addresses: readonly string[];
  }[];
};

/** What the control socket needs of a sandbox. */
export type SandboxControl = {
  readonly applyObjects: (objects: readonly SourceObject[]) => Promise<Change>;
  readonly probe: (ask: SandboxProbe) => Promise<ProbeResult>;
  readonly status: () => Promise<SandboxStatus>;
  readonly down: () => Promise<void>;
  readonly onEvent: (listener: (event: SandboxEvent) => void) => () => void;
};
