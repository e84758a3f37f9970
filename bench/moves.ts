// What a selector costs that moves many addresses to new identities, by where it costs it, and how long it holds up the
// agent's loop and other changes. Part of `make bench`; needs root. SHAPE=few or many.
// How long another change in between takes is told, and held to no bar.
import { GCProfiler } from 'node:v8';
import { Slices } from '#agent/slices.ts';
import { Compiler } from '#compile/compiler.ts';
import { GradualCompiler, type Work } from '#compile/gradual.ts';
import { atomsOf } from '#compile/parts.ts';
import type { Step } from '#compile/plan.ts';
import { Encoder } from '#datapath/ebpf/encode/encoder.ts';
import type { Sink } from '#datapath/ebpf/encode/sink.ts';
import { openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import type { Datapath } from '#datapath/port.ts';
import { Identifier } from '#identity/identifier.ts';
import { Population } from '#identity/population.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { TCP } from '#net/protocol.ts';
import { type Policy, policyKey, type Rule } from '#policy/model.ts';
import { STANDARD_SEMANTICS, type WorldEvent } from '#policy/world.ts';
import { Figures } from './figure.ts';
import { EVERY, FULL, inLabel, Load, NODE, podEvent, policyEvent, policyOf, SPACE } from './load.ts';
import { quantile } from './slots.ts';
import { threadTimeNs } from './thread-time.ts';

/** Another change comes with every so many slices. */
const EVERY_SLICES = 3;

const none = { baseline: null, ratio: null };

/** Selects all pods of one version, a tenth of them, whatever namespace they are in. */
function wide(version: string, port = 9000): Policy {
  const peer = { kind: 'pods', namespaces: { kind: 'labelled', selector: EVERY }, pods: inLabel('version', version) };
  const rule = { peers: [peer as never], ports: [{ kind: 'range', protocol: TCP, first: port, last: port } as never] };
  return policyOf({ space: SPACE, name: `wide-${version}`, subject: EVERY, ingress: [rule], egress: [rule] });
}

/** The same selectors in a policy that denies. */
function denying(version: string): Policy {
  const { egress, ingress, ...policy } = wide(version);
  const denied = (rules: readonly Rule[]): Rule[] => rules.map((rule) => ({ ...rule, action: 'deny' }));
  const isolates = { egress: false, ingress: false };
  const key = policyKey('policy', SPACE, `deny-${version}`);
  // Before all that allow.
  return { ...policy, key, order: `${SPACE}/a`, isolates, egress: denied(egress), ingress: denied(ingress) };
}

/** `many`: the load of the bars. `few`: the same pods, and no policy that selects the measured ones but their own traffic. */
function eventsOf(load: Load, shape: string): WorldEvent[] {
  const all = [...load.pages()].flat();
  if (shape === 'many') return all;
  return all.filter(
    (event) => event.kind !== 'policy' || !event.key.includes(`${SPACE}/`) || event.key.endsWith('/own'),
  );
}

function cpuMs(): number {
  return threadTimeNs() / 1e6;
}

/** Writes nothing. */
const NOWHERE: Sink = {
  put: () => undefined,
  read: () => null,
  flush: () => undefined,
  retry: () => undefined,
  waiting: new Map(),
  remove: () => undefined,
  record: () => undefined,
  word: () => undefined,
  live: () => undefined,
  mark: () => undefined,
  state: () => undefined,
};

type Change = () => readonly Step[];

class Costs {
  compilerMs = 0;
  encoderMs = 0;
  datapathMs = 0;
  addresses = 0;
  classes = 0;
  readonly slicesMs: number[] = [];
  /** The same without the collections of the heap that they met. */
  readonly workMs: number[] = [];
  readonly othersMs: number[] = [];

  count(steps: readonly Step[]): void {
    for (const { kind } of steps) {
      if (kind === 'address') this.addresses++;
      if (kind === 'class') this.classes++;
    }
  }
}

/** The identities alone: what a selector that is foreseen costs them. */
function identityMs(events: readonly WorldEvent[], policy: Policy): number {
  const population = new Population();
  const sink = { address: () => undefined, prefix: () => undefined };
  const identifier = new Identifier(population, { sink, ipBlockPods: true });
  for (const event of events) {
    if (event.kind === 'namespace') population.setNamespace(event.name, event.value);
    else if (event.kind === 'node') population.setNode(event.name, event.value);
    else if (event.kind === 'pod') population.setPod(event.key, event.value);
    else if (event.value !== null && event.key.includes(`${SPACE}/`)) {
      for (const spec of atomsOf(event.value)) identifier.acquire(spec);
    }
  }
  identifier.settle();
  const startMs = cpuMs();
  for (const spec of atomsOf(policy)) identifier.acquire(spec);
  const waiting = identifier.foresee(0);
  while (waiting !== null && waiting.left > 0) identifier.advance(waiting, 128);
  return cpuMs() - startMs;
}

function printer(figures: Figures, name: string): (what: string, value: number, unit: string, most?: number) => void {
  return (what, value, unit, most) => {
    const bar = most === undefined ? {} : { bar: { most } };
    figures.print({ name: `${what}, ${name}`, value: Number(value.toFixed(2)), unit, ...none, ...bar });
  };
}

function reportSlices(figures: Figures, costs: Costs, name: string): void {
  const print = printer(figures, name);
  print('slices', costs.slicesMs.length, 'count');
  print('slices, median', quantile(costs.slicesMs, 0.5), 'ms');
  print('longest slice', Math.max(...costs.slicesMs), 'ms', 5);
  print('longest slice, without collections of the heap', Math.max(...costs.workMs), 'ms', 5);
  if (costs.othersMs.length > 0) print('another change in between, p99', quantile(costs.othersMs, 0.99), 'ms');
}

/** What nothing moves for, but classes are written anew. */
function reportClasses(figures: Figures, costs: Costs, name: string): void {
  const print = printer(figures, name);
  print('classes written', costs.classes, 'count');
  print('CPU a class', ((costs.compilerMs + costs.datapathMs) * 1000) / costs.classes, 'us');
  reportSlices(figures, costs, name);
}

function report(figures: Figures, costs: Costs, of: { readonly name: string; readonly identityMs: number }): void {
  const print = printer(figures, of.name);
  const each = (ms: number): number => (ms * 1000) / costs.addresses;
  print('addresses moved', costs.addresses, 'count');
  print('classes written', costs.classes, 'count');
  print('CPU an address', each(costs.compilerMs + costs.datapathMs), 'us', 2);
  print('CPU an address: identities alone', each(of.identityMs), 'us');
  print('CPU an address: compiler with identities', each(costs.compilerMs), 'us');
  print('CPU an address: encoder', each(costs.encoderMs), 'us');
  print('CPU an address: bpf(2) and shared memory', each(costs.datapathMs - costs.encoderMs), 'us');
  reportSlices(figures, costs, of.name);
}

/** Applies a change and counts what it cost. Returns how long it took by the clock, in milliseconds. */
function stepper(datapath: Pick<Datapath, 'apply'>, encoder: Encoder): (change: Change, costs: Costs) => number {
  return (change, costs) => {
    const collections = new GCProfiler();
    collections.start();
    const times = [performance.now(), cpuMs()];
    const steps = change();
    times.push(cpuMs());
    datapath.apply(steps);
    times.push(performance.now(), cpuMs());
    const collectedUs = collections.stop().statistics.reduce((sum, { cost }) => sum + cost, 0);
    encoder.apply(steps);
    encoder.finish(encoder.limbo.take());
    const [startMs = 0, first = 0, compiled = 0, endMs = 0, applied = 0] = times;
    costs.compilerMs += compiled - first;
    costs.datapathMs += applied - compiled;
    costs.encoderMs += cpuMs() - applied;
    costs.count(steps);
    costs.slicesMs.push(endMs - startMs);
    costs.workMs.push(endMs - startMs - collectedUs / 1000);
    return endMs - startMs;
  };
}

type Run = {
  readonly compiler: GradualCompiler;
  readonly load: Load;
  readonly step: ReturnType<typeof stepper>;
  revision: number;
};

/** Takes a change in slice by slice, with others in between. */
function workOff(run: Run, event: WorldEvent): Costs {
  const costs = new Costs();
  const other = new Costs();
  const { compiler, load, step } = run;
  const slices = new Slices<Work>();
  step(() => compiler.apply([event], ++run.revision), costs);
  for (let turn = 0; compiler.isBusy; turn++) {
    const work = compiler.next;
    const most = slices.size(work);
    const ms = step(() => compiler.advance(most), costs);
    slices.took(work, ms);
    if (turn % EVERY_SLICES > 0) continue;
    const change =
      turn % 2 === 0 ? podEvent(load.remotePod(turn, turn % 10)) : policyEvent(load.workloadPolicy(turn % 100, turn));
    // It came when the slice had just begun.
    costs.othersMs.push(ms + step(() => compiler.apply([change], ++run.revision), other));
  }
  return costs;
}

function measure(figures: Figures, shape: string): void {
  const load = new Load(FULL);
  // Before anything else is there: what it leaves to collect must not be collected in a slice.
  const aloneMs = identityMs(eventsOf(load, shape), wide('v3'));
  const instance = `moves${process.pid}`;
  const datapath = openDatapath({ instance, node: NODE });
  try {
    const compiler = new GradualCompiler(
      new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: (pod) => pod.node === NODE }),
    );
    const NO_SERVICES = { services: 1, servicePlaces: 1, backends: 1, serviceMarks: 1 };
    const sizes = {
      arena: 1 << 20,
      sets: 4096,
      setSlots: 8192,
      endpointSlots: 4096,
      peerEpochs: 65_536,
      ...NO_SERVICES,
    };
    const empty = { epoch: 0n, generation: 0, base: 0, bank: 0, serviceBank: 0, inherited: [] } as const;
    const encoder = new Encoder(NOWHERE, { node: NODE, sizes, ...empty, wait: () => undefined });
    const run: Run = { compiler, load, step: stepper(datapath, encoder), revision: 0 };
    run.step(() => compiler.apply(eventsOf(load, shape), ++run.revision), new Costs());
    for (const version of ['v3', 'v4', 'v5']) {
      const costs = workOff(run, policyEvent(wide(version)));
      report(figures, costs, { name: `${shape} new identities, ${version}`, identityMs: aloneMs });
    }
    // All of whom they speak are known by now.
    const { key } = wide('v3');
    reportClasses(figures, workOff(run, policyEvent(wide('v3', 9100))), `a policy's ports change, ${shape} identities`);
    reportClasses(figures, workOff(run, policyEvent(denying('v4'))), `a policy denies, ${shape} identities`);
    reportClasses(figures, workOff(run, { kind: 'policy', key, value: null }), `a policy goes, ${shape} identities`);
  } finally {
    datapath.close();
    unpinDatapath(instance, NODE);
  }
}

mountBpffs();
const figures = new Figures();
for (const shape of ['few', 'many']) {
  if ((process.env.SHAPE ?? shape) === shape) measure(figures, shape);
}
figures.close();
process.exit(0);
