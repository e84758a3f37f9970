// Packets under policy, against plain kernel routing and against other engines: part of `make bench`. Needs root.
// One JSON line a figure on standard output; progress, and bars that were missed, on standard error. ONLY=NAME,NAME
// runs some sections of it; `million` runs only where it is named: it takes 6 GB of memory, and minutes until it is in
// force. MOAT_BENCH_SLOTS=20 measures a fifth as long, for a look; its control need not hold.
import { mountBpffs } from '#kernel/bpffs.ts';
import { requireRoot } from '#sandbox/owner.ts';
import { Figures } from './figure.ts';
import { SECTIONS } from './sections.ts';
import { buildTraffic } from './traffic.ts';

const only = process.env.ONLY?.split(',') ?? Object.keys(SECTIONS).filter((name) => name !== 'million');
const unknown = only.filter((name) => !Object.hasOwn(SECTIONS, name));
if (unknown.length > 0) {
  process.stderr.write(`bench: no section ${unknown.join(', ')}; there are ${Object.keys(SECTIONS).join(', ')}\n`);
  process.exit(2);
}
requireRoot();
mountBpffs();
buildTraffic();
const figures = new Figures();
for (const name of only) {
  const startedMs = performance.now();
  await SECTIONS[name]?.(figures);
  process.stderr.write(`bench: ${name} took ${((performance.now() - startedMs) / 1000).toFixed(0)} s\n`);
}
figures.close();
