// Services by Moat against kube-proxy's nftables mode: new connections, their 99th percentile, and how soon a change of endpoints
// is in force, with 10, 1 000 and 10 000 Services. Three nodes side by side, each with an API server: Moat, kube-proxy without any
// policy, and its twin, the control. Needs root; `make bench-services`, or COUNT=1000 for one of them.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Figures } from '../bench/figure.ts';
import { compareSlots, quantile } from '../bench/slots.ts';
import { buildTraffic, runPairs } from '../bench/traffic.ts';
import type { SideReady, SideUpdated } from './service-side.ts';

const COUNTS = process.env.COUNT === undefined ? [10, 1000, 10_000] : [Number(process.env.COUNT)];
const SIDES = { 'kube-proxy': 'kube-proxy', twin: 'kube-proxy', moat: 'moat' } as const;
type Name = keyof typeof SIDES;
const NAMES = Object.keys(SIDES) as readonly Name[];
const SLOTS = Number(process.env.MOAT_BENCH_SLOTS ?? 100);
/** A control that is further off makes a run invalid. */
const CONTROL = 0.02;

async function heard<T>(child: ChildProcess): Promise<T> {
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('a side has ended')));
  const [message] = await Promise.race([once(child, 'message'), ended]);
  return message as T;
}

async function measure(figures: Figures, count: number): Promise<void> {
  const children = new Map<Name, ChildProcess>();
  const pairs: string[] = [];
  try {
    for (const name of NAMES) {
      process.stderr.write(`bench: ${count} Services, ${name}\n`);
      const child = fork(join(import.meta.dirname, 'service-side.ts'), [SIDES[name], String(count)]);
      children.set(name, child);
      pairs.push(`${name},${(await heard<SideReady>(child)).pair}`);
    }
    await connections(figures, count, pairs);
    for (const name of ['kube-proxy', 'moat'] as const)
      await updates(figures, count, { name, child: children.get(name) });
  } finally {
    for (const child of children.values()) {
      if (child.exitCode !== null || !child.connected) continue;
      child.send('end');
      await once(child, 'exit');
    }
  }
}

async function connections(figures: Figures, count: number, pairs: readonly string[]): Promise<void> {
  const kinds = [
    { kind: 'crr', what: 'new connections', unit: '1/s', column: 0, by: 'slots' },
    { kind: 'new', what: 'a new connection, p50', unit: 'µs', column: 0, by: 'slots' },
    { kind: 'new', what: 'a new connection, p99', unit: 'µs', column: 1, by: 'pool' },
  ] as const;
  const runs = { crr: await runPairs('crr', SLOTS, pairs), new: await runPairs('new', SLOTS, pairs) };
  for (const { kind, what, unit, column, by } of kinds) {
    const compare = (pair: Name): ReturnType<typeof compareSlots> =>
      compareSlots(runs[kind], { column, by, pair, against: 'kube-proxy' });
    const control = compare('twin');
    const isOff = Math.abs(control.ratio - 1) > CONTROL;
    const invalid = isOff ? { invalid: `the control differs from its twin: ${control.ratio}` } : {};
    for (const pair of ['twin', 'moat'] as const) {
      const name = `${count} Services, ${what}, ${pair}`;
      figures.print({ name, unit, baseline: 'kube-proxy', ...compare(pair), ...invalid });
    }
  }
}

async function updates(
  figures: Figures,
  count: number,
  { name, child }: { readonly name: Name; readonly child: ChildProcess | undefined },
): Promise<void> {
  if (child === undefined) return;
  const said = heard<SideUpdated>(child);
  child.send('update');
  const { tookMs, cpuMs } = await said;
  const print = (what: string, value: number): void =>
    figures.print({ name: `${count} Services, ${what}, ${name}`, value, unit: 'ms', baseline: null, ratio: null });
  print('endpoints changed to first connection, p50', Math.round(quantile(tookMs, 0.5) * 10) / 10);
  print('the same, longest of ten', Math.round(Math.max(...tookMs) * 10) / 10);
  print('CPU of it', Math.round(cpuMs * 10) / 10);
}

buildTraffic();
const figures = new Figures();
for (const count of COUNTS) await measure(figures, count);
figures.close();
process.exit(0);
