// Opens the eBPF datapath of one node: loads the programs, pins everything, and implements the port on it.
import { closeSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from '#compile/plan.ts';
import { ABI_VERSION } from '#datapath/ebpf/encode/abi.gen.ts';
import { Encoder } from '#datapath/ebpf/encode/encoder.ts';
import type { Datapath, DatapathEvent, EndpointLink, Fill, Lack } from '#datapath/port.ts';
import { runSyscall } from '#kernel/bpf.ts';
import { lockPins, pinDirectory, pinPath, removePins } from '#kernel/bpffs.ts';
import { gracePeriodNow, Ring } from '#kernel/memory.ts';
import { type LoadedMap, type LoadedObject, ObjectError } from '#kernel/object.ts';
import { makeHooks } from './attach.ts';
import { dropAllFilters } from './clsact-hooks.ts';
import { type Counters, readCounters, readLost } from './counters.ts';
import { withEarlier } from './earlier.ts';
import { DatapathError } from './error.ts';
import { decodeEvent } from './events.ts';
import { findGenerations, makeGeneration } from './generations.ts';
import {
  type AttachMode,
  type HookHealth,
  type HookPrograms,
  type Places,
  POD_PLACES,
  type StagedHooks,
  UPLINK_PLACES,
} from './hooks.ts';
import { dropHostHooks, HostHooks } from './host-hooks.ts';
import { checkKernel } from './kernel-check.ts';
import { type AddressedInterface, allInterfaceFacts } from './links.ts';
import { isShared, loadPrograms, type Program, sharedShapes } from './load.ts';
import type { OpenOptions } from './open-options.ts';
import { keepPins, listPins, type PinPlaces } from './pins.ts';
import { PodLinks } from './pod-links.ts';
import { Reclaim } from './reclaim.ts';
import type { Repair } from './repair.ts';
import { clearForStart, clearLeftovers, readLeftovers } from './takeover.ts';
import { Upgrade } from './upgrade.ts';
import { Uplinks } from './uplinks.ts';
import { type KnownUsage, readUsage } from './usage.ts';
import { KernelTables } from './writer.ts';

const OBJECT = join(import.meta.dirname, '../../../build/bpf/moat.bpf.o');
const SWEEP_INTERVAL_MS = 1000;

/**
 * Takes this node's hooks, programs and maps away; what its pods send and get then passes unjudged. Filters of clsact
 * are found in the node's network namespace only: the calling thread must be in it, or the interfaces gone.
 */
export function unpinDatapath(instance: string, node: string): void {
  dropAllFilters(pinPath(instance, node));
  dropHostHooks(pinPath(instance, node));
  removePins(instance, node);
}

/**
 * Loads and pins. The calling thread must be in the node's network namespace, with the host's mounts.
 * Throws BpffsError (no host bpffs, or another process is there), or DatapathError with what the kernel lacks or said.
 * A failure leaves no pin that was not there before.
 */
export function openDatapath(options: OpenOptions): EbpfDatapath {
  const mode = checkKernel(options.attach);
  const path = options.object ?? OBJECT;
  if (!existsSync(path)) throw new DatapathError(`${path} is missing: build it with tools/build-bpf.sh`, null);
  const directory = pinDirectory(options.instance, options.node);
  const lock = lockPins(directory);
  const before = new Set(listPins(directory));
  let object: LoadedObject | null = null;
  let upgrade: Upgrade | null = null;
  try {
    const { own, earlier } = findGenerations(directory, sharedShapes({ ...options, path }));
    // tcx is younger than the verifier that takes keys from anywhere.
    const knobs = { strictKeys: mode === 'tcx' ? 0n : 1n, ...options.knobs };
    const ask = { ...options, path, directory: own, knobs };
    makeGeneration(own);
    object = loadPrograms(ask);
    upgrade = earlier.length === 0 ? null : new Upgrade(earlier, ask, object.maps);
    return new EbpfDatapath(object, { directory, tables: own, lock, mode, upgrade }, options);
  } catch (cause) {
    upgrade?.close();
    object?.close();
    for (const name of listPins(directory)) if (!before.has(name)) rmSync(`${directory}/${name}`, { recursive: true });
    if (before.size === 0) removePins(options.instance, options.node);
    closeSync(lock);
    if (cause instanceof DatapathError) throw cause;
    const log = cause instanceof ObjectError && cause.log !== '' ? `: ${cause.log.split('\n').at(-1)}` : '';
    throw new DatapathError(`the kernel programs can't be loaded${log}`, cause);
  }
}

/** Where pins are, the descriptor that makes this process their only writer, how hooks are attached, what is left over. */
type Pins = PinPlaces & { readonly lock: number; readonly mode: AttachMode; readonly upgrade: Upgrade | null };

export class EbpfDatapath implements Datapath {
  readonly #object: LoadedObject;
  readonly #places: PinPlaces;
  readonly #upgrade: Upgrade | null;
  readonly #tables: KernelTables;
  readonly #encoder: Encoder;
  readonly #pods: PodLinks;
  readonly #uplinks: Uplinks;
  readonly #host: HostHooks | null;
  readonly #reclaim: Reclaim;
  readonly #ring: Ring;
  readonly #bank: 0 | 1;
  /** Numbers of earlier processes end here. */
  readonly #base: number;
  #lock: number;
  #lost: bigint;
  #swept = 0;
  #failure: DatapathError | null = null;
  #closed = false;

  constructor(object: LoadedObject, pins: Pins, options: OpenOptions) {
    this.#object = object;
    this.#lock = pins.lock;
    this.#places = pins;
    this.#upgrade = pins.upgrade;
    const leftovers = readLeftovers(object.maps);
    const { bank, serviceBank } = leftovers;
    const { endpoints: inherited, numbers } = withEarlier(leftovers.inherited, pins.upgrade?.tables ?? []);
    this.#bank = bank;
    this.#tables = new KernelTables(object.maps, bank, {
      make: () => this.#encoder.limbo.drain(),
      refused: (table, key) => this.#encoder.refused(table, key),
      placed: (table, key) => this.#encoder.placed(table, key),
    });
    this.#tables.changing(() => clearForStart(object.maps, leftovers));
    const isNew = this.#tables.readState('abiVersion') === 0n;
    this.#tables.state('abiVersion', BigInt(ABI_VERSION.CURRENT));
    for (const [name, value] of numbers) {
      // A bypass that was ended here is not begun again by what another version was told.
      if (name === 'bypass' && !isNew) continue;
      if (value > this.#tables.readState(name)) this.#tables.state(name, value);
    }
    this.#base = Number(this.#tables.readState('high'));
    this.#encoder = new Encoder(this.#tables, {
      node: options.node,
      sizes: this.#tables.sizes,
      epoch: this.#tables.readState('epoch'),
      generation: Number(this.#tables.readState('generation')),
      base: this.#base,
      ...{ bank, serviceBank },
      inherited,
      wait: () => {
        gracePeriodNow();
        gracePeriodNow();
      },
    });
    this.#tables.flush();
    const areFilters = pins.mode === 'clsact';
    this.#pods = new PodLinks({
      hooks: this.#makeHooks(POD_PLACES, pins),
      areFilters,
      encoder: this.#encoder,
      change: (work) => this.#change(work),
      isUpgrading: () => this.#upgrade?.pending === true,
    });
    this.#uplinks = new Uplinks({
      hooks: this.#makeHooks(UPLINK_PLACES, pins),
      areFilters,
      publish: (index, flags) => this.#change(() => this.#encoder.uplink(index, flags)),
    });
    this.#reclaim = new Reclaim(this.#encoder, this.#tables, (cause) => void this.#fail(cause));
    const { directory, tables } = pins;
    this.#host = options.hostClients
      ? new HostHooks({ object: options.object ?? OBJECT, directory, tables, maps: object.maps })
      : null;
    const ring = this.#map('event_ring');
    this.#ring = new Ring(ring.fd, ring.maxEntries);
    this.#lost = this.counters().lost;
  }

  /** Where an earlier version's hooks stand, these wait. */
  #makeHooks(places: Places, { mode, directory, upgrade }: Pins): StagedHooks {
    const make = (programs: HookPrograms): StagedHooks => makeHooks(mode, { places, programs, directory });
    const hooks = make({
      from_pod: this.program('from_pod'),
      to_pod: this.program('to_pod'),
      from_node: this.program('from_node'),
    });
    return upgrade === null ? hooks : upgrade.wrap(hooks, make);
  }

  apply(steps: readonly Step[]): void {
    this.#change(() => this.#encoder.apply(steps));
  }

  /** `adoptForMs`: how long connections that are older than the hooks are let in, if policy allows them. */
  attach(link: EndpointLink, adoptForMs = 0): void {
    this.#pods.attach(link, adoptForMs);
  }

  /** As `attach`, for an interface that was just made: waits for nothing, and leaves the rest to `finishNew`. */
  attachNew(link: EndpointLink, adoptForMs = 0): void {
    this.#pods.attachNew(link, adoptForMs);
  }

  /** Does for one interface what `attachNew` left: some tens of milliseconds, in which no other interface can be changed. */
  finishNew(): void {
    this.#pods.finishNew();
  }

  detach(interfaceIndex: number): void {
    this.#pods.detach(interfaceIndex);
  }

  /**
   * Looks again at every attached interface: whether its hooks stand, and first; and whether packets may skip its host
   * side, which they may not once a queue, a bridge or somebody's program is on it. Uplinks that came get their hook.
   * Every few seconds.
   */
  refresh(): ReadonlyMap<number, HookHealth> {
    const interfaces = allInterfaceFacts();
    this.#refreshUplinks(interfaces);
    // What failed may go well by now.
    if (this.#host?.complaint) this.#host.attach();
    return this.#pods.refresh(interfaces);
  }

  /** Whether an interface's hooks stand, and first there. Where another program came or went, packets stop or start skipping it. */
  health(interfaceIndex: number): HookHealth {
    return this.#pods.health(interfaceIndex);
  }

  /**
   * Puts back hooks and pins that somebody took away, and hooks that another program got ahead of; says which. What
   * could not be put back is said too. A few system calls for each interface: several times a second.
   */
  repair(): readonly Repair[] {
    const kept = keepPins(this.#places, this.#lock, this.#sharedMaps());
    this.#lock = kept.lock;
    const repairs = [...this.#pods.repair(kept.isPinned), ...this.#uplinks.repair()];
    this.#host?.repair(kept.isPinned);
    return repairs.map((repair) => ({ ...repair, failure: kept.failure ?? repair.failure }));
  }

  /** Until then (monotonic clock, nanoseconds; 0n: not at all) what judging denies passes. Throws DatapathError in an upgrade. */
  get bypass(): bigint {
    return this.#tables.readState('bypass');
  }

  set bypass(untilNs: bigint) {
    this.#upgrade?.refuseBypass();
    this.#tables.state('bypass', untilNs);
  }

  /** Why everything is denied, until another process or another `openDatapath` takes over; null while it serves. */
  get failure(): DatapathError | null {
    return this.#failure;
  }

  /** An interface that went away between two looks shows at the next. */
  #refreshUplinks(interfaces: ReadonlyMap<number, AddressedInterface>): void {
    const { own } = this.#encoder.nodes;
    if (own.length > 0 || this.#uplinks.interfaces.length > 0) this.#uplinks.refresh([...interfaces.values()], own);
  }

  /**
   * Gives pods of before their new policy, all of them at once: call it when those are attached. Until then nothing that is
   * attached is published; afterwards everything is, once its policy is known. Harmless on fresh tables.
   */
  turn(): void {
    this.#change(() => this.#encoder.turn());
  }

  /**
   * Ends a takeover: call it once, when every endpoint is attached and the whole Plan applied. Until then what an
   * earlier process left is in force; afterwards, what this one did not name denies. Harmless on fresh tables.
   */
  settle(): void {
    this.#refreshUplinks(allInterfaceFacts());
    this.#change(() => {
      this.#encoder.settle();
      this.#tables.flush();
      if (this.#upgrade?.pending) {
        this.#upgrade.finish();
        this.#pods.renew();
      }
      this.#pods.forgetGone();
      this.#uplinks.forgetGone();
      gracePeriodNow();
      const kept = {
        ...{ bank: this.#bank, base: this.#base, interfaces: this.#encoder.interfaces },
        ...{ nodes: this.#encoder.nodes.all, uplinks: [...this.#uplinks.interfaces, ...this.#pods.bridges.interfaces] },
        services: this.#encoder.services,
      };
      this.#tables.changing(() => clearLeftovers(this.#object.maps, kept));
      this.#encoder.retry();
      this.#tables.state('closed', 0n);
    });
    if (this.#host === null) dropHostHooks(this.#places.directory);
    else this.#host.attach();
  }

  /** Gives back the room of expired connections, and reports drops that wait for an event. About once a second. */
  sweep(): number {
    this.#swept = performance.now();
    return runSyscall(this.program('sweep'));
  }

  /** What happened since the last call. Nobody is woken for it: to be called every few milliseconds. */
  poll(): { readonly events: readonly DatapathEvent[]; readonly lost: number } {
    const isSweeping = performance.now() - this.#swept > SWEEP_INTERVAL_MS;
    if (isSweeping) this.sweep();
    const events: DatapathEvent[] = [];
    this.#ring.drain((record) => events.push(decodeEvent(record, (rule) => this.#encoder.ruleOf(rule))));
    // What finds no room finds others there.
    if (events.length === 0 && !isSweeping) return { events, lost: 0 };
    const before = this.#lost;
    this.#lost = readLost(this.#map('counter_map'));
    return { events, lost: Number(this.#lost - before) };
  }

  /** What found no room in the kernel: whom it is about is denied until it does. */
  get lacks(): readonly Lack[] {
    return this.#encoder.lacks;
  }

  /** What to say of bridges that pods are on, and of the node's own clients. */
  get complaints(): readonly string[] {
    return [...this.#pods.bridges.complaints, ...(this.#host?.complaint ? [this.#host.complaint] : [])];
  }

  /** How full the tables are: of some, whoever has given the steps knows it. */
  usage(known: Pick<KnownUsage, 'address_map' | 'prefix_map'>): Promise<readonly Fill[]> {
    return readUsage(this.#object.maps, { ...known, ...this.#encoder.usage }, () => this.#closed);
  }

  /** What the kernel programs counted since they were first loaded. */
  counters(): Counters {
    return readCounters(this.#map('counter_map'));
  }

  /** Leaves hooks and maps to the kernel, which goes on enforcing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // Hooks that nothing pins end with their descriptors, and let everything through: then they stay with this process.
    const pinned = existsSync(this.#places.directory);
    if (pinned) this.#pods.close();
    if (this.#upgrade?.pending) this.#upgrade.close();
    if (pinned) this.#uplinks.close();
    if (pinned) this.#host?.close();
    this.#reclaim.close();
    this.#ring.close();
    this.#tables.close();
    this.#object.close();
    closeSync(this.#lock);
  }

  /** Descriptor of a kernel program, for test runs. */
  program(name: Program): number {
    const fd = this.#object.programs.get(name);
    if (fd === undefined) throw new Error(`the kernel object has no program ${name}`);
    return fd;
  }

  /** Moves this datapath's clock, as tests of what ends by time do. */
  moveClock(seconds: number): void {
    this.#tables.state('skew', this.#tables.readState('skew') + BigInt(seconds) * 1_000_000_000n);
  }

  /** Takes the hooks off every interface of this process: for tests of what is no longer enforced then. */
  detachAll(): void {
    this.#pods.detachAll();
    this.#uplinks.detachAll();
    this.#host?.detach();
  }

  #sharedMaps(): ReadonlyMap<string, number> {
    const shared = [...this.#object.maps].filter(([name]) => isShared(name));
    return new Map(shared.map(([name, { fd }]) => [name, fd]));
  }

  #map(name: string): LoadedMap {
    const map = this.#object.maps.get(name);
    if (map === undefined) throw new Error(`the kernel object has no map ${name}`);
    return map;
  }

  /** A change that fails half-way leaves tables that nobody vouches for: everything is denied from then on. */
  #change(work: () => void): void {
    try {
      work();
      this.#tables.flush();
    } catch (cause) {
      throw this.#fail(cause);
    }
    this.#reclaim.start();
  }

  #fail(cause: unknown): DatapathError {
    this.#tables.discard();
    this.#tables.state('closed', 1n);
    this.#failure = new DatapathError('the tables could not be changed; every packet is denied now', cause);
    return this.#failure;
  }
}
