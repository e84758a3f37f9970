// A node at rest, for faults one at a time: three pods, open connections between two of them, one of these by a Service, one that nobody reaches.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { AttachRequest } from '#agent/protocol.ts';
import { unpinDatapath } from '#datapath/ebpf/open.ts';
import { pinPath } from '#kernel/bpffs.ts';
import { formatAddress } from '#net/address.ts';
import type { ClusterEvent, World } from '#policy/world.ts';
import { ClusterServer } from '#sandbox/cluster-server.ts';
import { connect, type Ends, speaks } from '../holder.ts';
import { type BedPod, PodBed, udpArrives } from '../pod-bed.ts';
import { type KilledAgent, socketsOf } from './agent.ts';
import { AgentLife, type Surroundings } from './agent-process.ts';
import { diffClusters, SERVED } from './services.ts';
import { CORE, NODE, OPEN_PORT, SHUT_PORT } from './slots.ts';
import { firstWorld, keyOf } from './world.ts';

const ROOT = join(import.meta.dirname, '../../..');
const SIZES = { ct_map: 2048 };

export class StillBed {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'moat-still-'));
  readonly cluster: ClusterServer<ClusterEvent>;
  readonly #name: string;
  readonly #lives: AgentLife[] = [];
  #bed: PodBed;
  /** One direct, one by a Service. */
  #open: readonly Ends[] = [];

  constructor(name: string) {
    this.#name = name;
    this.#bed = new PodBed(name, CORE.length);
    this.cluster = new ClusterServer(socketsOf({ folder: this.folder }).clusterSocket, diffClusters);
  }

  get directory(): string {
    return pinPath(this.#bed.prefix, NODE);
  }

  get bed(): PodBed {
    return this.#bed;
  }

  /** An agent that serves, and the connection that is to outlive what follows. */
  async start(world: World = firstWorld(), ...how: Parameters<StillBed['live']>): Promise<AgentLife> {
    await this.cluster.listen();
    this.cluster.publish(world);
    const life = await this.live(...how);
    this.reconnect();
    return life;
  }

  /** Opens the connection, anew where there was one: all must be well for that. */
  reconnect(): void {
    for (const { client, server } of this.#open) for (const end of [client, server]) this.#bed.close(end);
    const [from, to] = [this.#bed.pod(0), this.#bed.pod(1)];
    const [served] = SERVED;
    assert.ok(served);
    this.#open = [
      connect(this.#bed, from, to, OPEN_PORT),
      connect(this.#bed, from, to, { port: served.at.port, asked: served.asked }),
    ];
    assert.ok(this.enforces() && this.speaks());
  }

  /** Starts an agent; it need not come up. */
  spawn(options: Partial<KilledAgent> = {}, surroundings: Surroundings = {}): AgentLife {
    const netns = `/run/netns/${this.#bed.prefix}-router`;
    const all = { instance: this.#bed.prefix, node: NODE, netns, folder: this.folder, sizes: SIZES, ...options };
    const life = new AgentLife(surroundings.root ?? ROOT, all, surroundings);
    this.#lives.push(life);
    return life;
  }

  /** Starts an agent that must come up. */
  async live(options: Partial<KilledAgent> = {}, surroundings: Surroundings = {}): Promise<AgentLife> {
    const life = this.spawn(options, surroundings);
    await this.bringUp(life);
    return life;
  }

  async bringUp(life: AgentLife): Promise<void> {
    await life.connect();
    await this.attach(life, ...this.#bed.pods);
  }

  /** Hands pods of the world of now to an agent. */
  async attach(life: AgentLife, ...pods: readonly BedPod[]): Promise<void> {
    await life.reached(this.cluster.revision);
    await life.client.attach(pods.map(attachRequest));
  }

  /** What may pass does, and what may not does not. */
  enforces(): boolean {
    return this.denies() && this.#goes(1, OPEN_PORT);
  }

  denies(): boolean {
    return !this.#goes(2, SHUT_PORT);
  }

  speaks(): boolean {
    return this.#open.every(speaks);
  }

  /** TCP's own pauses grow while nothing passes. */
  async speaksAgain(): Promise<boolean> {
    for (const limit = performance.now() + 8000; !this.speaks(); await pause(50)) {
      if (performance.now() > limit) return false;
    }
    return true;
  }

  /** As after a reboot: nothing of it in the kernel, other interfaces; files are still there. */
  reboot(): void {
    unpinDatapath(this.#bed.prefix, NODE);
    this.#bed.destroy();
    this.#open = [];
    this.#bed = new PodBed(this.#name, CORE.length);
  }

  async destroy(): Promise<void> {
    for (const life of this.#lives) await life.kill();
    this.cluster.close();
    unpinDatapath(this.#bed.prefix, NODE);
    this.#bed.destroy();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #goes(to: number, port: number): boolean {
    return udpArrives(this.#bed, this.#bed.pod(0), this.#bed.pod(to), { family: 4, port });
  }
}

/** Waits for something; fails with what did not come. */
export async function until(what: string, holds: () => Promise<boolean> | boolean, limitMs = 10_000): Promise<void> {
  for (const limit = performance.now() + limitMs; !(await holds()); await pause(30)) {
    assert.ok(performance.now() < limit, `never came: ${what}`);
  }
}

/** Builds the library that agents are started with, for faults; returns its file. */
export function buildFaults(folder: string): string {
  const library = join(folder, 'faults.so');
  execFileSync('clang', ['-O2', '-shared', '-fPIC', '-o', library, join(import.meta.dirname, 'faults.c'), '-ldl']);
  return library;
}

function attachRequest({ name, link }: BedPod): AttachRequest {
  const mac = [...link.mac].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
  const addresses = link.addresses.map(formatAddress);
  // A bed counts its pods from one.
  const pod = keyOf(Number(name.slice('pod'.length)) - 1);
  return { pod, interfaceIndex: link.interfaceIndex, mac, addresses };
}
