// What `probe` prints: the contract's rows as JSON, or a square of marks for each port.
import type { SimulatedProbe } from '#datapath/reference/simulate.ts';
import { ICMP, ICMPV6, protocolName } from '#net/protocol.ts';
import { auditedBy, type Verdict } from '#policy/verdict.ts';
import type { PodKey, World } from '#policy/world.ts';
import type { ProbeRow } from '#sandbox/probe-judge.ts';
import { legend, matrixText } from './matrix.ts';
import { outputWidth, print, printJson, styled } from './output.ts';

/** A simulated probe as a row. A reason is said only where it is not plainly the policy's: as packets say it. */
export function simulatedRow({ from, to, flow, verdict }: SimulatedProbe): ProbeRow {
  const { decidedBy } = verdict;
  const audited = auditedBy(verdict);
  const said = decidedBy ?? audited;
  return {
    from,
    to,
    protocol: flow.protocol === ICMPV6 ? protocolName(ICMP) : protocolName(flow.protocol),
    port: flow.port,
    verdict: verdict.verdict,
    rule: { egress: verdict.egress.rule, ingress: verdict.ingress.rule },
    decidedBy,
    ...(audited === null ? {} : { audited }),
    ...(said !== null && verdict[said].reason === 'peer-unknown' ? { reason: 'peer-unknown' } : {}),
  };
}

/** How to print. `perPort`: a square for each port; else one for all of them together. */
export type ProbePrinting = {
  readonly output: 'table' | 'json';
  readonly perPort: boolean;
  /** The name that an end goes under where there are many. */
  readonly groupOf: (end: string) => string;
};

/** What was tried: the rows, and the same connections by the other family where both ends have two. */
export type Probed = { readonly rows: readonly ProbeRow[]; readonly secondFamily: readonly ProbeRow[] };

/** Prints all rows. Squares that come out the same for several ports are drawn once. */
export function printProbe({ rows, secondFamily }: Probed, { output, perPort, groupOf }: ProbePrinting): void {
  const note = familyNote(rows, secondFamily);
  if (note !== null) console.error(`moat: ${note}`);
  if (output === 'json') {
    printJson(rows);
    return;
  }
  if (rows.length === 0) {
    print('No two pods to try.');
    return;
  }
  const style = { width: outputWidth(), groupOf };
  for (const { ports, tried } of perPort ? sameSquares(rows) : [oneSquare(rows)]) {
    print(
      `${styled('bold', perPort ? wrapped(ports, style.width) : 'each on its own ports')}\n${matrixText(tried, style)}\n`,
    );
  }
  print(legend(rows.some(({ audited }) => audited !== undefined)));
  print(totals(rows));
}

/** A row speaks for one address family. Where the other has another verdict, that must not go unsaid. */
function familyNote(rows: readonly ProbeRow[], secondFamily: readonly ProbeRow[]): string | null {
  const nameOf = (row: ProbeRow): string => `${row.from} → ${row.to} ${rowPort(row)}`;
  const verdicts = new Map(rows.map((row) => [nameOf(row), row.verdict]));
  const unlike = secondFamily.filter((row) => verdicts.get(nameOf(row)) !== row.verdict);
  const [first] = unlike;
  if (first === undefined) return null;
  const count = unlike.length === 1 ? 'one connection' : `${unlike.length} connections`;
  return `${count} would end otherwise by the other address family, as ${nameOf(first)}: ${first.verdict}; explain tells both`;
}

/** Pods by their workload; other ends by themselves. */
export function groupIn(world: World): (end: string) => string {
  return (end) => {
    const workload = world.pods.get(end as PodKey)?.workload;
    return workload === undefined ? end : `${workload.namespace}/${workload.name}`;
  };
}

type Square = { readonly ports: string[]; readonly tried: readonly ProbeRow[] };

function sameSquares(rows: readonly ProbeRow[]): readonly Square[] {
  const squares = new Map<string, Square>();
  for (const [port, tried] of Map.groupBy(rows, rowPort)) {
    const key = tried.map(({ from, to, verdict, audited }) => `${from} ${to} ${verdict} ${audited}`).join('\n');
    const known = squares.get(key);
    if (known === undefined) squares.set(key, { ports: [port], tried });
    else known.ports.push(port);
  }
  return [...squares.values()];
}

function oneSquare(rows: readonly ProbeRow[]): Square {
  return { ports: [...new Set(rows.map(rowPort))], tried: rows };
}

/** Words with commas between, on as many lines as they take. */
function wrapped(words: readonly string[], width: number): string {
  const lines: string[] = [''];
  for (const [index, word] of words.entries()) {
    const text = index < words.length - 1 ? `${word}, ` : word;
    const last = lines.at(-1) ?? '';
    if (last.length + text.trimEnd().length > width) lines.push(text);
    else lines[lines.length - 1] = last + text;
  }
  return lines.map((line) => line.trimEnd()).join('\n');
}

function rowPort({ protocol, port }: ProbeRow): string {
  return protocol === protocolName(ICMP) ? 'ICMP echo' : `${port}/${protocol}`;
}

function totals(rows: readonly ProbeRow[]): string {
  const count = (verdict: Verdict): number => rows.filter((row) => row.verdict === verdict).length;
  const rejected = count('reject');
  const audited = rows.filter((row) => row.audited !== undefined).length;
  const byAudit = audited > 0 ? ` (${audited} by audit alone)` : '';
  const parts = [`${count('allow')} allowed${byAudit}`, `${count('deny')} denied`];
  if (rejected > 0) parts.push(`${rejected} rejected`);
  return `${rows.length} connections: ${parts.join(', ')}`;
}
