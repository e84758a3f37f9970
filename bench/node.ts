// One node under load: the real agent as a process, its 110 pods as namespaces, and a cluster source that this process is.
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { writeLine } from '#agent/json-lines.ts';
import { listenPrivately } from '#agent/listen.ts';
import type { SourceMessage } from '#agent/protocol.ts';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { formatAddress } from '#net/address.ts';
import { type Pod, STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import type { AgentClient } from '#sandbox/agent-client.ts';
import { AgentProcess } from '#sandbox/agent-process.ts';
import { type StatePaths, statePaths } from '#sandbox/names.ts';
import { type PodNetns, SandboxNetwork } from '#sandbox/network.ts';
import { address, LOCAL_PODS, NODE } from './load.ts';

/** What the node is to follow: everything there is, in pages, and its own pods. */
export type NodeLoad = {
  readonly pages: () => Iterable<readonly WorldEvent[]>;
  readonly localPod: (index: number) => Pod;
};

/** A million rules take a minute, or several on a busy machine. */
const START_LIMIT_MS = 600_000;
const CHANGE_LIMIT_MS = 60_000;

/** Lists the load to every agent that connects, then sends it changes. What changed stays changed until the end only. */
class LoadSource {
  readonly #server: Server;
  readonly #load: NodeLoad;
  readonly #sockets: Set<Socket> = new Set();
  revision = 1;

  constructor(load: NodeLoad) {
    this.#load = load;
    this.#server = createServer((socket) => void this.#list(socket));
  }

  async listen(path: string): Promise<void> {
    await listenPrivately(this.#server, path);
  }

  /** Sends changes that belong together. Returns the revision they lead to. */
  send(events: readonly WorldEvent[]): number {
    this.revision++;
    const lines: SourceMessage[] = events.map((event) => ({ kind: 'change', event }));
    const text = [...lines, { kind: 'synced', revision: this.revision } satisfies SourceMessage].map((line) =>
      JSON.stringify(line),
    );
    for (const socket of this.#sockets) socket.write(`${text.join('\n')}\n`);
    return this.revision;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #list(socket: Socket): Promise<void> {
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.resume();
    for (const page of this.#load.pages()) {
      for (const event of page) {
        writeLine(socket, { kind: 'change', event } satisfies SourceMessage);
        if (socket.writableNeedDrain) await new Promise<void>((resolve) => socket.once('drain', () => resolve()));
      }
    }
    writeLine(socket, { kind: 'synced', revision: this.revision } satisfies SourceMessage);
    this.#sockets.add(socket);
  }
}

export class BenchNode {
  readonly #instance: string;
  readonly #source: LoadSource;
  readonly #network: SandboxNetwork;
  readonly #agent: AgentProcess;
  readonly #paths: StatePaths;
  readonly pods: readonly PodNetns[];

  private constructor(parts: {
    readonly instance: string;
    readonly source: LoadSource;
    readonly network: SandboxNetwork;
    readonly agent: AgentProcess;
    readonly paths: StatePaths;
    readonly pods: readonly PodNetns[];
  }) {
    this.#instance = parts.instance;
    this.#source = parts.source;
    this.#network = parts.network;
    this.#agent = parts.agent;
    this.#paths = parts.paths;
    this.pods = parts.pods;
  }

  /** Resolves when the load is in force and all pods are attached. */
  static async start(instance: string, load: NodeLoad): Promise<BenchNode> {
    const paths = statePaths(instance);
    mkdirSync(paths.folder, { recursive: true, mode: 0o700 });
    const source = new LoadSource(load);
    await source.listen(paths.cluster);
    const network = new SandboxNetwork(instance);
    await network.createWorld();
    const [node] = await network.createNodes([{ name: NODE, addresses: [address(0xac1f_0001)] }]);
    if (node === undefined) throw new Error('no node was made');
    const specs = Array.from({ length: LOCAL_PODS }, (_, index) => {
      const { key, addresses } = load.localPod(index);
      return { key, addresses, node };
    });
    const pods = await network.createPods(specs);
    const hooks = {
      flows: () => undefined,
      restarted: () => Promise.reject(new Error('the agent ended')),
      notice: (text: string) => console.error(`bench: ${text}`),
    };
    const agent = new AgentProcess({ instance, node, paths, semantics: STANDARD_SEMANTICS }, hooks);
    const bench = new BenchNode({ instance, source, network, agent, paths, pods });
    try {
      const startedMs = performance.now();
      await agent.start();
      await agent.reached(1, START_LIMIT_MS);
      await attach(agent.client, pods);
      process.stderr.write(`bench: the load is in force after ${Math.round(performance.now() - startedMs)} ms\n`);
      await network.raisePods(pods);
      return bench;
    } catch (error) {
      await bench.down();
      throw error;
    }
  }

  get agentPid(): number {
    return this.#agent.pid ?? Number.NaN;
  }

  /** Sends changes to the agent, and resolves when they are in force. */
  async change(events: readonly WorldEvent[]): Promise<void> {
    await this.#agent.reached(this.#source.send(events), CHANGE_LIMIT_MS);
  }

  async down(): Promise<void> {
    this.#source.close();
    await this.#agent.stop();
    await this.#network.destroy();
    unpinDatapath(this.#instance, NODE);
    rmSync(this.#paths.folder, { recursive: true, force: true });
  }
}

async function attach(client: AgentClient, pods: readonly PodNetns[]): Promise<void> {
  await client.attach(
    pods.map(({ key, interfaceIndex, mac, addresses }) => {
      return { pod: key, interfaceIndex, mac, addresses: addresses.map(formatAddress) };
    }),
  );
}
