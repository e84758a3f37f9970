// A node whose kernel has less room than its policies need says so, and whose policy it is. Needs root.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { NodeState } from '#agent/node-state.ts';
import { parseManifest } from '#cluster/manifests/parse.ts';
import { buildWorld } from '#cluster/world/build.ts';
import { diffWorlds } from '#cluster/world/diff.ts';
import { Compiler } from '#compile/compiler.ts';
import { openDatapath, unpinDatapath } from '#datapath/ebpf/open.ts';
import { mountBpffs } from '#kernel/bpffs.ts';
import { EMPTY_WORLD, STANDARD_SEMANTICS, type World } from '#policy/world.ts';
import { needsRoot } from './support/needs.ts';

const SIZES = { ct_map: 1280, arena: 4096, class_map: 8 };

/** A pod that lets so many blocks in, each on a port of its own. */
function world(blocks: number): World {
  const rules = Array.from({ length: blocks }, (_, index) => {
    return `{from: [{ipBlock: {cidr: 10.1.${index}.0/24}}], ports: [{port: ${index + 1}}]}`;
  });
  const text = `apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec: {containers: [], nodeName: node-a}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wide, namespace: shop}
spec: {podSelector: {}, ingress: [${rules}]}
`;
  return buildWorld(parseManifest(text, 'wide.yaml').objects).world;
}

test('what the kernel has no room for is said, with a policy that it is about (needs root)', needsRoot, async () => {
  mountBpffs();
  const instance = `moattest-fullnode-${process.pid}`;
  const compiler = new Compiler({ semantics: STANDARD_SEMANTICS, isLocal: () => true });
  const state = new NodeState('node-a', compiler, openDatapath({ instance, node: 'node-a', sizes: SIZES }));
  try {
    state.apply(diffWorlds(EMPTY_WORLD, world(12)), 1);
    const [said = '', ...others] = state.lacks;
    assert.deepEqual(others, []);
    assert.match(said, /^the kernel's table class_map is full: there is no room for 4 peers with rules of their own/);
    assert.match(said, /\(of NetworkPolicy shop\/wide, spec.ingress\[\d+\], among others\)/);
    state.apply(diffWorlds(world(12), world(6)), 2);
    // What is gone gives its room back once no packet can ask for it.
    for (let tries = 0; tries < 200 && state.lacks.length > 0; tries++) await setTimeout(10);
    assert.deepEqual(state.lacks, []);
    assert.equal(state.failure, null);
  } finally {
    state.close();
    unpinDatapath(instance, 'node-a');
  }
});
