// `moat install --check`: what a cluster, and the node that this runs on, have and lack, before anything is changed.
import { type Command, Option } from 'commander';
import { CommandError } from './errors.ts';
import { checkCluster } from './install-cluster.ts';
import { type Finding, messageOf } from './install-finding.ts';
import { checkNode } from './install-node.ts';
import { outputOption } from './options.ts';
import { outputWidth, print, printJson } from './output.ts';
import { tableText } from './table.ts';

type Options = {
  readonly check?: true;
  readonly kubeconfig?: string;
  readonly inCluster?: true;
  readonly node?: string;
  readonly cniPluginFolder: string;
  readonly cniConfig: string;
  readonly output: 'table' | 'json';
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  command
    .description(
      'What a cluster (--kubeconfig, --in-cluster) and the node that this runs on (--node) have and lack for Moat. Changes nothing; docs/install.md says how to install.',
    )
    .option('--check', 'needed: nothing else is done here')
    .option('--kubeconfig <path>', 'the cluster, by its API, as the one who would install it')
    .addOption(new Option('--in-cluster', 'the cluster, by its API, as a pod of it').conflicts('kubeconfig'))
    .option('--node <name>', 'this node, by its kernel and its files; needs root')
    .option('--cni-plugin-folder <path>', 'where its runtime looks for plugins', '/opt/cni/bin')
    .option('--cni-config <path>', 'where the network configuration would be', '/etc/cni/net.d/05-moat.conflist');
  outputOption(command, ['table', 'json']).action(async (options: Options) => {
    const findings = await check(options);
    const ok = findings.every(({ status }) => status !== 'lacking' && status !== 'unknown');
    if (options.output === 'json') printJson({ node: options.node ?? null, ok, findings });
    else await printTable(findings, options.node);
    done(0);
  });
}

async function check({
  check,
  kubeconfig,
  inCluster,
  node,
  cniPluginFolder,
  cniConfig,
}: Options): Promise<readonly Finding[]> {
  if (!check) throw new CommandError('only --check is done here: Helm installs Moat, docs/install.md says how');
  const asksCluster = kubeconfig !== undefined || inCluster === true;
  if (!asksCluster && node === undefined) {
    throw new CommandError(
      'name what to look at: --kubeconfig FILE for a cluster, --node NAME for the node that this runs on',
    );
  }
  if (node !== undefined && process.getuid?.() !== 0) throw new CommandError('--node needs root: run it with sudo');
  const cluster = asksCluster ? await ofCluster(kubeconfig ?? null) : [];
  const own = node === undefined ? [] : await checkNode(node, { pluginFolder: cniPluginFolder, config: cniConfig });
  return [...cluster, ...own];
}

async function ofCluster(kubeconfig: string | null): Promise<readonly Finding[]> {
  try {
    return await checkCluster(kubeconfig);
  } catch (cause) {
    throw new CommandError(`the cluster can't be looked at: ${messageOf(cause)}`, { cause });
  }
}

async function printTable(findings: readonly Finding[], node: string | undefined): Promise<void> {
  for (const part of ['cluster', 'node'] as const) {
    const rows = findings.filter((each) => each.part === part);
    if (rows.length === 0) continue;
    const cells = rows.map(({ subject, status, found, meaning }) => [subject, status, found, meaning]);
    const title = part === 'cluster' ? 'cluster' : `node ${node}`;
    print(await tableText([title, '', 'there is', 'which means'], cells, outputWidth()));
    print('');
  }
  const lacking = findings.filter(({ status }) => status === 'lacking').map(({ subject }) => subject);
  const unknown = findings.filter(({ status }) => status === 'unknown').map(({ subject }) => subject);
  if (lacking.length > 0) print(`lacking: ${lacking.join(', ')}`);
  if (unknown.length > 0) print(`not found out: ${unknown.join(', ')}`);
  if (lacking.length + unknown.length === 0) print('nothing is lacking');
}
