// A thread that tries a connection while the main thread stands at a gate of the kernel programs (gated-programs.ts).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { GateWord } from './gate-word.ts';
import type { Place } from './gated-programs.ts';
import { type Asking, accepts, type Ends, speaks } from './holder.ts';
import { keepThreadOn, threadCpus } from './thread-cpus.ts';

/** `tables`: where the maps are pinned. */
type Moment = { readonly tables: string; readonly place: Place };
/** A connection that is open, or one to open. */
type Orders = Moment & { readonly ends?: Ends; readonly asking?: Asking; readonly cpu: number };

/** Whether the connection speaks while `work`, on this thread, stands at this place. */
export async function speaksDuring(
  work: () => void,
  { ends, ...moment }: Moment & { readonly ends: Ends },
): Promise<boolean> {
  return (await during(work, { ...moment, ends })) === true;
}

/** Opens a connection while `work`, on this thread, stands at this place; `work` ends before this does. */
export async function opensDuring(
  work: () => void,
  { asking, ...moment }: Moment & { readonly asking: Asking },
): Promise<Ends> {
  const server = await during(work, { ...moment, asking });
  assert.ok(typeof server === 'number', 'the connection opens');
  return { client: asking.client, server };
}

async function during(work: () => void, orders: Omit<Orders, 'cpu'>): Promise<unknown> {
  const cpus = threadCpus();
  assert.ok(cpus.length > 1, 'who opens a gate needs another CPU than who stands there');
  const worker = new Worker(import.meta.filename, { workerData: { ...orders, cpu: cpus.at(-1) } });
  await once(worker, 'message');
  const said = once(worker, 'message');
  keepThreadOn(cpus.slice(0, 1));
  try {
    work();
    return (await said)[0];
  } finally {
    keepThreadOn(cpus);
  }
}

if (!isMainThread) {
  const { tables, place, ends, asking, cpu } = workerData as Orders;
  keepThreadOn([cpu]);
  const word = new GateWord(tables);
  word.shut(place);
  parentPort?.postMessage('shut');
  const act = (): unknown => (ends === undefined ? asking && accepts(asking) : speaks(ends));
  parentPort?.postMessage(word.during(place, act));
  word.close();
}
