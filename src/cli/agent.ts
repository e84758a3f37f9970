// `moat agent`: the node daemon in the foreground. It follows a cluster source, enforces policy on this node's pods, and
// serves whoever attaches pods. When it ends, the kernel goes on enforcing.
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Command, Option } from 'commander';
import type { Agent } from '#agent/agent-options.ts';
import type { CniPlaces } from '#agent/cni-install.ts';
import { LEVELS, type Level, Log, type LogOptions } from '#agent/log.ts';
import type { ListenAddress, ServicesBy, SourceOptions, WatchOptions } from '#agent/process-options.ts';
import { runAgent } from '#agent/run.ts';
import { VERSION } from '#agent/version.ts';
import { checkInstanceName, statePaths } from '#sandbox/names.ts';
import { addressOption } from './address.ts';
import { CommandError } from './errors.ts';
import { type InputOptions, parseNode, semanticsOf, semanticsOption } from './options.ts';

type Options = Pick<InputOptions, 'ipblockPods' | 'mode'> & {
  readonly node: string;
  readonly instance: string;
  readonly clusterSocket?: string;
  readonly kubeconfig?: string;
  readonly inCluster?: true;
  readonly services: ServicesBy;
  readonly socket?: string;
  readonly netns?: string;
  readonly cniFolder?: string;
  readonly routes?: 'auto' | 'vxlan';
  readonly masquerade: boolean;
  readonly healthAddress: ListenAddress | null;
  readonly cniPluginFolder?: string;
  readonly cniConfig?: string;
  readonly cniBehind?: string;
  readonly metricsAddress: ListenAddress | null;
  readonly logFormat: LogOptions['format'];
  readonly logLevel: Level;
  readonly logDenies?: true;
};

/** Adds the command's options and its action. */
export function define(command: Command, done: (exitCode: number) => void): void {
  command
    .description('The node daemon: enforces policy on the pods of one node. Runs until SIGTERM or Ctrl-C; needs root.')
    .requiredOption('--node <name>', "this node's name, as pods carry it in spec.nodeName", parseNode)
    .option('--instance <name>', 'whose pins and sockets: a sandbox has its own name here', 'moat')
    .option('--cluster-socket <path>', 'where the cluster source listens (default: /run/moat/INSTANCE/cluster.sock)')
    .addOption(
      new Option('--kubeconfig <path>', 'follow the API server that this file names').conflicts('clusterSocket'),
    )
    .addOption(
      new Option(
        '--in-cluster',
        "follow the API server as a pod does: by its environment and its account's files",
      ).conflicts(['kubeconfig', 'clusterSocket']),
    )
    .addOption(
      new Option('--services <who>', "who sends on what this node's pods send to Services: kube-proxy, or this agent")
        .choices(['kube-proxy', 'moat'])
        .default('kube-proxy'),
    )
    .option('--socket <path>', 'where this agent listens (default: /run/moat/INSTANCE/agent-NODE.sock)')
    .option('--netns <path>', "file of the network namespace that the node's interfaces are in (default: this one)")
    .option(
      '--cni-folder <path>',
      'make the links of this node’s pods as the CNI plugin asks, and keep here what was made (a folder in /run)',
    )
    .option('--cni-plugin-folder <path>', 'put the CNI plugin here once pods can be attached: /opt/cni/bin, mostly')
    .option('--cni-config <path>', 'and then its network configuration here: /etc/cni/net.d/05-moat.conflist, mostly')
    .option(
      '--cni-behind <path>',
      'which then is the network configuration of another CNI, as it stands here, with policy behind it',
    )
    .addOption(addressOption('--health-address', 'where /healthz and /readyz are served', '127.0.0.1:9797'))
    .addOption(addressOption('--metrics-address', 'where /metrics is served, for Prometheus', 'off'))
    .addOption(new Option('--log-format <format>', 'lines of the log').choices(['text', 'json']).default('text'))
    .addOption(new Option('--log-level <level>', 'the least urgent lines').choices(LEVELS).default('info'))
    .option('--log-denies', 'flows that are denied are lines of the log, as many as somebody can read');
  networkOptions(command);
  semanticsOption(command).action(async (options: Options) => {
    const agent = await start(options);
    const code = await interrupted();
    // What it has put in the kernel stays.
    agent.close();
    done(code);
    process.exit(code);
  });
}

function networkOptions(command: Command): void {
  command
    .addOption(
      new Option(
        '--routes <mode>',
        'keep routes to other nodes’ pods. auto: directly where the node is in a subnet of this one, else by VXLAN; vxlan: always by VXLAN',
      ).choices(['auto', 'vxlan']),
    )
    .option('--no-masquerade', 'with --routes: what pods send out of the cluster keeps their addresses');
}

async function start(options: Options): Promise<Agent> {
  const { node, instance, netns = null, cniFolder = null, routes, masquerade } = options;
  const cniPlaces = placesOf(options);
  if (process.getuid?.() !== 0) {
    throw new CommandError('an agent puts programs into the kernel, which needs root: run it with sudo');
  }
  if (netns !== null && !existsSync(netns)) throw new CommandError(`--netns ${netns}: there is no such file`);
  const paths = statePaths(checkInstanceName(instance));
  const { socket: agentSocket = paths.agent(node) } = options;
  const source = sourceOf(options, paths.cluster);
  const semantics = semanticsOf(options);
  const network = routes === undefined ? null : { routes, masquerade };
  try {
    process.umask(0o077);
    mkdirSync(dirname(agentSocket), { recursive: true, mode: 0o700 });
    const watched = watchOptions(options);
    const places = { agentSocket, cniFolder, cniPlaces };
    const agent = await runAgent({ instance, node, netns, semantics, source, ...places, network, watched });
    const text = `moat: agent of node ${node} listens on ${agentSocket}; its cluster source is ${sourceText(source)}`;
    new Log(watched.log).say('info', 'start', text, { node, version: VERSION });
    return agent;
  } catch (error) {
    return fail(options, error);
  }
}

function placesOf(options: Options): CniPlaces | undefined {
  const { cniFolder, cniPluginFolder: pluginFolder, cniConfig: config, cniBehind: behind, routes } = options;
  if (behind !== undefined && routes !== undefined)
    throw new CommandError('--cni-behind leaves routes to the other CNI: leave --routes out');
  if (pluginFolder === undefined && config === undefined && behind === undefined) return undefined;
  if (cniFolder === undefined || pluginFolder === undefined || config === undefined)
    throw new CommandError('--cni-plugin-folder and --cni-config go together, and with --cni-folder');
  if (behind !== undefined && dirname(behind) !== dirname(config))
    throw new CommandError('--cni-behind names a file of the folder of --cni-config');
  return { pluginFolder, config, behind };
}

function watchOptions(options: Options): WatchOptions {
  const { healthAddress: health, metricsAddress: metrics, logFormat: format, logLevel: level } = options;
  return { health, metrics, log: { format, level }, logDenies: options.logDenies ?? false };
}

function sourceOf({ kubeconfig, inCluster, clusterSocket, services }: Options, fallback: string): SourceOptions {
  if (inCluster) return { kind: 'kubernetes', kubeconfig: null, services };
  if (kubeconfig !== undefined) return { kind: 'kubernetes', kubeconfig, services };
  if (services === 'moat') throw new CommandError('--services moat needs --kubeconfig or --in-cluster');
  return { kind: 'socket', path: clusterSocket ?? fallback };
}

function sourceText(source: SourceOptions): string {
  if (source.kind === 'socket') return `${source.path}${existsSync(source.path) ? '' : ', which nobody serves yet'}`;
  return source.kubeconfig === null ? 'the API server of its cluster' : `the API server of ${source.kubeconfig}`;
}

function fail({ node }: Options, cause: unknown): never {
  const message = cause instanceof Error ? cause.message : String(cause);
  throw new CommandError(`the agent of node ${node} can't start: ${message}`, { cause });
}

/** The exit code of the signal that asks for the end: a supervisor's is no failure. */
async function interrupted(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  process.once('SIGTERM', () => resolve(0));
  process.once('SIGINT', () => resolve(130));
  return await promise;
}
