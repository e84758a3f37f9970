// A cluster on this machine: nodes and pods as network namespaces, each node with its own agent and datapath.
//
//   const sandbox = await startSandbox({ name: 'demo', paths: ['shop/'], nodes: 2 });
//   sandbox.onEvent((event) => …);            // notices, changes, flows with their rules named
//   await sandbox.apply(['extra.yaml']);      // adds or replaces objects, live
//   const { rows, errors } = await sandbox.probe({ ports, externals });
//   await sandbox.down();                     // leaves nothing behind
//
// From another process: `connectSandbox('demo')` (client.ts) has apply, probe, status, down and onEvent too.

import { isInvalid, loadManifests } from '#cluster/load.ts';
import { type ManifestSet, type ManifestWatch, watchManifests } from '#cluster/watch.ts';
import { buildWorld } from '#cluster/world/build.ts';
import { diffWorlds } from '#cluster/world/diff.ts';
import { DEFAULT_PORT, ownPorts, probePairs } from '#datapath/reference/simulate.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { type Address, formatAddress } from '#net/address.ts';
import { type Diagnostic, firstOfInput } from '#policy/diagnostic.ts';
import type { SourceObject } from '#policy/object.ts';
import { isEndpoint, STANDARD_SEMANTICS, type World, type WorldEvent } from '#policy/world.ts';
import { checkAddresses, checkExternals } from './addresses.ts';
import type { Change, SandboxEvent, SandboxOptions, SandboxProbe, SandboxStatus, StreamAsk } from './api.ts';
import { describeChanges } from './changes.ts';
import { ClusterServer } from './cluster-server.ts';
import { ControlServer } from './control.ts';
import { errorText, InvalidInputError, SandboxError } from './error.ts';
import { Fleet } from './fleet.ts';
import type { StatePaths } from './names.ts';
import { SandboxNetwork } from './network.ts';
import { ObjectStore } from './objects.ts';
import { claim, release, removeLeftovers, requireRoot } from './owner.ts';
import { type ProbeGear, type ProbeResult, probeByPackets, SourcePorts } from './probe.ts';
import type { PacketEnd } from './probe-tasks.ts';
import { SharedSockets } from './shared-sockets.ts';
import { checkSize } from './size.ts';
import { PacketStream } from './stream.ts';

/** Brings a sandbox up, after removing what a crashed one of the same name left. Throws SandboxError. */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  requireRoot();
  const paths = claim(options.name);
  const sandbox = new Sandbox(options, paths);
  try {
    await sandbox.start();
    return sandbox;
  } catch (error) {
    await sandbox.down();
    throw error;
  }
}

/** A live sandbox, held by this process. */
export class Sandbox {
  readonly name: string;
  readonly #options: SandboxOptions;
  readonly #network: SandboxNetwork;
  readonly #cluster: ClusterServer<WorldEvent>;
  readonly #control: ControlServer;
  readonly #fleet: Fleet;
  readonly #listeners: Set<(event: SandboxEvent) => void> = new Set();
  readonly #gear: ProbeGear = { sockets: new SharedSockets(), ports: new SourcePorts() };
  #store: ObjectStore = new ObjectStore();
  #watching: ManifestWatch | null = null;
  readonly #closed: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #ending: Promise<void> | null = null;
  /** Diagnostics of the last change, as text: news only where they differ. */
  #said = '[]';
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: SandboxOptions, paths: StatePaths) {
    this.name = options.name;
    this.#options = options;
    this.#network = new SandboxNetwork(options.name);
    this.#cluster = new ClusterServer(paths.cluster, diffWorlds);
    this.#control = new ControlServer(paths.control, this);
    this.#fleet = new Fleet({
      instance: options.name,
      paths,
      network: this.#network,
      semantics: options.semantics ?? STANDARD_SEMANTICS,
      flows: (node, events, lost) => this.#tell({ kind: 'flows', node, events, lost }),
      notice: (text) => this.#tell({ kind: 'notice', text }),
    });
    if (options.onEvent !== undefined) this.#listeners.add(options.onEvent);
  }

  /** Called once, by startSandbox. Invalid input is refused before anything is made. */
  async start(): Promise<void> {
    const { paths, lenient, watch } = this.#options;
    const watching = watchManifests(paths, (set) => this.#filesChanged(set));
    this.#watching = watching;
    const { objects, diagnostics } = watching.current();
    const built = buildWorld(objects, { nodeCount: this.#nodeCount, previous: null });
    const found = [...diagnostics, ...built.diagnostics];
    if (isInvalid(found) && lenient !== true) throw new InvalidInputError(found);
    if (watch === false) watching.close();
    // One turn: a file that changes meanwhile waits until there is something to change.
    await this.#inTurn(async () => {
      await this.#clean();
      mountBpffs();
      await this.#network.createWorld();
      await this.#cluster.listen();
      await this.#become((store) => takeFiles(store, { objects, diagnostics }));
    });
    await this.#control.listen();
  }

  get world(): World {
    return this.#cluster.world;
  }

  /** The objects that the world is made of. */
  get objects(): readonly SourceObject[] {
    return this.#store.all;
  }

  /** Adds or replaces objects from manifests. Invalid input is refused whole, unless the sandbox is lenient. */
  async apply(paths: readonly string[]): Promise<Change> {
    const { objects, diagnostics } = loadManifests(paths);
    if (isInvalid(diagnostics) && this.#options.lenient !== true) throw new InvalidInputError(diagnostics);
    return await this.applyObjects(objects);
  }

  /** As `apply`, of objects that somebody has read already. */
  async applyObjects(objects: readonly SourceObject[]): Promise<Change> {
    return await this.#inTurn(() => this.#become((store) => store.put(objects)));
  }

  /** Replaces all objects: what is not among them goes. */
  async setObjects(objects: readonly SourceObject[]): Promise<Change> {
    return await this.#inTurn(() => this.#become((store) => store.replace(objects)));
  }

  /** Probes every pair of pods, and the named outside addresses, by real packets. */
  async probe(ask: SandboxProbe): Promise<ProbeResult> {
    const externals = ask.externals ?? [];
    checkExternals(this.world, externals);
    await this.#network.addExternal(externals);
    try {
      const ends = [...this.#podEnds(ask.ports), ...externals.map((address) => this.#externalEnd(address))];
      const tap: Parameters<typeof probeByPackets>[1] = (listen) =>
        this.onEvent((event) => {
          if (event.kind === 'flows') listen(event.node, event.events, event.lost);
        });
      const ports = ask.ports ?? [DEFAULT_PORT];
      return await probeByPackets({ ...ask, ports, sources: ends, destinations: ends }, tap, this.#gear);
    } finally {
      await this.#network.removeExternal(externals);
    }
  }

  /** Opens a connection that speaks all the time. Close it when done. Throws where it is not allowed. */
  async openStream(ask: StreamAsk): Promise<PacketStream> {
    const ends = this.#podEnds([ask.port]);
    const from = ends.find((end) => end.name === ask.from);
    const to = ends.find((end) => end.name === ask.to);
    const probe = from && to ? probePairs({ sources: [from], destinations: [to], ports: [ask.port] })[0] : undefined;
    if (from === undefined || to === undefined || probe === undefined) {
      const message = `there is no way from ${ask.from} to ${ask.to}`;
      throw new SandboxError('no-pod', message, "name two running pods as NAMESPACE/POD; 'status' lists them");
    }
    const sourcePort = this.#gear.ports.take(formatAddress(probe.flow.from));
    const { flow } = probe;
    const { intervalMs = 1 } = ask;
    const stream = new PacketStream(
      { fromNetns: from.netns, toNetns: to.netns, flow, sourcePort, intervalMs },
      this.#gear.sockets,
    );
    try {
      stream.start();
      if (ask.mayBeDenied !== true) await stream.opened();
      return stream;
    } catch (error) {
      await stream.close();
      throw error;
    }
  }

  async status(): Promise<SandboxStatus> {
    const nodes = [...this.#fleet.nodes].map(async ([name, node]) => {
      const addresses = node.netns.addresses.map(formatAddress);
      // An agent that is away is a state to report, not a failure of this command.
      const agent = node.agent.alive ? await node.agent.client.status() : null;
      return { name, netns: node.netns.netns, addresses, agent };
    });
    const pods = [...this.#fleet.pods.values()].map((pod) => {
      const addresses = pod.addresses.map(formatAddress);
      return { name: pod.key, node: pod.node.name, netns: pod.netns, addresses };
    });
    const { name } = this;
    return { name, pid: process.pid, revision: this.#cluster.revision, nodes: await Promise.all(nodes), pods };
  }

  /** Hears notices, changes and flows until the returned function is called. */
  onEvent(listener: (event: SandboxEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Takes the hooks off every pod, so that nothing is judged any more: how a test shows that they are what denies. */
  async detachHooks(): Promise<void> {
    await this.#fleet.detachHooks();
  }

  /** Ends everything: agents, namespaces, pins, sockets, the state folder. */
  async down(): Promise<void> {
    this.#ending ??= this.#end();
    await this.#ending;
  }

  /** Resolves when the sandbox is down, whoever asked for it. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  async #end(): Promise<void> {
    this.#watching?.close();
    await this.#queue;
    await this.#fleet.stop();
    this.#cluster.close();
    await removeLeftovers(this.name);
    release(this.name);
    this.#control.close();
    this.#closed.resolve();
  }

  #filesChanged(set: ManifestSet): void {
    const turn = this.#inTurn(() => this.#become((store) => takeFiles(store, set)));
    turn.catch((error) => this.#tell({ kind: 'notice', text: `the change is not in force: ${errorText(error)}` }));
  }

  async #clean(): Promise<void> {
    const { namespaces, processes, pins } = await removeLeftovers(this.name);
    if (namespaces.length + processes.length === 0 && !pins) return;
    const what = `${namespaces.length} namespaces, ${processes.length} agents${pins ? ', pins' : ''}`;
    this.#tell({ kind: 'notice', text: `removed what an earlier sandbox left: ${what}` });
  }

  /** Brings everything to the world of the objects, once `take` has changed them. A world that can't be is not begun. */
  async #become(take: (store: ObjectStore) => readonly Diagnostic[]): Promise<Change> {
    const startedMs = performance.now();
    const store = this.#store.copy();
    const found = take(store);
    const before = this.#cluster.world;
    const built = buildWorld(store.all, { nodeCount: this.#nodeCount, previous: before });
    const { world } = built;
    checkSize(world);
    checkAddresses(world);
    this.#store = store;
    await this.#fleet.removeGone(world);
    await this.#fleet.addNodes(world);
    const events = this.#cluster.publish(world);
    const nodeMs = await this.#fleet.reached(this.#cluster.revision);
    await this.#fleet.addPods(world);
    const change: Change = {
      revision: this.#cluster.revision,
      changes: describeChanges(before, events),
      totalMs: performance.now() - startedMs,
      nodeMs,
      diagnostics: firstOfInput([...found, ...built.diagnostics]),
    };
    const said = JSON.stringify(change.diagnostics);
    if (events.length > 0 || said !== this.#said) this.#tell({ kind: 'change', change });
    this.#said = said;
    return change;
  }

  get #nodeCount(): number {
    return this.#options.nodes ?? 2;
  }

  /** One change at a time; a failed one does not stop the next. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work, work);
    // Whoever asked hears of a failure; the queue only goes on.
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  #podEnds(ports: SandboxProbe['ports']): readonly PacketEnd[] {
    const ends: PacketEnd[] = [];
    for (const pod of this.world.pods.values()) {
      const { key, addresses, node } = pod;
      const own = this.#fleet.pods.get(key);
      const asked = ports === null ? { ports: ownPorts(pod) } : {};
      const host = this.#fleet.nodes.get(node)?.netns;
      if (isEndpoint(pod) && own !== undefined) {
        ends.push({ name: key, addresses, netns: own.netns, node, endpoint: true, ...asked });
      } else if (pod.hostNetwork && !pod.finished && host !== undefined) {
        ends.push({ name: key, addresses: host.addresses, netns: host.netns, node, endpoint: false, ...asked });
      }
    }
    return ends;
  }

  #externalEnd(address: Address): PacketEnd {
    const name = formatAddress(address);
    return { name, addresses: [address], netns: this.#network.world, node: null, endpoint: false };
  }

  #tell(event: SandboxEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

function takeFiles(store: ObjectStore, set: ManifestSet): readonly Diagnostic[] {
  return [...set.diagnostics, ...store.watch(set.objects)];
}
