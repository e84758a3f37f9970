// What is given back of files in memory: what the kernel says of them, and that a process goes on without them.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileMappings, giveBack } from './give-back.ts';

/** As /proc/PID/smaps has them, fewer lines of each. */
function smap(line: string, anonymous: number): string {
  return `${line}\nSize:                100 kB\nRss:                 100 kB\nAnonymous:      ${String(anonymous).padStart(6)} kB\nVmFlags: rd mr mw me sd \n`;
}

test('of what is mapped, files that are only read are given back, where no page is the process’s own', () => {
  const kept = [
    smap('7f0000000000-7f0000002000 rw-p 00001000 fe:00 77                        /lib/node', 0),
    smap('7f0000002000-7f0000004000 r--p 00001000 fe:00 77                        /lib/node', 8),
    smap('7f0000004000-7f0000006000 r-xp 00000000 00:00 0 ', 0),
    smap('7f0000006000-7f0000008000 r-xp 00000000 00:00 0                         [vdso]', 0),
    smap('7f0000008000-7f000000a000 r--s 00001000 00:0e 77                        /lib/shared', 0),
    smap('7f000000a000-7f000000c000 r--s 00001000 00:0e 77                        anon_inode:bpf-map', 0),
    smap('7f000000c000-7f000000e000 rwxp 00001000 fe:00 77                        /lib/node', 0),
  ];
  const given = [
    smap('7f0000010000-7f0000013000 r-xp 00001000 fe:00 77                        /lib/node', 0),
    smap('7f0000020000-7f0000021000 r--p 00001000 fe:00 78                        /lib/with space (deleted)', 0),
  ];
  assert.deepEqual(fileMappings([...kept.slice(0, 3), given[0], ...kept.slice(3), given[1]].join('')), [
    { at: 0x7f0000010000n, size: 0x3000n },
    { at: 0x7f0000020000n, size: 0x1000n },
  ]);
  assert.deepEqual(fileMappings(kept.join('')), []);
});

test('a process is smaller without them, and goes on', () => {
  const resident = (): number => Number(readFileSync('/proc/self/status', 'utf8').match(/RssFile:\s+(\d+)/)?.[1]);
  const before = resident();
  giveBack();
  const after = resident();
  assert.ok(after < before / 2, `${before} kB of files before, ${after} kB since`);
  assert.equal(createHash('sha256').update('moat').digest('hex').length, 64);
  assert.deepEqual(JSON.parse(JSON.stringify({ a: [1, 'x'] })), { a: [1, 'x'] });
});
