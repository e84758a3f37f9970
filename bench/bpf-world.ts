// One node's datapath, filled to the load of the bars, and the bench's programs on its maps: no packet leaves it.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import type { Backend, Step } from '#compile/plan.ts';
import { tablesPath } from '#datapath/ebpf/generations.ts';
import { loadPrograms } from '#datapath/ebpf/load.ts';
import { type EbpfDatapath, openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import { tcp } from '#datapath/packets.ts';
import { testRun } from '#kernel/bpf.ts';
import { mountBpffs, removeInstancePins } from '#kernel/bpffs.ts';
import type { LoadedObject } from '#kernel/object.ts';
import { enterNetns } from '#kernel/sockets.ts';
import type { Address } from '#net/address.ts';
import { TCP } from '#net/protocol.ts';
import { maglevPlaces } from '#service/maglev.ts';
import { benchTables } from './bpf-tables.ts';
import { threadTimeNs } from './thread-time.ts';

const NODE = 'node-a';
const POD: Address = { family: 4, words: [0x0a00_0001] };
const POD_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const PEER = '100.64.0.0';
const PORT = 80;
const CLIENT_PORT = 1024;
/** Where the Service's backend listens: one of the ports that the pod may speak to, and that no other flow has. */
const SERVED = 85;

const PROGRAMS = [
  'bench_empty',
  'bench_draw',
  'bench_draw_new',
  'bench_unit',
  'bench_unit_fill',
  'bench_fill_from',
  'bench_fill_to',
  'bench_established',
  'bench_decision',
  'bench_new',
  'bench_floor',
  'bench_draw_service',
  'bench_fill_service',
  'bench_fill_answer',
  'bench_service',
  'bench_answer',
  'bench_service_new',
] as const;

export type BenchProgram = (typeof PROGRAMS)[number];

/** Of how many flows and peers packets are drawn, and how large the tables of connections are. */
export type Mode = {
  readonly name: string;
  readonly flows: number;
  readonly open: number;
  readonly unconfirmed: number;
};

/** How many packets a program handles at once: the ring of events has room for as many. */
export const PACKETS = 4096;

/** The drawn packet's TCP flags; S is the first of a connection, SA and PA come from the peer. */
export type PacketFlags = 'S' | 'SA' | 'A' | 'PA';

export class BpfWorld {
  readonly #name: string;
  readonly #interfaceIndex: number;
  readonly #datapath: EbpfDatapath;
  readonly #object: LoadedObject;

  /** Loads the bench's object beside the node's own, on the same maps. */
  constructor(mode: Mode) {
    mountBpffs();
    this.#name = `moatbench-${mode.name}-${process.pid}`;
    this.#interfaceIndex = makeInterface(this.#name);
    const sizes = { ct_map: mode.open + mode.unconfirmed };
    const knobs = { flowRate: 1_000_000_000n, assuredRoom: BigInt(mode.open) };
    this.#datapath = openDatapath({ instance: this.#name, node: NODE, sizes, knobs });
    const path = buildObject(mode.flows);
    const directory = tablesPath(this.#name, NODE);
    this.#object = loadPrograms({ path, directory, programs: PROGRAMS, sizes, knobs });
  }

  /** Fills the tables, and opens every flow of the mode. */
  fill({ flows }: Mode): void {
    this.#datapath.attach({ interfaceIndex: this.#interfaceIndex, mac: POD_MAC, addresses: [POD] });
    this.#datapath.apply(benchTables(NODE, POD, PORT));
    this.#datapath.settle();
    this.#runAll('bench_unit_fill', flows, 'A');
    this.#runAll('bench_fill_from', flows, 'S');
    this.#runAll('bench_fill_to', flows, 'SA');
    this.#runAll('bench_fill_from', flows, 'A');
  }

  /** From here on there is a Service, and every flow to it is open. */
  serve({ flows }: Mode): void {
    this.#datapath.apply([serviceStep()]);
    this.#runAll('bench_fill_service', flows, 'S');
    this.#runAll('bench_fill_answer', flows, 'SA');
    this.#runAll('bench_fill_service', flows, 'A');
  }

  /** Gives a program `count` packets. Returns nanoseconds of processor time. Throws where the last one did not pass. */
  run(program: BenchProgram, count: number, flags: PacketFlags): number {
    const fd = this.#object.programs.get(program);
    if (fd === undefined) throw new Error(`the bench's object has no program ${program}`);
    const interfaceIndex = this.#interfaceIndex;
    const isAnswer = flags === 'SA' || flags === 'PA';
    const ingressIndex = isAnswer ? interfaceIndex + 1 : interfaceIndex;
    const begun = threadTimeNs();
    const { returned } = testRun(fd, { frame: template(flags), interfaceIndex, ingressIndex, repeat: count });
    const took = threadTimeNs() - begun;
    if (returned !== -1) throw new Error(`${program} returned ${returned}: its packets did not pass`);
    return took;
  }

  /** How many events the programs wrote since the last call. Throws where one was lost, or tells of a drop. */
  takeEvents(): number {
    const { events, lost } = this.#datapath.poll();
    if (lost > 0) throw new Error(`${lost} events were lost`);
    const dropped = events.find(({ kind }) => kind === 'drop');
    if (dropped !== undefined) throw new Error(`a packet was dropped: ${dropped.reason}`);
    return events.length;
  }

  close(): void {
    this.#object.close();
    this.#datapath.detachAll();
    this.#datapath.close();
    unpinDatapath(this.#name, NODE);
    removeInstancePins(this.#name);
    execFileSync('ip', ['netns', 'del', this.#name]);
  }

  /** One packet of each flow, in parts that the ring of events has room for. */
  #runAll(program: BenchProgram, flows: number, flags: PacketFlags): void {
    for (let left = flows; left > 0; left -= PACKETS) {
      this.run(program, Math.min(left, PACKETS), flags);
      this.takeEvents();
    }
  }
}

/** A Service that the first peer serves: bench/bpf.bpf.c has its address. */
function serviceStep(): Step {
  const backends: readonly Backend[] = [{ address: { family: 4, words: [0x6440_0000] }, port: SERVED }];
  const at = { address: { family: 4 as const, words: [0x0a60_0001] }, protocol: TCP, port: PORT };
  return { kind: 'service', at, value: { ...at, backends, places: maglevPlaces(backends) } };
}

/** A veth in a network namespace of its own, which this thread enters. It stays down: nobody else speaks on it. */
function makeInterface(namespace: string): number {
  execFileSync('ip', ['netns', 'add', namespace]);
  enterNetns(`/run/netns/${namespace}`);
  execFileSync('ip', ['link', 'add', 'pod', 'type', 'veth', 'peer', 'name', 'peer']);
  const [link] = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'pod'], { encoding: 'utf8' }));
  return Number(link.ifindex);
}

function buildObject(flows: number): string {
  mkdirSync('build/bench', { recursive: true });
  const path = `build/bench/bpf-${flows}.bpf.o`;
  const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
  const options = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-std=gnu11', '-Wall', '-Wno-unused-function'];
  const include = ['-idirafter', `/usr/include/${machine}-linux-gnu`];
  execFileSync('clang', [...options, ...include, `-DFLOWS=${flows}u`, '-c', 'bench/bpf.bpf.c', '-o', path]);
  return path;
}

/** The programs draw the peer, and the port of the pod. */
function template(flags: PacketFlags): Uint8Array {
  if (flags === 'SA' || flags === 'PA') return tcp({ from: PEER, to: POD, sport: PORT, dport: CLIENT_PORT, flags });
  return tcp({ from: POD, to: PEER, sourceMac: POD_MAC, sport: CLIENT_PORT, dport: PORT, flags });
}
