// Every metric of an agent: docs/metrics.md is this table. No label has a value that a tenant chooses.
import type { Fill } from '#datapath/port.ts';
import type { AgentFacts } from '../agent-facts.ts';
import { isWell, readyChecks } from '../health.ts';
import type { Metric, Sample } from './exposition.ts';
import type { Meters } from './meters.ts';
import type { ProcessFacts } from './process-facts.ts';

/** All that metrics are read from. */
export type MetricFacts = {
  readonly agent: AgentFacts;
  readonly fills: readonly Fill[];
  readonly meters: Meters;
  /** Requests to the API server that failed, by the status of the answer; `none` where there was none. */
  readonly apiErrors: ReadonlyMap<string, number>;
  /** By what became of them. */
  readonly kubernetesEvents: ReadonlyMap<string, number>;
  /** Since the process started. */
  readonly logLinesLeftOut: number;
  readonly process: ProcessFacts;
  readonly version: string;
};

function one(value: number | bigint): readonly Sample[] {
  return [{ values: [], value }];
}

function each(counts: Iterable<readonly [string, number | bigint]>): readonly Sample[] {
  return [...counts].map(([name, value]) => ({ values: name.split(' '), value }));
}

function flag(isSo: boolean): number {
  return isSo ? 1 : 0;
}

const STATE: readonly Metric<MetricFacts>[] = [
  {
    ...{ name: 'moat_build_info', type: 'gauge', labels: ['version', 'datapath'] },
    help: 'Always 1: the version and the datapath.',
    read: ({ version }) => [{ values: [version, 'ebpf'], value: 1 }],
  },
  {
    ...{ name: 'moat_ready', type: 'gauge', labels: [] },
    help: '1 where /readyz says ok: the cluster as it is now is in force.',
    read: ({ agent }) => one(flag(isWell(readyChecks(agent)))),
  },
  {
    ...{ name: 'moat_check_ok', type: 'gauge', labels: ['check'] },
    help: 'Each check of /readyz, and so of /healthz: 1 where it is well.',
    read: ({ agent }) => readyChecks(agent).map(({ name, why }) => ({ values: [name], value: flag(why === null) })),
  },
  {
    ...{ name: 'moat_policies', type: 'gauge', labels: [] },
    help: 'Policies that are known, whomever they select.',
    read: ({ agent }) => one(agent.policies),
  },
  {
    ...{ name: 'moat_rules', type: 'gauge', labels: [] },
    help: 'Rules in force on this node: of policies that select its pods, and default denies.',
    read: ({ agent }) => one(agent.rules),
  },
  {
    ...{ name: 'moat_identities', type: 'gauge', labels: [] },
    help: 'Identities: sets of peers that no rule of this node tells apart.',
    read: ({ agent }) => one(agent.identities),
  },
  {
    ...{ name: 'moat_endpoints', type: 'gauge', labels: [] },
    help: "Addresses of this node's pods whose policy is in force.",
    read: ({ agent }) => one(agent.endpoints),
  },
  {
    ...{ name: 'moat_endpoints_audited', type: 'gauge', labels: [] },
    help: "Addresses of this node's pods of which what policy denies passes, by the audit of their namespace or of all.",
    read: ({ agent }) => one(agent.audited),
  },
  {
    ...{ name: 'moat_bypass_seconds_left', type: 'gauge', labels: [] },
    help: 'For how long what judging denies passes on the whole node yet (moat bypass); 0: policy is enforced.',
    read: ({ agent }) => one(Math.ceil(agent.bypassMs / 1000)),
  },
  {
    ...{ name: 'moat_attached_pods', type: 'gauge', labels: ['state'] },
    help: "Interfaces of this node's pods, by whether the policy of all their addresses is in force (enforced) or not (closed).",
    read: ({ agent }) =>
      each([
        ['enforced', agent.attached.enforced],
        ['closed', agent.attached.closed],
      ]),
  },
  {
    ...{ name: 'moat_table_entries', type: 'gauge', labels: ['table'] },
    help: "Elements in the kernel's tables; ct_map has the connections.",
    read: ({ fills }) => fills.map(({ table, entries }) => ({ values: [table], value: entries })),
  },
  {
    ...{ name: 'moat_table_capacity', type: 'gauge', labels: ['table'] },
    help: 'Elements that there is room for. What finds none is denied.',
    read: ({ fills }) => fills.map(({ table, capacity }) => ({ values: [table], value: capacity })),
  },
  {
    ...{ name: 'moat_tables_full', type: 'gauge', labels: [] },
    help: 'Kernel tables in which something found no room: whom it is about is denied.',
    read: ({ agent }) => one(agent.lacks.length),
  },
  {
    ...{ name: 'moat_namespace_shortages', type: 'gauge', labels: [] },
    help: 'Namespaces whose policies or Services need more than their share of this node: what is beyond is denied.',
    read: ({ agent }) => one(agent.shortages.length),
  },
];

const SOURCE: readonly Metric<MetricFacts>[] = [
  {
    ...{ name: 'moat_watch_connected', type: 'gauge', labels: ['kind'] },
    help: 'Whether the objects of a kind are known as they are now.',
    read: ({ agent }) => agent.watches.map(({ kind, problem }) => ({ values: [kind], value: flag(problem === null) })),
  },
  {
    ...{ name: 'moat_watch_restarts_total', type: 'counter', labels: ['kind'] },
    help: 'How often a kind was listed again after the first time.',
    read: ({ agent }) => agent.watches.map(({ kind, restarts }) => ({ values: [kind], value: restarts })),
  },
  {
    ...{ name: 'moat_watch_last_event_timestamp_seconds', type: 'gauge', labels: ['kind'] },
    help: 'When a kind was last heard of; 0 before the first time.',
    read: ({ agent }) => agent.watches.map(({ kind, heardMs }) => ({ values: [kind], value: (heardMs ?? 0) / 1000 })),
  },
  {
    ...{ name: 'moat_objects', type: 'gauge', labels: ['kind', 'state'] },
    help: 'Objects of a kind, by what could be made of them: understood, partly, refused.',
    read: ({ agent }) =>
      agent.watches.flatMap(({ kind, objects }) =>
        Object.entries(objects).map(([state, value]) => ({ values: [kind, state], value })),
      ),
  },
  {
    ...{ name: 'moat_new_pods_waiting_namespaces', type: 'gauge', labels: [] },
    help: 'Namespaces of which new pods of this node wait for their policies.',
    read: ({ agent }) => one(agent.waits.length),
  },
  {
    ...{ name: 'moat_api_errors_total', type: 'counter', labels: ['code'] },
    help: "Requests to the API server that failed, by the answer's status; none: there was no answer, or it broke off.",
    read: ({ apiErrors }) => each(apiErrors),
  },
  {
    ...{ name: 'moat_apply_duration_seconds', type: 'histogram', labels: [] },
    help: 'From when changes that came together were taken on to when every packet is judged by them.',
    read: ({ meters }) => [
      { values: [], bounds: meters.applies.bounds, counts: meters.applies.counts, sum: meters.applies.sum },
    ],
  },
  {
    ...{ name: 'moat_changes_waiting', type: 'gauge', labels: [] },
    help: 'Revisions that are known and not in force yet.',
    read: ({ agent }) => one(Math.max(0, agent.known - agent.revision)),
  },
];

const PACKETS: readonly Metric<MetricFacts>[] = [
  {
    ...{ name: 'moat_packets_passed_total', type: 'counter', labels: ['direction'] },
    help: "Packets that passed a pod's interface, from the pod or to it. Kept over restarts of the agent.",
    read: ({ agent: { counters } }) =>
      counters === null
        ? []
        : each([
            ['from_pod', counters.fromPod],
            ['to_pod', counters.toPod],
          ]),
  },
  {
    ...{ name: 'moat_packets_dropped_total', type: 'counter', labels: ['reason'] },
    help: 'Packets that were dropped, by reason (docs/metrics.md lists them). Kept over restarts of the agent.',
    read: ({ agent: { counters } }) =>
      counters === null ? [] : each([...counters.drops].filter(([name]) => name !== 'none')),
  },
  {
    ...{ name: 'moat_packets_audited_total', type: 'counter', labels: ['reason'] },
    help: 'Packets that passed by audit alone, by the reason for which they would have been dropped. Kept over restarts of the agent.',
    read: ({ agent: { counters } }) =>
      counters === null ? [] : each([...counters.audited].filter(([, count]) => count > 0n)),
  },
  {
    ...{ name: 'moat_packets_shortcut_total', type: 'counter', labels: ['path'] },
    help: "Packets that went past the host's stack: between pods, from a pod to an uplink, from an uplink to a pod, and from outside to a backend at another node, or back.",
    read: ({ agent: { counters } }) =>
      counters === null
        ? []
        : each([
            ['pod_to_pod', counters.redirected],
            ['pod_to_uplink', counters.routed],
            ['uplink_to_pod', counters.delivered],
            ['uplink_to_uplink', counters.forwarded],
          ]),
  },
  {
    ...{ name: 'moat_flows_evicted_total', type: 'counter', labels: [] },
    help: 'Flows that nobody had answered yet, or that were over, and gave way to newer ones of the same pod.',
    read: ({ agent: { counters } }) => (counters === null ? [] : one(counters.evicted)),
  },
  {
    ...{ name: 'moat_events_lost_total', type: 'counter', labels: [] },
    help: 'Events of flows that found no room in the ring. Verdicts are the same without them.',
    read: ({ agent: { counters } }) => (counters === null ? [] : one(counters.lost)),
  },
  {
    ...{ name: 'moat_hooks_repaired_total', type: 'counter', labels: [] },
    help: 'How often hooks that somebody took off, or got ahead of, were put back.',
    read: ({ agent }) => one(agent.hooksRepaired),
  },
];

const CALLS: readonly Metric<MetricFacts>[] = [
  {
    ...{ name: 'moat_cni_config_changes_total', type: 'counter', labels: [] },
    help: "How often somebody changed the runtime's network configuration: rewrote or removed it, or put one before it.",
    read: ({ agent: { cniConfig } }) => (cniConfig === null ? [] : one(cniConfig.changes)),
  },
  {
    ...{ name: 'moat_cni_calls_total', type: 'counter', labels: ['command', 'outcome'] },
    help: "CNI calls, by command and outcome: ok, or the specification's code of the error.",
    read: ({ meters }) => each(meters.cniCalls.counts),
  },
  {
    ...{ name: 'moat_cni_call_duration_seconds', type: 'histogram', labels: ['command'] },
    help: 'How long CNI calls took, those that failed among them.',
    read: ({ meters }) =>
      [...meters.cniTimes].map(([command, { bounds, counts, sum }]) => ({ values: [command], bounds, counts, sum })),
  },
];

const LOG: readonly Metric<MetricFacts>[] = [
  {
    ...{ name: 'moat_kubernetes_events_total', type: 'counter', labels: ['outcome'] },
    help: 'Kubernetes Events: written, repeated, left_to_others, over before their turn, failed, dropped since too many waited.',
    read: ({ kubernetesEvents }) => each(kubernetesEvents),
  },
  {
    ...{ name: 'moat_log_lines_left_out_total', type: 'counter', labels: [] },
    help: 'Lines of the log that were left out since there were too many of their kind.',
    read: ({ logLinesLeftOut }) => one(logLinesLeftOut),
  },
];

const PROCESS: readonly Metric<MetricFacts>[] = [
  {
    ...{ name: 'process_cpu_seconds_total', type: 'counter', labels: [] },
    help: 'Time of a CPU that the process has used.',
    read: ({ process }) => one(process.cpuSeconds),
  },
  {
    ...{ name: 'process_resident_memory_bytes', type: 'gauge', labels: [] },
    help: 'Resident memory.',
    read: ({ process }) => one(process.residentBytes),
  },
  {
    ...{ name: 'process_start_time_seconds', type: 'gauge', labels: [] },
    help: 'When the process started, since the epoch.',
    read: ({ process }) => one(process.startSeconds),
  },
  {
    ...{ name: 'process_open_fds', type: 'gauge', labels: [] },
    help: 'Open file descriptors.',
    read: ({ process }) => one(process.openFds),
  },
];

export const METRICS: readonly Metric<MetricFacts>[] = [...STATE, ...SOURCE, ...PACKETS, ...CALLS, ...LOG, ...PROCESS];
