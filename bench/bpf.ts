// The kernel programs' own cost for a packet, in look-ups of a hash: part of `make bench`. Needs root. One JSON line
// a figure on standard output.
//
// A figure is the processor time of a program that draws a packet and handles it, less that of one that only draws it,
// plus that of one that does nothing: what is left is the cost of being run, and of the packet. The unit is the same of
// a program that looks up one 40-byte key instead.
import { type BenchProgram, BpfWorld, type Mode, PACKETS } from './bpf-world.ts';
import { Figures } from './figure.ts';
import { quantile } from './slots.ts';

const SLOTS = Number(process.env.MOAT_BENCH_SLOTS ?? 100);

const HOT: Mode = { name: 'hot', flows: 16, open: 1024, unconfirmed: 1024 };
const MODES: readonly Mode[] = [HOT, { name: 'spread', flows: 100_000, open: 262_144, unconfirmed: 262_144 }];

/** A program of a slot. `drawing`: the one that only draws the same kind of packet. */
type Measured = { readonly program: BenchProgram; readonly drawing: BenchProgram; readonly flags: 'S' | 'A' | 'PA' };

/** `bar`: at most so many units. */
type Figured = Measured & { readonly name: string; readonly bar: number | null };

const EMPTY: Measured = { program: 'bench_empty', drawing: 'bench_empty', flags: 'A' };
const DRAW: Measured = { program: 'bench_draw', drawing: 'bench_draw', flags: 'A' };
const DRAW_NEW: Measured = { program: 'bench_draw_new', drawing: 'bench_draw_new', flags: 'S' };
const DRAW_SERVICE: Measured = { program: 'bench_draw_service', drawing: 'bench_draw_service', flags: 'A' };
const UNIT: Measured = { program: 'bench_unit', drawing: 'bench_draw', flags: 'A' };
const FIGURES: readonly Figured[] = [
  { name: 'established', program: 'bench_established', drawing: 'bench_draw', flags: 'A', bar: 3 },
  { name: 'decision', program: 'bench_decision', drawing: 'bench_draw_new', flags: 'S', bar: 8 },
  { name: 'decision with insert and event', program: 'bench_new', drawing: 'bench_draw_new', flags: 'S', bar: 14 },
  {
    name: 'no more than insert, removal and event',
    program: 'bench_floor',
    drawing: 'bench_draw_new',
    flags: 'S',
    bar: null,
  },
];
/** Once there is a Service. */
const SERVICE_FIGURES: readonly Figured[] = [
  { name: 'decision, beside a Service', program: 'bench_decision', drawing: 'bench_draw_new', flags: 'S', bar: null },
  { name: 'to a Service, established', program: 'bench_service', drawing: 'bench_draw_service', flags: 'A', bar: null },
  { name: 'of a backend, established', program: 'bench_answer', drawing: 'bench_draw_service', flags: 'PA', bar: null },
  {
    name: 'to a Service, decision with insert and event',
    program: 'bench_service_new',
    drawing: 'bench_draw_service',
    flags: 'S',
    bar: null,
  },
];

const WITH_EVENTS: ReadonlySet<BenchProgram> = new Set(['bench_new', 'bench_floor', 'bench_service_new']);

/** Nanoseconds a packet of each program, slot by slot. */
type Times = ReadonlyMap<BenchProgram, readonly number[]>;

/** Each round runs every program once, and starts with another. */
function runSlots(world: BpfWorld, measured: readonly Figured[]): Times {
  const all: readonly Measured[] = [EMPTY, DRAW, DRAW_NEW, DRAW_SERVICE, UNIT, ...measured];
  const times = new Map(all.map(({ program }): [BenchProgram, number[]] => [program, []]));
  for (let round = 0; round < SLOTS; round++) {
    for (let index = 0; index < all.length; index++) {
      const one = all[(round + index) % all.length];
      if (one !== undefined) times.get(one.program)?.push(runSlot(world, one));
    }
  }
  return times;
}

/** Throws where a program did not do what its name says: each new flow, and nothing else, is an event. */
function runSlot(world: BpfWorld, { program, flags }: Measured): number {
  const nanoseconds = world.run(program, PACKETS, flags);
  const events = world.takeEvents();
  const expected = WITH_EVENTS.has(program) ? PACKETS : 0;
  if (Math.abs(events - expected) > PACKETS / 10) throw new Error(`${program}: ${events} events, not ${expected}`);
  return nanoseconds / PACKETS;
}

function costOf(times: Times, { program, drawing }: Measured): number {
  const median = (of: BenchProgram): number => quantile(times.get(of) ?? [], 0.5);
  return median(program) - median(drawing) + median(EMPTY.program);
}

function print(mode: string, measured: readonly Figured[], times: Times, figures: Figures): void {
  const unit = costOf(times, UNIT);
  const line = { name: `BPF ${mode}, one look-up`, value: rounded(unit), unit: 'ns', baseline: null, ratio: null };
  figures.print(line);
  for (const figure of measured) {
    const cost = costOf(times, figure);
    const compared = { baseline: 'one look-up', ratio: rounded(cost / unit) };
    const bar = figure.bar === null ? {} : { bar: { most: figure.bar } };
    figures.print({ ...line, name: `BPF ${mode}, ${figure.name}`, value: rounded(cost), ...compared, ...bar });
  }
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

const figures = new Figures();
for (const mode of MODES) {
  const world = new BpfWorld(mode);
  try {
    world.fill(mode);
    print(mode.name, FIGURES, runSlots(world, FIGURES), figures);
    // Ports are soon drawn again: elsewhere their flows would stand for long.
    if (mode !== HOT) continue;
    world.serve(mode);
    print(mode.name, SERVICE_FIGURES, runSlots(world, SERVICE_FIGURES), figures);
  } finally {
    world.close();
  }
}
figures.close();
