// An agent as a process runs it: in its network namespace, on its node's datapath, until closed.
import { join } from 'node:path';
import type { Connect } from '#cluster/kubernetes/connection.ts';
import type { NoteEvent } from '#cluster/kubernetes/event-note.ts';
import { Compiler } from '#compile/compiler.ts';
import { openDatapath } from '#datapath/ebpf/open.ts';
import { giveBack } from '#kernel/give-back.ts';
import { enterNetns } from '#kernel/sockets.ts';
import { PodNetwork } from '#network/pod-network.ts';
import { startAgent } from './agent.ts';
import type { Agent, AgentOptions } from './agent-options.ts';
import { CniConfig } from './cni-config.ts';
import { checkCniPlaces } from './cni-install.ts';
import { Log } from './log.ts';
import { Meters } from './metrics/meters.ts';
import { NodeState } from './node-state.ts';
import { Observer } from './observer.ts';
import { type PageSources, servePages } from './pages.ts';
import type { AgentProcessOptions } from './process-options.ts';
import { startOnReadyCode } from './ready-code.ts';
import { ClusterSource } from './source.ts';

/** An agent's start is over by then. */
const STARTED_MS = 15_000;
/** What is done once in a while needs code, too. */
const GIVE_BACK_MS = 10 * 60_000;

/** Resolves when it serves; the process may have started over before (ready-code.ts). Throws where it can't; what fails later it mends by a fresh start of its own. */
export async function runAgent(options: AgentProcessOptions): Promise<Agent> {
  startOnReadyCode();
  const { instance, node, netns, semantics, agentSocket, cniFolder, cniPlaces, network } = options;
  if (cniPlaces !== undefined) checkCniPlaces(cniPlaces);
  // This thread alone, and the network alone: pins stay in the host's bpffs. Threads made later come along.
  if (netns !== null) enterNetns(netns);
  const hostClients = options.source.kind === 'kubernetes' && options.source.services === 'moat';
  const makeState = (): NodeState => {
    const compiler = new Compiler({ semantics, isLocal: (pod) => pod.node === node });
    return new NodeState(node, compiler, openDatapath({ instance, node, hostClients }));
  };
  const makeNetwork: AgentOptions['makeNetwork'] = network && ((tell) => new PodNetwork({ node, ...network, tell }));
  const { watched } = options;
  const log = new Log(watched.log);
  const meters = new Meters();
  const { makeSource, apiErrors, events } = await sourceMaker(options, log);
  const note: NoteEvent = (each) => events?.note(each);
  const tellOfCni = (message: string): void => log.say('warn', 'cni', message);
  const cniConfig =
    cniPlaces && cniFolder
      ? new CniConfig({
          ...{ node, places: cniPlaces, tell: tellOfCni, note },
          paths: { socket: agentSocket, spool: join(cniFolder, 'spool') },
        })
      : null;
  const observer = new Observer({ log, meters, note, logDenies: watched.logDenies });
  const agent = await startAgent({
    node,
    agentSocket,
    cniFolder,
    makeNetwork,
    makeState,
    makeSource,
    observer,
    cniConfig,
  });
  const sources = { agent, meters, apiErrors, events, leftOut: () => log.leftOut };
  const pages = await servePages(watched, sources, (message) => log.say('warn', 'pages', message));
  const slim = (): void => {
    try {
      giveBack();
    } catch (error) {
      log.say(
        'warn',
        'memory',
        `what only the start needed stays in memory: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  };
  const timers = [setTimeout(slim, STARTED_MS), setInterval(slim, GIVE_BACK_MS)];
  const close = (): void => {
    for (const timer of timers) clearTimeout(timer);
    pages.close();
    events?.close();
    cniConfig?.close();
    agent.close();
  };
  return { ...agent, close };
}

type Following = Pick<AgentOptions, 'makeSource'> & Pick<PageSources, 'apiErrors' | 'events'>;

async function sourceMaker({ source, node }: AgentProcessOptions, log: Log): Promise<Following> {
  if (source.kind === 'socket') {
    return { makeSource: (follower) => new ClusterSource(source.path, follower), apiErrors: new Map(), events: null };
  }
  // What follows a socket has no use for these.
  const { KubernetesSource } = await import('#cluster/kubernetes/source.ts');
  const { ApiClient } = await import('#cluster/kubernetes/client.ts');
  const { EventWriter, REPEAT_MS } = await import('#cluster/kubernetes/event-writer.ts');
  const { KINDS, SERVICE_KINDS } = await import('#cluster/kubernetes/kinds.ts');
  const kinds = source.services === 'moat' ? [...KINDS, ...SERVICE_KINDS] : KINDS;
  const client = new ApiClient(await connectOf(source.kubeconfig));
  const tellOfEvents = (message: string): void => log.say('warn', 'events', message);
  const events = new EventWriter(client, { node, repeatMs: REPEAT_MS, tell: tellOfEvents });
  const note: NoteEvent = (each) => events.note(each);
  const makeSource: AgentOptions['makeSource'] = (follower, tell) =>
    new KubernetesSource(client, { kinds, node, follower, tell, note });
  return { makeSource, apiErrors: client.errors, events };
}

async function connectOf(kubeconfig: string | null): Promise<Connect> {
  if (kubeconfig === null) return (await import('#cluster/kubernetes/connection.ts')).inCluster();
  return await (await import('#cluster/kubernetes/kubeconfig.ts')).fromKubeconfig(kubeconfig);
}
