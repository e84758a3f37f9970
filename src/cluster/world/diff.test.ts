// Events between worlds: they lead from one to the other, in an order that can be applied.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EMPTY_WORLD, type World, type WorldEvent } from '#policy/world.ts';
import { worldOf } from '#test/support/worlds.ts';
import { diffWorlds } from './diff.ts';

const pod = (name: string, labels: string, namespace = 'a'): string =>
  `---\napiVersion: v1\nkind: Pod\nmetadata: {name: ${name}, namespace: ${namespace}, labels: {x: "${labels}"}}\n`;
const policy = (name: string, spec: string): string =>
  `---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ${name}, namespace: a}\nspec: ${spec}\n`;

function sayEvent(event: WorldEvent): string {
  const name = event.kind === 'pod' || event.kind === 'policy' ? event.key : event.name;
  return `${event.value === null ? '-' : '+'}${event.kind} ${name}`;
}

function apply(world: World, events: readonly WorldEvent[]): World {
  const next = {
    namespaces: new Map(world.namespaces),
    nodes: new Map(world.nodes),
    pods: new Map(world.pods),
    policies: new Map(world.policies),
  };
  const put = <Key, Value>(map: Map<Key, Value>, key: Key, value: Value | null): void => {
    if (value === null) map.delete(key);
    else map.set(key, value);
  };
  for (const event of events) {
    if (event.kind === 'pod') put(next.pods, event.key, event.value);
    else if (event.kind === 'policy') put(next.policies, event.key, event.value);
    else if (event.kind === 'node') put(next.nodes, event.name, event.value);
    else put(next.namespaces, event.name, event.value);
  }
  return next;
}

const BEFORE = pod('gone', '1') + pod('same', '1') + pod('changed', '1') + policy('old', '{}') + policy('kept', '{}');

test('diff: the same objects make no events', () => {
  const before = worldOf(BEFORE);
  assert.deepEqual(diffWorlds(before, worldOf(BEFORE, { previous: before })), []);
});

test('diff: what changed is an event, and applying the events gives the other world', () => {
  const before = worldOf(BEFORE);
  const after = worldOf(pod('same', '1') + pod('changed', '2') + policy('new', '{}') + pod('fresh', '1', 'b'), {
    previous: before,
  });
  const events = diffWorlds(before, after);
  assert.deepEqual(events.map(sayEvent), [
    '+namespace b',
    '+policy NetworkPolicy/a/new',
    '-pod a/gone',
    '+pod a/changed',
    '+pod b/fresh',
    '-policy NetworkPolicy/a/old',
    '-policy NetworkPolicy/a/kept',
  ]);
  assert.deepEqual(apply(before, events), after);
});

test('diff: from nothing, nodes and policies come before the pods, and go after them', () => {
  const full = worldOf(BEFORE);
  const kinds = (events: readonly WorldEvent[]): string[] => [...new Set(events.map(({ kind }) => kind))];
  assert.deepEqual(kinds(diffWorlds(EMPTY_WORLD, full)), ['namespace', 'node', 'policy', 'pod']);
  assert.deepEqual(kinds(diffWorlds(full, EMPTY_WORLD)), ['pod', 'policy', 'node', 'namespace']);
});
