// Interfaces and datapaths for frames that go through the kernel programs by BPF_PROG_TEST_RUN, with no wire.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { applyStep, emptyPlan, type MutablePlan } from '#compile/apply.ts';
import type { RuleNumber, Step } from '#compile/plan.ts';
import type { Harness, HarnessOptions, Met, TestPacket } from '#datapath/conformance/harness.ts';
import { SHARE } from '#datapath/ebpf/encode/abi.gen.ts';
import { tablesPath } from '#datapath/ebpf/generations.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import { type Injected, inject } from '#datapath/ebpf/test-run.ts';
import { concat } from '#datapath/packets.ts';
import type { Datapath, EndpointLink } from '#datapath/port.ts';
import { deleteWhere, type MapHandle, updateBatch } from '#kernel/bpf.ts';
import { mountBpffs, removeInstancePins } from '#kernel/bpffs.ts';
import { enterNetns } from '#kernel/sockets.ts';
import { type Address, parseAddress } from '#net/address.ts';
import { withPinnedMap } from './pinned-map.ts';
import { numbersEnd, shiftStep } from './shift-steps.ts';
import { strayTranslations } from './stray-translations.ts';

const INTERFACES = 16;

const NODE = 'n1';
/** Small maps load faster; each case needs few entries. */
const SIZES = { address_map_a: 1024, address_map_b: 1024, class_map: 1024, arena: 65_536 };
const USUAL_LIMITS = { assured: 1024, others: 4096 };
/** Of flows whose pod has gone: a sweep takes them when it comes to it, and the reference never does. */
const FOR_EVER = 1n << 62n;
/** Maps of what packets left behind, and the size of their keys (bpf/abi.h). */
const TRACES = ['ct_map', 'queue_map', 'share_map', 'translation_map', 'affinity_map'] as const;

/** The node's own addresses, on its uplink. */
const NODE_ADDRESSES = ['198.18.0.1', '2001:db8:18::1'];

export type BedOptions = {
  /** How many interfaces always belong to the same pods, so that their hooks may stay from case to case. */
  readonly kept?: number;
  /** What comes from elsewhere comes by an uplink, and meets the hook there before the pod's. */
  readonly uplink?: boolean;
  /** Other programs than the project's build. */
  readonly object?: string;
};

/** A namespace of its own, which this process enters, with a few veths in it. */
export class TestRunBed {
  readonly #name: string;
  readonly #interfaces: readonly number[];
  readonly #kept: number;
  readonly #uplink: Uplink | null;
  readonly #object: string | undefined;
  readonly #nodes = new Map<string, TestNode>();

  constructor(name: string, { kept = 0, uplink = false, object }: BedOptions = {}) {
    this.#kept = kept;
    this.#object = object;
    mountBpffs();
    this.#name = `moattest-${name}-${process.pid}`;
    execFileSync('ip', ['netns', 'add', this.#name]);
    enterNetns(`/run/netns/${this.#name}`);
    if (uplink) for (const path of FORWARDING) writeFileSync(path, '1');
    const pairs = Array.from(
      { length: INTERFACES },
      (_, index) => `link add pod${index} type veth peer name peer${index}`,
    );
    execFileSync('ip', ['-batch', '-'], { input: [...pairs, ...(uplink ? UPLINK_LINES : [])].join('\n') });
    const links = JSON.parse(execFileSync('ip', ['-j', 'link', 'show'], { encoding: 'utf8' })) as readonly IpLink[];
    this.#uplink = uplinkOf(links);
    this.#interfaces = links.filter(({ ifname }) => ifname.startsWith('pod')).map(({ ifindex }) => ifindex);
  }

  /** A datapath on which nothing has happened yet. Loading takes long: the programs stay, what they knew goes. */
  harness(options: HarnessOptions): Harness {
    const limits = {
      assured: options.establishedLimit ?? USUAL_LIMITS.assured,
      others: options.unassuredLimit ?? USUAL_LIMITS.others,
    };
    const key = Object.values(limits).join('-');
    const node = this.#nodes.get(key) ?? new TestNode(`${this.#name}-${key}`, limits, this.#uplink, this.#object);
    this.#nodes.set(key, node);
    // No packet skips an interface that another one's hooks are on.
    for (const other of this.#nodes.values()) if (other !== node) other.letGo();
    const free = [...this.#interfaces];
    return {
      datapath: node,
      addInterface: () => {
        const next = free.shift();
        if (next === undefined) throw new Error(`a case needs more than ${INTERFACES} interfaces`);
        return next;
      },
      inject: (packet) => node.inject(packet),
      advance: (seconds) => node.advance(seconds),
      moveClock: (seconds) => node.moveClock(seconds),
      interleave: null,
      close: () => node.forget(this.#interfaces.slice(0, this.#kept)),
    };
  }

  /** How many packets from elsewhere went straight into a pod. */
  get delivered(): bigint {
    return [...this.#nodes.values()].reduce((sum, node) => sum + node.delivered, 0n);
  }

  destroy(): void {
    for (const node of this.#nodes.values()) node.close();
    execFileSync('ip', ['netns', 'del', this.#name]);
  }
}

const FORWARDING = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'];
const UPLINK_LINES = [
  'link add up0 type veth peer name up1',
  'link set up0 up',
  'link set up1 up',
  ...NODE_ADDRESSES.map((text) => `addr add ${text}/${text.includes(':') ? '128 dev up0 nodad' : '32 dev up0'}`),
  'route add default dev up0',
  'route add ::/0 dev up0',
];

type IpLink = { readonly ifname: string; readonly ifindex: number; readonly address: string };
type Uplink = { readonly index: number; readonly mac: Uint8Array };

function uplinkOf(links: readonly IpLink[]): Uplink | null {
  const link = links.find(({ ifname }) => ifname === 'up0');
  if (link === undefined) return null;
  return { index: link.ifindex, mac: Uint8Array.from(link.address.split(':'), (octet) => Number.parseInt(octet, 16)) };
}

const NOTHING_SAID = { reason: 'none', leg: null } as const;

/** One node's kernel programs, and what was told to them, so that it can be taken back. */
class TestNode implements Datapath {
  readonly #datapath: EbpfDatapath;
  readonly #instance: string;
  readonly #uplink: Uplink | null;
  readonly #links = new Map<number, EndpointLink>();
  #plan: MutablePlan = emptyPlan();
  /** Added to the numbers of this case: those below it were used before. */
  #base = 0;
  #end = 0;

  constructor(instance: string, limits: typeof USUAL_LIMITS, uplink: Uplink | null, object: string | undefined) {
    this.#instance = instance;
    this.#uplink = uplink;
    const sizes = { ...SIZES, ct_map: limits.assured + limits.others };
    // Every drop is an event of its own, so that each frame's reason can be read.
    const rates = { dropWindow: 0n, dropRate: 1_000_000n, flowRate: 1_000_000n };
    const knobs = { ...rates, assuredRoom: BigInt(limits.assured), timeoutLeft: FOR_EVER };
    this.#datapath = openDatapath({ instance, node: NODE, sizes, knobs, ...(object === undefined ? {} : { object }) });
    if (uplink === null) return;
    const value = NODE_ADDRESSES.flatMap((text) => parseAddress(text) ?? []);
    this.#datapath.apply([{ kind: 'node', node: NODE, value }]);
    this.#datapath.refresh();
    this.#datapath.apply([{ kind: 'node', node: NODE, value: null }]);
  }

  get delivered(): bigint {
    return this.#datapath.counters().delivered;
  }

  apply(steps: readonly Step[]): void {
    this.#end = Math.max(this.#end, this.#base + numbersEnd(steps));
    this.#applyShifted(steps.map((step) => shiftStep(step, this.#base)));
  }

  #applyShifted(steps: readonly Step[]): void {
    this.#datapath.apply(steps);
    for (const step of steps) applyStep(this.#plan, step);
  }

  /** Hooks that an earlier case left on the same interface for the same pod stay. */
  attach(link: EndpointLink): void {
    const before = this.#links.get(link.interfaceIndex);
    if (before !== undefined && sameLink(before, link)) return;
    if (before !== undefined) this.detach(link.interfaceIndex);
    this.#datapath.attach(link);
    this.#links.set(link.interfaceIndex, link);
  }

  detach(interfaceIndex: number): void {
    this.#datapath.detach(interfaceIndex);
    this.#links.delete(interfaceIndex);
  }

  letGo(): void {
    for (const index of [...this.#links.keys()]) this.detach(index);
  }

  poll(): ReturnType<Datapath['poll']> {
    return this.#datapath.poll();
  }

  inject(packet: TestPacket): Met | 'refused' {
    if (packet.frame.length < shortest(packet.frame)) return 'refused';
    const { verdict, events, frame } = this.#meet(packet);
    const drop = events.find(({ kind }) => kind === 'drop');
    const said = drop ?? events.find(({ kind }) => kind === 'new' || kind === 'audit');
    if (verdict === 'drop' && drop === undefined) throw new Error('a drop without an event');
    const { egressRule = null, ingressRule = null } = said ?? {};
    const { reason, leg } = said ?? NOTHING_SAID;
    const rules = { egressRule: this.#shiftedBack(egressRule), ingressRule: this.#shiftedBack(ingressRule) };
    // What goes somewhere though it was dropped is the answer to it.
    const answer = drop !== undefined && verdict === 'redirect' ? frame : null;
    if (drop !== undefined) {
      return { verdict: 'drop', reason, leg, ...rules, frame: packet.frame, entered: false, audited: null, answer };
    }
    const met = { ...rules, frame, entered: verdict === 'redirect', answer };
    if (said?.kind === 'audit') return { verdict: 'pass', ...NOTHING_SAID, ...met, audited: { reason, leg } };
    return { verdict: 'pass', reason, leg, ...met, audited: null };
  }

  /** What comes from elsewhere meets the uplink's hook first, which delivers it or leaves it as it is, and says nothing. */
  #meet(packet: TestPacket): Injected {
    const uplink = this.#uplink;
    const isFromAfar = packet.hook === 'to-pod' && packet.sender === 'elsewhere';
    if (uplink === null || !isFromAfar || this.#ownerOf(packet.frame) !== packet.interfaceIndex) {
      return inject(this.#datapath, packet);
    }
    const frame = concat(uplink.mac, packet.frame.subarray(6));
    const arrived = inject(this.#datapath, { frame, hook: 'from-node', interfaceIndex: uplink.index });
    if (arrived.verdict === 'redirect') return arrived;
    const isUntouched = Buffer.from(arrived.frame).equals(Buffer.from(frame));
    if (arrived.verdict === 'drop' || !isUntouched || arrived.events.length > 0) {
      throw new Error(`the uplink's hook did something to ${Buffer.from(frame).toString('hex')}`);
    }
    return inject(this.#datapath, { ...packet, uplink: uplink.index });
  }

  /** The interface that the frame's destination belongs to: whatever comes by an uplink goes there. */
  #ownerOf(frame: Uint8Array): number | null {
    const [at, size] = frame[12] === 0x86 ? [38, 16] : [30, 4];
    const to = Buffer.from(frame.subarray(at, at + size));
    const owners = [...this.#links.values()].filter((link) => link.addresses.some((own) => to.equals(bytesOf(own))));
    return owners.at(-1)?.interfaceIndex ?? null;
  }

  #shiftedBack(rule: RuleNumber | null): RuleNumber | null {
    return rule === null ? null : rule - this.#base;
  }

  /** Moves the clock for good: what comes later only counts from there. */
  moveClock(seconds: number): void {
    this.#datapath.moveClock(seconds);
  }

  advance(seconds: number): void {
    this.moveClock(seconds);
    this.#datapath.sweep();
  }

  /** Takes back every step, every connection and fragment, and the hooks of all interfaces but those to be kept. */
  forget(kept: readonly number[]): void {
    const strays = this.#strays();
    for (const index of [...this.#links.keys()]) if (!kept.includes(index)) this.detach(index);
    this.#applyShifted(removalOf(this.#plan));
    this.#plan = emptyPlan();
    this.#base = this.#end;
    for (const map of TRACES) this.#empty(map);
    this.#with('total_map', (handle) => updateBatch(handle, Buffer.alloc(4), Buffer.alloc(SHARE.size), 1));
    assert.deepEqual(strays, [], 'translations of no flow');
  }

  #strays(): readonly string[] {
    return this.#with('ct_map', (flows) =>
      this.#with('translation_map', (translations) => strayTranslations(flows, translations)),
    );
  }

  close(): void {
    this.#datapath.detachAll();
    this.#datapath.close();
    unpinDatapath(this.#instance, NODE);
    removeInstancePins(this.#instance);
  }

  #empty(map: string): void {
    this.#with(map, (handle) => deleteWhere(handle, () => true));
  }

  #with<Value>(map: string, use: (map: MapHandle) => Value): Value {
    return withPinnedMap(tablesPath(this.#instance, NODE), map, use);
  }
}

/** The steps that take a whole Plan back: what points comes before what is pointed at. */
function removalOf(plan: MutablePlan): readonly Step[] {
  return [
    ...[...plan.endpoints.values()].map(({ address }): Step => ({ kind: 'endpoint', address, value: null })),
    ...[...plan.addresses.keys()].flatMap((text): Step[] => {
      const address = parseAddress(text);
      return address === null ? [] : [{ kind: 'address', address, value: null }];
    }),
    ...[...plan.prefixes.values()].map(({ cidr }): Step => ({ kind: 'prefix', cidr, value: null })),
    ...[...plan.sets.keys()].map((set): Step => ({ kind: 'set', set, value: null })),
    ...[...plan.layers].flatMap(([layer, { classes }]) =>
      [...classes.keys()].map((identity): Step => ({ kind: 'class', layer, identity, value: null })),
    ),
    ...[...plan.layers.keys()].map((layer): Step => ({ kind: 'layer', layer, value: null })),
    ...[...plan.tables.keys()].map((table): Step => ({ kind: 'table', table, value: null })),
    ...[...plan.identities.keys()].map((identity): Step => ({ kind: 'identity', identity, value: null })),
    ...[...plan.rules.keys()].map((rule): Step => ({ kind: 'rule', rule, value: null })),
    ...[...plan.nodes.keys()].map((node): Step => ({ kind: 'node', node, value: null })),
    ...[...plan.services.values()].map((at): Step => ({ kind: 'service', at, value: null })),
  ];
}

/** As on the wire. */
function bytesOf({ words }: Address): Buffer {
  return Buffer.concat(words.map((word) => Buffer.from(Uint32Array.of(word).buffer).reverse()));
}

function sameLink(a: EndpointLink, b: EndpointLink): boolean {
  return JSON.stringify([[...a.mac], a.addresses]) === JSON.stringify([[...b.mac], b.addresses]);
}

/** What BPF_PROG_TEST_RUN takes at least: an Ethernet header, with a whole IP header where the type says so. */
function shortest(frame: Uint8Array): number {
  const type = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  return type === 0x86dd ? 54 : type === 0x0800 ? 34 : 14;
}
