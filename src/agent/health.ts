// Whether an agent works, and whether what it enforces is the cluster as it is now: check by check. Pure.
import type { AgentFacts } from './agent-facts.ts';
import { joined } from './lack-text.ts';
import { type Page, PLAIN } from './page.ts';

/** `why` null: it is well. `told`: what is wrong is said and counted, and fails no page: it is in tenants' hands. */
export type Check = { readonly name: string; readonly why: string | null; readonly told?: true };

/** The agent looks after the kernel many times a second: one that has not for so long is stuck. */
const STUCK_MS = 10_000;

/** The process and the datapath work. Whoever fails here is helped by a new process, if by anything. */
export function healthChecks({ failure, isOpen, hooks, sinceLookMs }: AgentFacts): readonly Check[] {
  const late = sinceLookMs > STUCK_MS ? `the kernel was looked after ${Math.round(sinceLookMs / 1000)} s ago` : null;
  return [
    { name: 'datapath', why: failure ?? (isOpen ? null : 'the datapath is not open') },
    { name: 'hooks', why: hooks },
    { name: 'loop', why: late },
  ];
}

/**
 * What is in force is the cluster as it is now: the above, each kind of object, and what is not in force yet. Pods that wait and
 * pods without policy are told: a tenant can make both, and a rolling update waits for each agent to be ready.
 */
export function readyChecks(facts: AgentFacts): readonly Check[] {
  const { watches, waits, revision, known, network, unreached, cniConfig } = facts;
  const behind = revision >= known ? null : `changes up to revision ${known} are known, and ${revision} is in force`;
  return [
    ...healthChecks(facts),
    ...watches.map(({ kind, problem }) => ({ name: `watch-${kind}`, why: problem })),
    { name: 'new-pods', why: waits.length === 0 ? null : waits.join('; '), told: true },
    { name: 'all-pods', why: joined(...unreached), told: true },
    ...(cniConfig === null ? [] : [{ name: 'cni-config', why: cniConfig.problem }]),
    ...(network === null ? [] : [{ name: 'pod-network', why: joined(...network) }]),
    { name: 'in-force', why: known === 0 ? 'nothing was listed as a whole yet' : behind },
  ];
}

export function isWell(checks: readonly Check[]): boolean {
  return checks.every(({ why, told }) => why === null || told);
}

/** 200 where all is well, else 503, and what is not; with `verbose` in the query, every check. */
export function checksPage(name: string, checks: readonly Check[], query: URLSearchParams): Page {
  const shown = query.has('verbose') ? checks : checks.filter(({ why }) => why !== null);
  const lines = shown.map(({ name: check, why, told }) =>
    why === null ? `[+] ${check}: ok` : `[${told ? '!' : '-'}] ${check}: ${oneLine(why)}`,
  );
  const well = isWell(checks);
  const text = [...lines, `${name}: ${well ? 'ok' : 'failed'}`].join('\n');
  return { status: well ? 200 : 503, type: PLAIN, text: `${text}\n` };
}

/** What others said, an API server among them, makes no lines of its own. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ').slice(0, 1000);
}
