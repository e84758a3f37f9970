// Opens the eBPF datapath of one node: loads the programs, pins everything, and implements the port on it.
import { closeSync, existsSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Step } from '#compile/plan.ts';
import { ABI_VERSION, KNOBS } from '#datapath/ebpf/encode/abi.gen.ts';
import { Encoder } from '#datapath/ebpf/encode/encoder.ts';
import type { Datapath, DatapathEvent, EndpointLink } from '#datapath/port.ts';
import { runSyscall } from '#kernel/bpf.ts';
import { lockPins, pinDirectory, removePins } from '#kernel/bpffs.ts';
import { gracePeriod, gracePeriodNow, Ring } from '#kernel/memory.ts';
import { type LoadedObject, loadObject, ObjectError } from '#kernel/object.ts';
import { type HookHealth, Hooks } from './attach.ts';
import { type Counters, readCounters, readLost } from './counters.ts';
import { decodeEvent } from './events.ts';
import { type InterfaceFacts, interfaceReader } from './links.ts';
import { clearForStart, clearLeftovers, readLeftovers } from './takeover.ts';
import { KernelTables } from './writer.ts';

const OBJECT = join(import.meta.dirname, '../../../build/bpf/moat.bpf.o');
/** How old what is known of interfaces may be when one is attached. */
const INTERFACES_KEPT_MS = 500;
const PROGRAMS = ['from_pod', 'to_pod', 'sweep'] as const;
const SWEEP_INTERVAL_MS = 1000;

/** Names of knobs (bpf/maps.h). Times are nanoseconds. */
export type Knob = keyof typeof KNOBS;

export type OpenOptions = {
  /** Tells sandboxes and test runs on one machine apart. */
  readonly instance: string;
  readonly node: string;
  /** Entries per map, by the map's name; what is not named has bpf/maps.h's size. */
  readonly sizes?: Readonly<Record<string, number>>;
  readonly knobs?: Readonly<Partial<Record<Knob, bigint>>>;
  /** Another object than the project's build. */
  readonly object?: string;
  /** Where facts of interfaces come from; by default iproute2. */
  readonly readInterface?: (index: number) => InterfaceFacts;
};

/** The datapath could not be opened, or failed while it was being changed: then everything is denied. */
export class DatapathError extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause });
    this.name = 'DatapathError';
  }
}

/** Takes this node's hooks, programs and maps away; what its pods send and get then passes unjudged. */
export function unpinDatapath(instance: string, node: string): void {
  removePins(instance, node);
}

/**
 * Loads and pins. The calling thread must be in the node's network namespace, with the host's mounts.
 * Throws BpffsError (no host bpffs, or another process is there), or DatapathError with the kernel's reason.
 */
export function openDatapath(options: OpenOptions): EbpfDatapath {
  const directory = pinDirectory(options.instance, options.node);
  checkKernel();
  const path = options.object ?? OBJECT;
  if (!existsSync(path)) throw new DatapathError(`${path} is missing: build it with tools/build-bpf.sh`, null);
  const lock = lockPins(directory);
  try {
    const object = loadObject({
      path,
      programs: PROGRAMS,
      sizes: new Map(Object.entries(options.sizes ?? {})),
      pinPath: (map) => (isShared(map) ? `${directory}/${map}` : null),
      knobs: (rodata) => setKnobs(rodata, options.knobs ?? {}),
    });
    return new EbpfDatapath(object, { directory, lock }, options);
  } catch (cause) {
    closeSync(lock);
    const log = cause instanceof ObjectError && cause.log !== '' ? `: ${cause.log.split('\n').at(-1)}` : '';
    throw new DatapathError(`the kernel programs can't be loaded${log}`, cause);
  }
}

/** tcx links came with Linux 6.6. */
function checkKernel(): void {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (major > 6 || (major === 6 && minor >= 6)) return;
  throw new DatapathError(`Linux 6.6 or newer is needed to attach the kernel programs; this is ${release()}`, null);
}

/** Maps that outlive the process; read-only data and the like belong to one load. */
function isShared(map: string): boolean {
  return !map.includes('.') && map !== 'context_map';
}

function setKnobs(rodata: Uint8Array, knobs: Readonly<Partial<Record<Knob, bigint>>>): void {
  const into = new DataView(rodata.buffer, rodata.byteOffset, rodata.byteLength);
  for (const [name, value] of Object.entries(knobs)) {
    const { offset, size } = KNOBS[name as Knob];
    if (size === 8) into.setBigUint64(offset, value, true);
    else into.setUint32(offset, Number(value), true);
  }
}

/** Where a node's pins are, and the descriptor that makes this process their only writer. */
type Pins = { readonly directory: string; readonly lock: number };

type AttachedLink = EndpointLink & {
  readonly adoptUntil: bigint;
  readonly facts: InterfaceFacts;
  readonly redirect: boolean;
};

export class EbpfDatapath implements Datapath {
  readonly #object: LoadedObject;
  readonly #lock: number;
  readonly #readInterface: (index: number) => InterfaceFacts;
  readonly #tables: KernelTables;
  readonly #encoder: Encoder;
  readonly #hooks: Hooks;
  readonly #ring: Ring;
  readonly #bank: 0 | 1;
  /** Numbers of earlier processes end here. */
  readonly #base: number;
  readonly #links = new Map<number, AttachedLink>();
  #lost: bigint;
  #swept = 0;
  #reclaiming: Promise<void> | null = null;
  #closed = false;

  constructor(object: LoadedObject, pins: Pins, options: OpenOptions) {
    this.#object = object;
    this.#lock = pins.lock;
    this.#readInterface = options.readInterface ?? interfaceReader(INTERFACES_KEPT_MS);
    const leftovers = readLeftovers(object.maps);
    const { bank, inherited } = leftovers;
    this.#bank = bank;
    this.#tables = new KernelTables(object.maps, bank);
    this.#tables.changing(() => clearForStart(object.maps, leftovers));
    this.#tables.state('abiVersion', BigInt(ABI_VERSION.CURRENT));
    this.#base = Number(this.#tables.readState('high'));
    this.#encoder = new Encoder(this.#tables, {
      node: options.node,
      sizes: this.#tables.sizes,
      epoch: this.#tables.readState('epoch'),
      generation: Number(this.#tables.readState('generation')),
      base: this.#base,
      bank,
      inherited,
      wait: () => {
        gracePeriodNow();
        gracePeriodNow();
      },
    });
    this.#hooks = new Hooks({ from: this.program('from_pod'), to: this.program('to_pod') }, pins.directory);
    const ring = this.#map('event_ring');
    this.#ring = new Ring(ring.fd, ring.maxEntries);
    this.#lost = this.counters().lost;
  }

  /** Becomes readable when events wait. */
  get eventFd(): number {
    return this.#map('event_ring').fd;
  }

  apply(steps: readonly Step[]): void {
    this.#change(() => this.#encoder.apply(steps));
  }

  /** `adoptForMs`: how long connections that are older than the hooks are let in, if policy allows them. */
  attach(link: EndpointLink, adoptForMs = 0): void {
    const facts = this.#readInterface(link.interfaceIndex);
    const adoptUntil = adoptForMs === 0 ? 0n : process.hrtime.bigint() + BigInt(adoptForMs) * 1_000_000n;
    const attached = { ...link, adoptUntil, facts, redirect: false };
    this.#change(() => this.#encoder.attach({ ...attached, hostMac: facts.mac, mtu: facts.mtu, redirect: false }));
    this.#hook(link.interfaceIndex);
    this.#links.set(link.interfaceIndex, attached);
    this.#refreshLink(attached, facts);
  }

  /** The tables are whole where this fails, so only this interface is closed: it may have gone meanwhile. */
  #hook(interfaceIndex: number): void {
    try {
      this.#hooks.attach(interfaceIndex);
    } catch (cause) {
      this.#change(() => this.#encoder.detach(interfaceIndex));
      throw new DatapathError(`interface ${interfaceIndex} can't be given its hooks; its pod stays closed`, cause);
    }
  }

  /**
   * Looks again at every attached interface: whether its hooks stand, and first; and whether packets may skip its host
   * side, which they may not once a queue, a bridge or somebody's program is on it. Every few seconds.
   */
  refresh(): ReadonlyMap<number, HookHealth> {
    const found = new Map<number, HookHealth>();
    for (const link of this.#links.values()) {
      const health = this.#hooks.health(link.interfaceIndex);
      found.set(link.interfaceIndex, health);
      if (health !== 'absent') this.#refreshLink(link, this.#readInterface(link.interfaceIndex));
    }
    return found;
  }

  /**
   * Whether an interface's hooks still stand, and ahead of every other program there. Where another program came or
   * went, packets stop or start skipping that interface.
   */
  health(interfaceIndex: number): HookHealth {
    const known = this.#links.get(interfaceIndex);
    const health = this.#hooks.health(interfaceIndex);
    if (known !== undefined && health !== 'absent' && known.redirect !== this.#mayRedirect(known)) {
      this.#refreshLink(known, known.facts);
    }
    return health;
  }

  #refreshLink(link: AttachedLink, facts: InterfaceFacts): void {
    const fresh = { ...link, facts, redirect: this.#mayRedirect({ ...link, facts }) };
    const { redirect } = fresh;
    this.#change(() => this.#encoder.attach({ ...link, hostMac: facts.mac, mtu: facts.mtu, redirect }));
    this.#links.set(link.interfaceIndex, fresh);
  }

  #mayRedirect({ facts, interfaceIndex }: AttachedLink): boolean {
    return facts.plain && this.#hooks.isAlone(interfaceIndex);
  }

  detach(interfaceIndex: number): void {
    this.#change(() => {
      this.#encoder.detach(interfaceIndex);
      this.#hooks.detach(interfaceIndex);
    });
    this.#links.delete(interfaceIndex);
  }

  /**
   * Ends a takeover: call it once, when every endpoint is attached and the whole Plan applied. Until then what an
   * earlier process left is in force; afterwards, what this one did not name denies. Harmless on fresh tables.
   */
  settle(): void {
    this.#change(() => {
      this.#encoder.settle();
      this.#tables.flush();
      this.#hooks.forgetGone();
      gracePeriodNow();
      const nodes = this.#encoder.nodeAddresses;
      const kept = { bank: this.#bank, base: this.#base, nodes };
      this.#tables.changing(() => clearLeftovers(this.#object.maps, kept));
      this.#tables.state('closed', 0n);
    });
  }

  /** Gives back the room of expired connections, and reports drops that wait for an event. About once a second. */
  sweep(): number {
    this.#swept = performance.now();
    return runSyscall(this.program('sweep'));
  }

  poll(): { readonly events: readonly DatapathEvent[]; readonly lost: number } {
    if (performance.now() - this.#swept > SWEEP_INTERVAL_MS) this.sweep();
    const events: DatapathEvent[] = [];
    this.#ring.drain((record) => events.push(decodeEvent(record, (rule) => this.#encoder.ruleOf(rule))));
    const lost = readLost(this.#map('counter_map'));
    const since = lost - this.#lost;
    this.#lost = lost;
    return { events, lost: Number(since) };
  }

  /** How many port tables found no room: whom they are about is denied until they do. */
  get refusedTables(): number {
    return this.#encoder.refusedTables;
  }

  /** What the kernel programs counted since they were first loaded. */
  counters(): Counters {
    return readCounters(this.#map('counter_map'));
  }

  /** Leaves hooks and maps to the kernel, which goes on enforcing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#hooks.close();
    this.#ring.close();
    this.#tables.close();
    this.#object.close();
    closeSync(this.#lock);
  }

  /** Descriptor of a kernel program, for test runs. */
  program(name: (typeof PROGRAMS)[number]): number {
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
    for (const index of [...this.#links.keys()]) this.detach(index);
  }

  #map(name: string): { readonly fd: number; readonly maxEntries: number } {
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
      this.#tables.discard();
      this.#tables.state('closed', 1n);
      throw new DatapathError('the tables could not be changed; every packet is denied now', cause);
    }
    this.#reclaim();
  }

  /** What was freed is used again after two grace periods, on another thread's time. */
  #reclaim(): void {
    if (this.#reclaiming !== null || this.#encoder.limbo.isEmpty) return;
    this.#reclaiming = this.#reclaimBatches().finally(() => {
      this.#reclaiming = null;
    });
  }

  async #reclaimBatches(): Promise<void> {
    while (!this.#closed && !this.#encoder.limbo.isEmpty) {
      const batch = this.#encoder.limbo.take();
      await gracePeriod();
      await gracePeriod();
      if (this.#closed) return;
      this.#encoder.finish(batch);
      this.#tables.flush();
    }
  }
}
