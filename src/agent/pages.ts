// The pages that an agent serves, and where.
import type { EventWriter } from '#cluster/kubernetes/event-writer.ts';
import type { Agent } from './agent-options.ts';
import { checksPage, healthChecks, readyChecks } from './health.ts';
import type { Meters } from './metrics/meters.ts';
import type { Page, Pages } from './page.ts';
import type { ListenAddress, WatchOptions } from './process-options.ts';

export type Served = { readonly close: () => void };

/** What pages are made of. */
export type PageSources = {
  readonly agent: Agent;
  readonly meters: Meters;
  /** Requests to the API server that failed, by the status of the answer. */
  readonly apiErrors: ReadonlyMap<string, number>;
  /** Null where there is no API server to write Events to. */
  readonly events: Pick<EventWriter, 'note' | 'outcomes' | 'close'> | null;
  /** Lines of the log that were left out. */
  readonly leftOut: () => number;
};

/** Where nothing is to be served, not even the libraries are loaded. */
export async function servePages(
  { health, metrics }: Pick<WatchOptions, 'health' | 'metrics'>,
  sources: PageSources,
  tell: (message: string) => void,
): Promise<Served> {
  if (health === null && metrics === null) return { close: () => undefined };
  const { HttpPages } = await import('./http.ts');
  const healthy: Pages = health === null ? new Map() : healthPages(sources.agent);
  const measured: Pages = metrics === null ? new Map() : new Map([['/metrics', await metricsPage(sources)]]);
  const together = health !== null && metrics !== null && isSame(health, metrics);
  const places: readonly (readonly [ListenAddress | null, Pages])[] = together
    ? [[health, new Map([...healthy, ...measured])]]
    : [
        [health, healthy],
        [metrics, measured],
      ];
  const served = places.flatMap(([place, pages]) => (place === null ? [] : [new HttpPages(place, pages, tell)]));
  return { close: () => served.forEach((each) => void each.close()) };
}

function isSame(a: ListenAddress, b: ListenAddress): boolean {
  return a.host === b.host && a.port === b.port && a.port !== 0;
}

function healthPages(agent: Agent): Pages {
  return new Map([
    ['/healthz', (query) => checksPage('healthz', healthChecks(agent.facts()), query)],
    ['/readyz', (query) => checksPage('readyz', readyChecks(agent.facts()), query)],
  ]);
}

async function metricsPage({ agent, meters, apiErrors, events, leftOut }: PageSources): Promise<() => Promise<Page>> {
  const { METRICS } = await import('./metrics/catalogue.ts');
  const { EXPOSITION, exposition } = await import('./metrics/exposition.ts');
  const { processFacts } = await import('./metrics/process-facts.ts');
  const { VERSION } = await import('./version.ts');
  return async () => {
    const fills = await agent.fills();
    const own = {
      meters,
      apiErrors,
      kubernetesEvents: events?.outcomes ?? new Map<string, number>(),
      logLinesLeftOut: leftOut(),
      process: processFacts(),
      version: VERSION,
    };
    return { status: 200, type: EXPOSITION, text: exposition(METRICS, { agent: agent.facts(), fills, ...own }) };
  };
}
