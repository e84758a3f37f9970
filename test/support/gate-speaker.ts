// A thread that tries a connection while the main thread stands at a gate of the kernel programs (gated-programs.ts).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { GateWord } from './gate-word.ts';
import type { Place } from './gated-programs.ts';
import { type Ends, speaks } from './holder.ts';
import { keepThreadOn, threadCpus } from './thread-cpus.ts';

type Orders = { readonly tables: string; readonly place: Place; readonly ends: Ends; readonly cpu: number };

/** Whether the connection speaks while `work`, on this thread, stands at this place. `tables`: where the maps are pinned. */
export async function speaksDuring(work: () => void, orders: Omit<Orders, 'cpu'>): Promise<boolean> {
  const cpus = threadCpus();
  assert.ok(cpus.length > 1, 'who opens a gate needs another CPU than who stands there');
  const worker = new Worker(import.meta.filename, { workerData: { ...orders, cpu: cpus.at(-1) } });
  await once(worker, 'message');
  const said = once(worker, 'message');
  keepThreadOn(cpus.slice(0, 1));
  try {
    work();
    return Boolean((await said)[0]);
  } finally {
    keepThreadOn(cpus);
  }
}

if (!isMainThread) {
  const { tables, place, ends, cpu } = workerData as Orders;
  keepThreadOn([cpu]);
  const word = new GateWord(tables);
  word.shut(place);
  parentPort?.postMessage('shut');
  parentPort?.postMessage(word.during(place, () => speaks(ends)));
  word.close();
}
