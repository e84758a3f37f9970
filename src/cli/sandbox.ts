// `moat sandbox`: pods of manifests as network namespaces on this machine, up for as long as one likes.
import { type Command, InvalidArgumentError } from 'commander';
import type { Address } from '#net/address.ts';
import type { SandboxStatus } from '#sandbox/api.ts';
import { connectSandbox, downSandbox, type SandboxClient } from '#sandbox/client.ts';
import { printDiagnostics } from './input.ts';
import {
  datapathOption,
  type InputOptions,
  inputOptions,
  manifestOptions,
  outputOption,
  type PortOption,
  parseAddresses,
  parsePorts,
} from './options.ts';
import { print, printJson } from './output.ts';
import { printProbe } from './probe-output.ts';
import { probeNow } from './probe-packets.ts';
import { changeText, downText, statusText } from './sandbox-text.ts';
import { type UpOptions, up } from './sandbox-up.ts';

type Named = { readonly name: string; readonly output: 'text' | 'json' };
type Done = (exitCode: number) => void;

const DEFAULT_NAME = 'moat';

/** Adds the subcommands. */
export function define(command: Command, done: Done): void {
  defineUp(command, done);
  defineApply(command, done);
  defineProbe(command, done);
  defineStatus(command, done);
  defineDown(command, done);
}

function subcommand(command: Command, name: string, summary: string): Command {
  return command
    .command(name)
    .summary(summary)
    .description(summary)
    .option('--name <name>', 'which sandbox', DEFAULT_NAME);
}

function defineUp(command: Command, done: Done): void {
  const added = subcommand(command, 'up', 'bring the pods of manifests up, and follow changes of the files');
  outputOption(inputOptions(added), ['text', 'json'])
    .option('--nodes <count>', 'nodes, where the manifests declare none', parseCount, 2)
    .addOption(datapathOption('what enforces the policies', ['ebpf']))
    .option('--detach', 'return once it is up, and leave it up', false)
    .action(async (options: UpOptions) => {
      await up(options);
      done(0);
    });
}

type ApplyOptions = Named & Omit<InputOptions, 'ipblockPods' | 'mode'>;

function defineApply(command: Command, done: Done): void {
  const added = subcommand(command, 'apply', 'add or replace objects in a sandbox that is up');
  outputOption(manifestOptions(added), ['text', 'json']).action(async (options: ApplyOptions) => {
    const { change, problems } = await inSandbox(options, async (client) => {
      const change = await client.apply(options.filename, { lenient: options.lenient });
      return { change, problems: problemsOf(await client.status()) };
    });
    printDiagnostics(change.diagnostics, options.output);
    if (options.output === 'json') printJson({ ...change, problems });
    else print(changeText(change));
    if (options.output === 'text')
      for (const { node, problem } of problems) console.error(`moat: node ${node}: ${problem}`);
    done(0);
  });
}

/** What agents complain of: a policy can be valid, and more than there is room for. */
function problemsOf({ nodes }: SandboxStatus): readonly { readonly node: string; readonly problem: string }[] {
  return nodes.flatMap(({ name, agent }) => (agent?.problem ? [{ node: name, problem: agent.problem }] : []));
}

type ProbeOptions = Named & { readonly ports?: readonly PortOption[]; readonly external: readonly Address[] };

function defineProbe(command: Command, done: Done): void {
  const added = subcommand(command, 'probe', 'try every pod to every pod of a sandbox that is up, by real packets');
  outputOption(added, ['text', 'json'])
    .option(
      '--ports <list>',
      'ports to try, as in 80/TCP,53/UDP,ICMP (default: on each pod those that it declares)',
      parsePorts,
    )
    .option('--external <list>', 'outside addresses to try as well, as source and as destination', parseAddresses, [])
    .action(async (options: ProbeOptions) => {
      const ask = { ports: options.ports ?? null, externals: options.external };
      const found = await inSandbox(options, (client) => probeNow(client, ask));
      const output = options.output === 'json' ? 'json' : 'table';
      printProbe(found, { output, perPort: options.ports !== undefined, groupOf: podPrefix });
      done(0);
    });
}

/** Pods of one workload are told by their names here: `shop/web-0` is of `shop/web`. */
function podPrefix(end: string): string {
  return end.replace(/-[^-/]+$/, '');
}

function defineStatus(command: Command, done: Done): void {
  const added = subcommand(command, 'status', 'nodes, agents and pods of a sandbox that is up');
  outputOption(added, ['text', 'json']).action(async (options: Named) => {
    const status = await inSandbox(options, (client) => client.status());
    if (options.output === 'json') printJson(status);
    else print(await statusText(status));
    done(0);
  });
}

function defineDown(command: Command, done: Done): void {
  const added = subcommand(command, 'down', 'end a sandbox, or remove what a crashed one left');
  outputOption(added, ['text', 'json']).action(async (options: Named) => {
    const found = await downSandbox(options.name);
    if (options.output === 'json') printJson({ name: options.name, ...found });
    else print(downText(options.name, found));
    done(0);
  });
}

async function inSandbox<T>({ name }: Named, use: (client: SandboxClient) => Promise<T>): Promise<T> {
  const client = await connectSandbox(name);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d{1,2}$/.test(text) || count < 1) throw new InvalidArgumentError('a number from 1 to 99.');
  return count;
}
