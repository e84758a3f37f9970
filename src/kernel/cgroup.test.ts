// Which folder is taken for the root of cgroup2, by what is mounted. Needs root, to make a cgroup.
import assert from 'node:assert/strict';
import { mkdirSync, rmdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { needsRoot } from '#test/support/needs.ts';
import { cgroupRoot } from './cgroup.ts';

describe('the root of cgroup2 (root)', needsRoot, () => {
  let root = '';
  let part = '';

  before(() => {
    root = cgroupRoot() ?? '';
    assert.notEqual(root, '', 'this machine has one');
    part = `${root}/moattest-${process.pid}`;
    mkdirSync(part);
  });
  after(() => rmdirSync(part));

  const mount = (path: string, kind = 'cgroup2'): string =>
    `41 31 0:38 / ${path} rw,relatime shared:9 - ${kind} cgroup rw\n`;

  it('is found beside hierarchies of v1, and beside a container’s own part', () => {
    const mounts = [mount('/sys', 'cgroup'), mount(part), mount(root)].join('');
    assert.equal(cgroupRoot({ mounts }), root);
  });

  it('is no part of the tree, nothing that is not there, covered by something else, or of v1', () => {
    const wrong = [mount(part), mount('/gone'), mount('/proc'), mount(root, 'cgroup'), ''];
    for (const mounts of wrong) assert.equal(cgroupRoot({ mounts }), null, mounts);
  });

  it('is the part that a node has which is a container itself, where its folders are', () => {
    assert.equal(cgroupRoot({ mounts: mount(part), nodeFolders: `${root}/` }), part);
    assert.equal(cgroupRoot({ mounts: [mount(part), mount(root)].join(''), nodeFolders: `${root}/` }), root);
  });
});
