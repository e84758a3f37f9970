// A node whose agent is killed again and again while policies, pods and traffic go on; everything that goes wrong is noted.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { AttachRequest } from '#agent/protocol.ts';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { pinPath } from '#kernel/bpffs.ts';
import { formatAddress } from '#net/address.ts';
import { UDP } from '#net/protocol.ts';
import type { ClusterEvent } from '#policy/world.ts';
import { ClusterServer } from '#sandbox/cluster-server.ts';
import type { Held } from '../held.ts';
import { type BedPod, PodBed } from '../pod-bed.ts';
import { socketsOf } from './agent.ts';
import { AgentLife } from './agent-process.ts';
import { countEntries, type KernelState, readKernel } from './kernel.ts';
import { type Judge, tryMatrix } from './matrix.ts';
import { addOutside, removeOutside } from './outside.ts';
import type { Round } from './rounds.ts';
import { ASKED_PORT, BEGUN, diffClusters, type KillWorld, REFUSED, SERVED, type Through } from './services.ts';
import { addressesOf, CORE, NODE, SERVED_PORT } from './slots.ts';
import { Tally } from './tally.ts';
import type { End, Pair, TrafficReport, TrafficRequest, TrafficSetup } from './traffic.ts';
import { edited, FIXED, firstWorld, keyOf, localSlots } from './world.ts';

const ROOT = join(import.meta.dirname, '../../..');
/** A change is in force within this time, most often: kills during changes fall into it. */
const CHANGE_MS = 15;
/** In a long life, what the agent holds is noted this often, and everything looked at this often. */
export const NOTE_MS = 15_000;
const LOOK_MS = 10_000;
/** How long a bypass lasts, and after which it is certainly over. */
const BYPASS_MS = 2000;
const ENDED_MS = 100;
/** The kernel lets go of what a dead process held within this time. */
const LET_GO_MS = 3000;

export class KillRig {
  readonly tally: Tally = new Tally();
  readonly #versions: readonly string[];
  readonly #bed: PodBed;
  readonly #outside: string;
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'moat-kills-'));
  readonly #cluster: ClusterServer<ClusterEvent>;
  readonly #pods: Map<number, BedPod> = new Map();
  readonly #down: Set<BedPod> = new Set();
  readonly #entries: number = 2048 + (process.pid % 30_000);
  #world: KillWorld = firstWorld();
  #traffic: ChildProcess | null = null;
  #trafficEnded: Promise<never> | null = null;
  #closed = false;
  #firstEntries = '';
  #life: AgentLife | null = null;
  #startMs = 300;

  /** `versions`: the roots of the sources that agents are started from. */
  constructor(name: string, versions: readonly string[] = [ROOT]) {
    this.#versions = versions;
    this.#bed = new PodBed(name, CORE.length);
    this.#outside = addOutside(this.#bed.prefix, this.#bed.pod(1).v4, 'h2');
    for (const slot of CORE) this.#pods.set(slot, this.#bed.pod(slot));
    this.#cluster = new ClusterServer(socketsOf({ folder: this.#folder }).clusterSocket, diffClusters);
  }

  /** The first agent comes up; then the traffic starts. */
  async start(): Promise<void> {
    await this.#cluster.listen();
    this.#cluster.publish(this.#world);
    await this.#start();
    const direct = (verdict: string): Pair[] =>
      FIXED.filter(
        ({ flow, ...each }) => each.verdict === verdict && flow.protocol === UDP && flow.port !== SERVED_PORT,
      ).map(({ flow }) => {
        const end = { address: formatAddress(flow.to), port: flow.port };
        return { from: this.#netnsOf(formatAddress(flow.from)), to: this.#netnsOf(end.address), asked: end, at: end };
      });
    const setup: TrafficSetup = {
      allowed: [...direct('allow'), ...SERVED.map((each) => this.#served(each))],
      denied: [...direct('deny'), ...REFUSED.map((each) => this.#served(each))],
      begun: BEGUN.map((each) => this.#served(each)),
    };
    this.#traffic = spawn(process.execPath, [join(import.meta.dirname, 'traffic.ts'), JSON.stringify(setup)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#trafficEnded = once(this.#traffic, 'exit').then(() => {
      throw new Error('the traffic ended');
    });
    this.#trafficEnded.catch(() => undefined);
    await this.#hear(this.#traffic);
    await this.#check();
    this.#firstEntries = this.#entriesNow();
  }

  /** One life of an agent, up to its end. */
  async round(round: Round): Promise<void> {
    if (this.#life !== null) await this.#end(this.#life);
    this.tally.kills++;
    if (round.when === 'starting') {
      this.#edit(round);
      const ends = round.at * 1.2 * this.#startMs;
      const life = this.#spawn(round.version);
      const up = this.#bringUp(life).catch((error: unknown) => this.#excuse(life, error));
      await pause(ends);
      await this.#kill(life);
      await up;
      return;
    }
    const life = await this.#start(round.version);
    await this.#check();
    this.#edit(round);
    if (round.when === 'changing') {
      await pause(round.at * CHANGE_MS);
      await this.#kill(life);
      return;
    }
    await this.#follow(life);
    await this.#tryAll('changed');
    if (round.when === 'bypassed') return await this.#bypass(life);
    await this.#kill(life);
    await this.#tryAll('killed');
  }

  /** What is denied passes for a time, which ends by itself: the agent is dead by then. */
  async #bypass(life: AgentLife): Promise<void> {
    await this.#askTraffic('bypassed');
    await life.client.bypass({ forMs: BYPASS_MS, by: 'the test' });
    const endMs = performance.now() + BYPASS_MS;
    await this.#tryAll('bypassed', () => true);
    await this.#kill(life);
    this.tally.expect(performance.now() < endMs, () => 'the look at a bypass took longer than that lasted');
    await pause(Math.max(0, endMs - performance.now()) + ENDED_MS);
    await this.#askTraffic('enforced');
    await this.#tryAll('after a bypass');
  }

  /** One agent that lives for so long while the cluster changes all the time; what it holds is noted. */
  async live(limitMs: number, rounds: Iterable<Round>): Promise<readonly Held[]> {
    if (this.#life !== null) await this.#end(this.#life);
    const life = await this.#start();
    const noted: Held[] = [];
    const endMs = performance.now() + limitMs;
    let [notedMs, lookedMs] = [performance.now(), performance.now()];
    for (const round of rounds) {
      if (performance.now() > endMs) break;
      this.#edit(round);
      this.tally.changes++;
      await this.#follow(life);
      await pause(round.at * CHANGE_MS);
      if (performance.now() - notedMs > NOTE_MS) {
        notedMs = performance.now();
        noted.push(await life.held());
      }
      if (performance.now() - lookedMs < LOOK_MS) continue;
      lookedMs = performance.now();
      await this.#check();
    }
    return noted;
  }

  /** The last agent comes up and is looked at; then everything is taken away, and nothing may be left. */
  async finish(): Promise<TrafficReport> {
    if (this.#life !== null) await this.#end(this.#life);
    this.#become(firstWorld());
    const life = await this.#start();
    await this.#check();
    const same = await until(() => this.#entriesNow() === this.#firstEntries);
    this.tally.expect(same, () => `elements: first ${this.#firstEntries}, at last ${this.#entriesNow()}`);
    const report = await this.#askTraffic('wake');
    await this.#end(life);
    this.#close();
    const left = await this.#letGo((state) => [...state.pins, ...state.maps, ...state.programs].length === 0);
    this.tally.expect(left === null, () => `left behind: ${JSON.stringify(left)}`);
    return report;
  }

  /** Takes everything away, wherever a test ended. */
  async destroy(): Promise<void> {
    if (this.#life !== null) await this.#end(this.#life);
    this.#close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#traffic?.kill('SIGKILL');
    this.#cluster.close();
    unpinDatapath(this.#bed.prefix, NODE);
    for (const [slot, pod] of this.#pods) if (slot >= CORE.length) this.#bed.remove(pod);
    this.#pods.clear();
    removeOutside(this.#outside);
    this.#bed.destroy();
  }

  /** The traffic is looked at, also where the next agent ends before it serves and nobody looks at all the rest. */
  async #kill(life: AgentLife): Promise<void> {
    await this.#end(life);
    this.tally.noteTraffic(await this.#askTraffic());
  }

  async #end(life: AgentLife): Promise<void> {
    if (life.killed) return;
    await life.kill();
    this.tally.expect(life.complaints.length === 0, () => `it complains: ${life.complaints.join('\n')}`);
    const lost = life.lost.length === 0 ? [] : await this.#lost(life);
    this.tally.expect(lost.length === 0, () => `it drops of what must pass: ${lost.join('\n')}`);
  }

  /** Each with how long its connection was over by then: a segment that comes late loses nothing. */
  async #lost({ lost, bornMs }: AgentLife): Promise<readonly string[]> {
    this.#traffic?.send('closed');
    const closed = new Map(this.#traffic === null ? [] : ((await this.#hear(this.#traffic)) as [number, number][]));
    return lost.map((event) => {
      const atMs = Number(BigInt(event.timeNs) / 1_000_000n);
      const overMs = closed.get(event.destinationPort) ?? closed.get(event.sourcePort);
      const over = overMs === undefined ? 'not closed' : `closed ${atMs - overMs} ms before`;
      return `${JSON.stringify(event)}: ${over}, by an agent ${atMs - bornMs} ms old`;
    });
  }

  #spawn(version: number): AgentLife {
    this.#life = new AgentLife(this.#versions[version % this.#versions.length] ?? ROOT, {
      ...{ instance: this.#bed.prefix, node: NODE, netns: `/run/netns/${this.#bed.prefix}-router` },
      folder: this.#folder,
      sizes: { ct_map: this.#entries },
      hostClients: true,
    });
    return this.#life;
  }

  /** An agent that serves, with every pod attached and the world of now in force. */
  async #start(version = 0): Promise<AgentLife> {
    const startedMs = performance.now();
    const life = this.#spawn(version);
    await this.#bringUp(life);
    this.#startMs = performance.now() - startedMs;
    this.tally.startsMs.push(this.#startMs);
    return life;
  }

  async #bringUp(life: AgentLife): Promise<void> {
    await life.connect();
    await this.#follow(life);
  }

  /** Brings the agent to the world of now, and pods to where they are in it. */
  async #follow(life: AgentLife): Promise<void> {
    await life.reached(this.#cluster.revision);
    await life.client.attach([...this.#pods].map(attachRequest));
    for (const pod of this.#down) this.#bed.raise(pod);
    this.#down.clear();
  }

  /** Changes the world. Pods that are gone lose their links at once, as when a node tears them down without asking. */
  #edit({ edits }: Round): void {
    this.#become(edits.reduce(edited, this.#world));
  }

  #become(world: KillWorld): void {
    this.#world = world;
    const slots = localSlots(this.#world);
    for (const [slot, pod] of this.#pods) {
      if (slots.includes(slot)) continue;
      this.#bed.remove(pod);
      this.#pods.delete(slot);
      this.#down.delete(pod);
    }
    for (const slot of slots) {
      if (this.#pods.has(slot)) continue;
      const pod = this.#bed.add(slot + 1);
      this.#pods.set(slot, pod);
      this.#down.add(pod);
    }
    this.#cluster.publish(this.#world);
  }

  #excuse(life: AgentLife, error: unknown): void {
    if (!life.killed) throw error;
  }

  /** Everything that must hold after a restart. */
  async #check(): Promise<void> {
    const life = this.#life;
    if (life === null) return;
    await this.#tryAll('restarted');
    // Of an interface that has just gone it may say so for a moment.
    let problem: string | null = null;
    const whole = await until(async () => {
      problem = (await life.client.status()).problem;
      return problem === null;
    });
    this.tally.expect(whole, () => `a problem: ${problem}`);
    this.tally.noteUsage(life.usage(), this.#pods.size);
    this.tally.noteTraffic(await this.#askTraffic());
    const odd = await this.#letGo((state) => this.tally.isUsual(state, this.#linkPins()));
    this.tally.expect(odd === null, () => `in the kernel: ${JSON.stringify(odd)}`);
    this.tally.checks++;
  }

  async #tryAll(when: string, allows?: Judge): Promise<void> {
    const up = [...this.#pods.values()].filter((pod) => !this.#down.has(pod));
    const result = await tryMatrix(this.#world, up, this.tally.checks % 2 === 0 ? 4 : 6, allows);
    const told =
      result.wrong.length === 0 ? [] : [`told last of the Service: ${this.#life?.drops(ASKED_PORT).join(' ')}`];
    this.tally.noteMatrix({ ...result, wrong: [...result.wrong, ...told] }, when);
  }

  /** Null once the state is as wanted; what it is, where it does not become so. */
  async #letGo(wanted: (state: KernelState) => boolean): Promise<KernelState | null> {
    let state = readKernel(pinPath(this.#bed.prefix, NODE), this.#entries);
    const become = await until(() => {
      state = readKernel(pinPath(this.#bed.prefix, NODE), this.#entries);
      return wanted(state);
    });
    return become ? null : state;
  }

  #entriesNow(): string {
    return JSON.stringify(countEntries(pinPath(this.#bed.prefix, NODE)));
  }

  #linkPins(): readonly string[] {
    const sides = ['from', 'to'];
    return [...this.#pods.values()]
      .flatMap(({ link }) => sides.map((side) => `link_${link.interfaceIndex}_${side}_pod`))
      .sort();
  }

  async #askTraffic(what: TrafficRequest = 'report'): Promise<TrafficReport> {
    const traffic = this.#traffic;
    if (traffic === null) return { ...EMPTY_REPORT };
    traffic.send(what);
    return (await this.#hear(traffic)) as TrafficReport;
  }

  /** The traffic's next message. Throws where it has ended. */
  async #hear(traffic: ChildProcess): Promise<unknown> {
    const [message] = await Promise.race([once(traffic, 'message'), this.#trafficEnded ?? []]);
    return message;
  }

  #served({ from, to, asked, at }: Through): Pair {
    const netns = (slot: number): string => this.#netnsOf(addressesOf(slot).map(formatAddress)[0] ?? '');
    const end = ({ address, port }: Through['at']): End => ({ address: formatAddress(address), port });
    const places = { outside: this.#outside, node: `${this.#bed.prefix}-router` };
    const asker = typeof from === 'number' ? netns(from) : `/run/netns/${places[from]}`;
    // Past the stack or not at all: by no way while pods' hooks may be two versions'.
    return { from: asker, to: netns(to), asked: end(asked), at: end(at), lossy: from === 'outside' };
  }

  #netnsOf(address: string): string {
    const pod = this.#bed.pods.find(({ link }) => link.addresses.some((each) => formatAddress(each) === address));
    const path = `/run/netns/${this.#bed.prefix}-${pod?.name}`;
    if (!existsSync(path)) throw new Error(`no namespace ${path}`);
    return path;
  }
}

/** True once it holds; false where it does not within the time that the kernel takes to let go. */
async function until(holds: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const limit = performance.now() + LET_GO_MS; !(await holds()); await pause(50)) {
    if (performance.now() > limit) return false;
  }
  return true;
}

const EMPTY_REPORT: TrafficReport = {
  ...{
    lost: [],
    connections: 0,
    echoed: 0,
    longestStallMs: 0,
    stalled: '',
    longestSilenceMs: 0,
    sent: 0,
    received: 0,
    answered: 0,
    opened: 0,
    refused: [],
    tries: 0,
    passed: 0,
    bypassed: 0,
  },
};

function attachRequest([slot, pod]: readonly [number, BedPod]): AttachRequest {
  const mac = [...pod.link.mac].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
  const { interfaceIndex, addresses } = pod.link;
  return {
    pod: keyOf(slot),
    interfaceIndex,
    mac,
    addresses: addresses.map(formatAddress),
  };
}
