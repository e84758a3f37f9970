// An agent's status as its socket tells it.
import type { AgentFacts } from './agent-facts.ts';
import { isWell, readyChecks } from './health.ts';
import { joined } from './lack-text.ts';
import type { AgentStatus } from './protocol.ts';

export function statusOf(facts: AgentFacts): AgentStatus {
  const { failure, hooks, lacks, shortages, unreached, network, cniConfig, source } = facts;
  const { node, revision, known, endpoints, audited, bypassMs, policies, rules, lostEvents, drops, evictedFlows } =
    facts;
  return {
    ...{ node, datapath: 'ebpf', pid: process.pid, revision, known },
    ...{ endpoints, audited, bypassMs, policies, rules, lostEvents, drops, evictedFlows },
    ready: isWell(readyChecks(facts)),
    source,
    findings: facts.findings,
    problem:
      failure ?? joined(hooks, cniConfig?.problem ?? null, ...unreached, ...lacks, ...shortages, ...(network ?? [])),
    hooksRepaired: facts.hooksRepaired,
    memoryMb: Math.round(process.memoryUsage.rss() / 1e6),
  };
}
