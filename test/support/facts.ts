// What an agent knows of itself when all is well: tests of health and metrics change what they are about.
import type { AgentFacts } from '#agent/agent-facts.ts';
import type { MetricFacts } from '#agent/metrics/catalogue.ts';
import { Meters } from '#agent/metrics/meters.ts';
import { DROP_REASONS } from '#datapath/port.ts';

export const FACTS: AgentFacts = {
  ...{ node: 'node-a', isOpen: true, failure: null, hooks: null, hooksRepaired: 0, sinceLookMs: 5 },
  ...{
    revision: 7,
    known: 7,
    endpoints: 2,
    audited: 1,
    bypassMs: 1500,
    policies: 3,
    rules: 4,
    lostEvents: 0,
    drops: {},
    evictedFlows: 0,
  },
  ...{ source: null, findings: [], lacks: [], shortages: [], unreached: [], network: null, waits: [] },
  cniConfig: null,
  ...{ identities: 5, attached: { enforced: 2, closed: 0 }, counters: null },
  watches: [
    {
      ...{ kind: 'Pod', problem: null, restarts: 0, heardMs: 1000 },
      objects: { understood: 2, partly: 0, refused: 0 },
    },
  ],
};

/** All that metrics are read from: each has a value of its own. */
export function metricFacts(change: Partial<MetricFacts> = {}): MetricFacts {
  const meters = new Meters();
  meters.applies.observe(0.003);
  meters.cniCall('ADD', 'ok', 0.02);
  meters.cniCall('ADD', '11', 5);
  const drops = new Map(DROP_REASONS.map((reason, index) => [reason, BigInt(index)] as const));
  const counters = {
    ...{
      drops,
      audited: new Map([['policy', 8n] as const]),
      fromPod: 1n,
      toPod: 2n,
      redirected: 3n,
      routed: 4n,
      delivered: 5n,
      forwarded: 6n,
    },
    lost: 6n,
    evicted: 7n,
  };
  return {
    agent: { ...FACTS, counters, cniConfig: { problem: null, changes: 6 } },
    ...{ fills: [{ table: 'ct_map', entries: 9, capacity: 10 }], meters, apiErrors: new Map([['403', 2]]) },
    kubernetesEvents: new Map([['written', 4]]),
    process: { cpuSeconds: 1.5, residentBytes: 9e7, startSeconds: 1e9, openFds: 40 },
    ...{ version: '1.2.3', logLinesLeftOut: 8 },
    ...change,
  };
}
