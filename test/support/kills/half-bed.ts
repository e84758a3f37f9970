// A node whose agents are stopped half-way, looked at, and killed there: through a change in slices, and in taking over.
import assert from 'node:assert/strict';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import * as sockets from '#kernel/sockets.ts';
import { UDP } from '#net/protocol.ts';
import { evaluate } from '#policy/evaluate.ts';
import { STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import { connect, type Ends, speaks } from '../holder.ts';
import type { BedPod } from '../pod-bed.ts';
import type { AgentLife, Surroundings } from './agent-process.ts';
import { BED_PEERS, type Change, halfWorld, KEPT_PORT, PORTS, SUBJECT } from './half-world.ts';
import { askForHalt, type Halt, isHalted } from './halting-state.ts';
import { collect, type Try } from './matrix.ts';
import { NODE } from './slots.ts';
import { StillBed, until } from './still-bed.ts';

/** Numbers of pods that no other of the bed has. */
const FIRST_NUMBER = 20;

/** Flows whose verdict the change changes, and how many of them have the later one. */
export type Moved = { readonly flows: number; readonly moved: number };

export class HalfBed {
  readonly #still: StillBed;
  readonly #worlds: { readonly before: World; readonly after: World };
  /** Peers of the change, and a stranger. */
  readonly #peers: readonly BedPod[];
  readonly #kept: Ends[] = [];
  #life: AgentLife | null = null;

  constructor(name: string, change: Change) {
    this.#still = new StillBed(name);
    const { bed } = this.#still;
    this.#peers = Array.from({ length: BED_PEERS + 1 }, (_, at) => bed.add(FIRST_NUMBER + at));
    for (const pod of this.#peers) bed.raise(pod);
    const peers = this.#peers.slice(0, BED_PEERS);
    this.#worlds = { before: halfWorld(change.before, peers), after: halfWorld(change.after, peers) };
  }

  /** An agent comes up, and connections are opened that the change does not concern. */
  async start(): Promise<void> {
    this.#life = await this.#still.start(this.#worlds.before);
    const { moved } = await this.#look();
    assert.equal(moved, 0);
    const { bed } = this.#still;
    for (const peer of this.#peers.slice(0, BED_PEERS)) {
      this.#kept.push(connect(bed, peer, bed.pod(SUBJECT), KEPT_PORT));
    }
  }

  /** The change comes, and the agent is killed after so many slices of it. */
  async stopBetweenSlices(slices: number): Promise<Moved> {
    askForHalt(this.#still.folder, { call: 'advance', times: slices });
    this.#still.cluster.publish(this.#worlds.after);
    return await this.#stopped();
  }

  /** Another agent comes, and is killed at this place. */
  async stopTakeover(halt: Halt, surroundings: Surroundings): Promise<Moved> {
    askForHalt(this.#still.folder, halt);
    const life = this.#still.spawn({}, surroundings);
    this.#life = life;
    // It ends before it has come up.
    this.#still.bringUp(life).catch(() => undefined);
    return await this.#stopped();
  }

  /** An agent comes, and all is as after the change; without hooks, nothing would be denied. */
  async finish(): Promise<void> {
    const life = await this.#still.live();
    const { flows, moved } = await this.#look();
    assert.equal(moved, flows);
    await life.kill();
    unpinDatapath(this.#still.bed.prefix, NODE);
    // The kernel lets go of hooks in its own time.
    await until('all arrives', async () => (await this.#tryAll()).every(({ arrived }) => arrived.length > 0));
  }

  async destroy(): Promise<void> {
    for (const pod of this.#peers) this.#still.bed.remove(pod);
    await this.#still.destroy();
  }

  /** Looks while the process stands still, and when it is dead. */
  async #stopped(): Promise<Moved> {
    await until('the halt', () => isHalted(this.#still.folder), 30_000);
    const still = await this.#look();
    await this.#life?.kill();
    assert.deepEqual(await this.#look(), still);
    return still;
  }

  async #look(): Promise<Moved> {
    assert.ok(this.#still.enforces() && this.#still.speaks(), 'what is not concerned');
    for (const [at, ends] of this.#kept.entries()) assert.ok(speaks(ends), `the connection of peer ${at}`);
    const tries = await this.#tryAll();
    const wrong = tries.filter(({ passes, arrived }) => !passes.includes(arrived.length > 0));
    assert.deepEqual(
      wrong.map(({ name, arrived }) => `${name} ${arrived.length > 0 ? 'arrived' : 'did not arrive'}`),
      [],
    );
    const changing = tries.filter(({ passes }) => passes[0] !== passes[1]);
    const moved = changing.filter(({ passes, arrived }) => arrived.length > 0 === passes[1]);
    return { flows: changing.length, moved: moved.length };
  }

  /** A datagram of each peer to each port. `passes`: whether it arrives before the change, and after it. */
  async #tryAll(): Promise<readonly (Try & { readonly passes: readonly boolean[] })[]> {
    const { bed } = this.#still;
    const subject = bed.pod(SUBJECT);
    const open: number[] = [];
    const inside = (pod: BedPod, port: number): number => {
      const fd = sockets.inNetns(pod.netns, () => sockets.openSocket(4, 'datagram'));
      open.push(fd);
      sockets.bindSocket(fd, pod.v4, port);
      return fd;
    };
    try {
      const servers = PORTS.map((port) => inside(subject, port));
      const tries = this.#peers.flatMap((peer) => {
        const client = inside(peer, 0);
        return PORTS.map((port) => {
          const flow = { from: peer.v4, to: subject.v4, protocol: UDP, port };
          const worlds = [this.#worlds.before, this.#worlds.after];
          const passes = worlds.map((world) => evaluate(world, flow, STANDARD_SEMANTICS).verdict === 'allow');
          const name = `${peer.name} to port ${port}`;
          sockets.sendSocket(client, Buffer.from(name), { address: subject.v4, port });
          return { name, may: servers, must: passes.every(Boolean), passes, arrived: [] };
        });
      });
      await collect(servers, tries);
      return tries;
    } finally {
      for (const fd of open) sockets.closeSocket(fd);
    }
  }
}
