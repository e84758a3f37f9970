// `moat reach`: who can reach whom, as workloads.
import type { Command } from 'commander';
import { rowText } from '#analyze/connections.ts';
import { type ReachRow, reach } from '#analyze/reach.ts';
import { readInput } from './input.ts';
import { type InputOptions, inputOptions, outputOption, semanticsOf } from './options.ts';
import { outputWidth, print, printJson } from './output.ts';
import { planOf } from './plan.ts';
import { reachDot, reachMermaid } from './reach-graph.ts';
import { tableText } from './table.ts';

type Options = InputOptions & { readonly output: 'table' | 'json' | 'dot' | 'mermaid' };

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  inputOptions(command);
  outputOption(command, ['table', 'json', 'dot', 'mermaid']).action(async (options: Options) => {
    const { world } = readInput(options);
    const plan = planOf(world, semanticsOf(options));
    const { rows, uneven } = reach(world, plan);
    if ([...plan.endpoints.values()].some(({ audit }) => audit !== undefined)) console.error(AUDITS);
    if (uneven.length > 0 && options.output !== 'json') console.error(unevenText(uneven));
    await printReach(rows, options.output);
    done(0);
  });
}

const AUDITS =
  'moat: some pods are audited: what policy denies them passes, and is listed as what passes by audit alone';

async function printReach(rows: readonly ReachRow[], output: Options['output']): Promise<void> {
  switch (output) {
    case 'json':
      return printJson(rows);
    case 'dot':
      return print(reachDot(rows));
    case 'mermaid':
      return print(reachMermaid(rows));
    case 'table': {
      const cells = rows.map(({ from, to, connections, audited }) => {
        return [spaced(from), spaced(to), rowText(connections, audited)];
      });
      return print(await tableText(['from', 'to', 'connections'], cells, outputWidth()));
    }
  }
}

/** `shop/web[Deployment]` → `shop/web Deployment`: a place to break the line. */
function spaced(name: string): string {
  return name.replace(/\[(.+)\]$/, ' $1');
}

function unevenText(uneven: readonly string[]): string {
  const shown = `${uneven.slice(0, 5).join(', ')}${uneven.length > 5 ? ' …' : ''}`;
  return `moat: policy tells pods of one workload apart; what any of them can is listed for: ${shown}`;
}
