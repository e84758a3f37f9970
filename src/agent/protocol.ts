// What crosses the agent's sockets, as JSON lines: objects in, requests and answers, flows out.
import type { DatapathEvent, DropReason } from '#datapath/port.ts';
import type { Action, Direction, RuleId } from '#policy/model.ts';
import type { ClusterEvent, PodKey } from '#policy/world.ts';

/** A line from a cluster source: first what exists, then `synced`, then changes; the shape of a Kubernetes watch. */
export type SourceMessage =
  | { readonly kind: 'change'; readonly event: ClusterEvent }
  /** Everything before this line belongs together: apply it, and answer for this revision. */
  | { readonly kind: 'synced'; readonly revision: number };

/** One place in a manifest. */
export type Place = {
  /** `NetworkPolicy shop/allow-web`. */
  readonly object: string;
  readonly path: string;
  readonly file: string | null;
  readonly line: number | null;
};

/** A rule as people read it, found by the rule number in the kernel's event and by nothing else. */
export type NamedRule = {
  readonly number: number;
  /** The rule's id; `unknown-rule/N` for a number that no plan of this agent ever had. */
  readonly id: RuleId;
  readonly action: Action | null;
  /** The rule's own place; for a default deny, the first policies that isolate the endpoint, by name. */
  readonly places: readonly Place[];
  /** How many more policies isolate it. */
  readonly more: number;
};

/** A datapath event with its rules named. For ICMP, `destinationPort` is type << 8 | code. */
export type FlowEvent = {
  readonly node: string;
  readonly kind: DatapathEvent['kind'];
  readonly hook: 'from-pod' | 'to-pod';
  readonly reason: DropReason;
  readonly leg: Direction | null;
  readonly egress: NamedRule | null;
  readonly ingress: NamedRule | null;
  readonly source: string;
  /** Whose address that is as far as is known when it is told; null: no pod's. */
  readonly sourcePod: PodKey | null;
  readonly destination: string;
  readonly destinationPod: PodKey | null;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly count: number;
  /** Monotonic clock, nanoseconds, as decimal digits. */
  readonly timeNs: string;
};

/** One end of a pod's link, as a container runtime would hand it over. */
export type AttachRequest = {
  readonly pod: PodKey;
  readonly interfaceIndex: number;
  readonly mac: string;
  readonly addresses: readonly string[];
  /** Connections older than the hooks are let in until then (monotonic clock, milliseconds), if policy allows them. Never asked for over the socket. */
  readonly adoptUntilMs?: number;
};

/** A CNI call as the plugin got it (cni/moat-cni.c): its environment, '' for what was not set, and its standard input. */
export type CniCall = {
  readonly command: string;
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args: string;
  readonly config: string;
};

/** What the plugin prints as JSON, null for nothing, and its exit code. It finds them by their place: the order matters. */
export type CniReply = { readonly exit: 0 | 1; readonly output: unknown };

/** Lets pass what judging denies the node's pods, for so long, milliseconds; 0 ends that. `by`: who asks, as they say. */
export type BypassRequest = { readonly forMs: number; readonly by: string };

/** For how long it lasts yet. */
export type BypassAnswer = { readonly leftMs: number };

/** What the agent is asked. */
export type AgentRequest =
  | { readonly id: number; readonly method: 'attach'; readonly endpoints: readonly AttachRequest[] }
  | { readonly id: number; readonly method: 'detach'; readonly interfaces: readonly number[] }
  | { readonly id: number; readonly method: 'cni'; readonly call: CniCall }
  | ({ readonly id: number; readonly method: 'bypass' } & BypassRequest)
  | { readonly id: number; readonly method: 'status' }
  | { readonly id: number; readonly method: 'subscribe' };

export type AgentStatus = {
  readonly node: string;
  readonly datapath: 'ebpf';
  readonly pid: number;
  /** Revision of the cluster source that every packet is judged by; 0 before the first. */
  readonly revision: number;
  /** The last revision that the source told as a whole: where it is `revision`, nothing waits. */
  readonly known: number;
  readonly endpoints: number;
  /** Those of which what policy denies passes: their namespace is audited, or all are. */
  readonly audited: number;
  /** For how long what judging denies passes on the whole node yet, milliseconds; 0 = it is enforced. */
  readonly bypassMs: number;
  readonly policies: number;
  readonly rules: number;
  readonly drops: Readonly<Partial<Record<DropReason, number>>>;
  /** Events that the kernel could not hand over, counted exactly. */
  readonly lostEvents: number;
  /** Flows that nobody had answered yet, or that were over, and gave way to newer ones of the same pod. */
  readonly evictedFlows: number;
  /** What is wrong now: a failure that a fresh start has not mended yet, or hooks that can't be put back. Null = nothing. */
  readonly problem: string | null;
  /**
   * The whole cluster as it is now is in force here. An agent that is not ready enforces what it knew last; before its
   * first list, what an agent before it left.
   */
  readonly ready: boolean;
  /** What keeps the agent from knowing the cluster as it is now. Null = nothing. */
  readonly source: string | null;
  /** Objects that it can't understand, and what was made of them: one line each. */
  readonly findings: readonly string[];
  /** How often hooks that somebody touched were put back. */
  readonly hooksRepaired: number;
  readonly memoryMb: number;
};

/** What the agent says: answers to requests (by id), and what it tells subscribers unasked. */
export type AgentMessage =
  | { readonly kind: 'answer'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly message: string }
  | { readonly kind: 'flows'; readonly events: readonly FlowEvent[]; readonly lost: number }
  /** The revision is in force: `applyMs` from receiving it to the last step applied. */
  | { readonly kind: 'applied'; readonly revision: number; readonly applyMs: number; readonly steps: number }
  | { readonly kind: 'problem'; readonly message: string };
