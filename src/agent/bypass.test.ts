// What is known of a bypass while the kernel is in hand, and while it is not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bypass } from './bypass.ts';
import { Log } from './log.ts';
import { Meters } from './metrics/meters.ts';
import { Observer } from './observer.ts';

test('a bypass is known on while no datapath is open, until its end', () => {
  const lines: string[] = [];
  const log = new Log({ format: 'text', level: 'info' }, { write: (line) => void lines.push(line), nowMs: Date.now });
  const bypass = new Bypass(
    'node-a',
    new Observer({ log, meters: new Meters(), note: () => undefined, logDenies: false }),
  );
  const now = performance.now();
  assert.equal(bypass.leftMs(null, now), 0);
  bypass.look({ bypassMs: 60_000 }, now);
  assert.equal(bypass.leftMs({ bypassMs: 59_000 }, now), 59_000, 'by the kernel, where it can be asked');
  assert.equal(bypass.leftMs(null, now + 20_000), 40_000);
  assert.equal(bypass.leftMs(null, now + 70_000), 0);
  bypass.ask({ bypassMs: 0 }, { forMs: 0, by: 'root' });
  assert.equal(bypass.leftMs(null, performance.now()), 0);
  assert.equal(lines.length, 2);
});
