// Which folder is taken for the root of cgroup2, by what is mounted.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { cgroupRoot } from './cgroup.ts';

let folder = '';

/** A root has no type; what is below it has. */
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'moat-cgroup-'));
  for (const name of ['root', 'part']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'part/cgroup.type'), 'domain\n');
});
after(() => rmSync(folder, { recursive: true }));

const mount = (path: string, kind: string): string => `41 31 0:38 / ${path} rw,relatime shared:9 - ${kind} cgroup rw\n`;

it('the root of cgroup2 is found beside hierarchies of v1, and beside a container’s own part', () => {
  const mounts = [
    mount(folder, 'cgroup'),
    mount(join(folder, 'part'), 'cgroup2'),
    mount(join(folder, 'root'), 'cgroup2'),
  ];
  assert.equal(cgroupRoot(mounts.join('')), join(folder, 'root'));
});

it('a part of the tree is no root, nor is what is not there, or of v1', () => {
  for (const [path, kind] of [
    ['part', 'cgroup2'],
    ['gone', 'cgroup2'],
    ['root', 'cgroup'],
  ] as const) {
    assert.equal(cgroupRoot(mount(join(folder, path), kind)), null, `${path} ${kind}`);
  }
  assert.equal(cgroupRoot(''), null);
});
