// Two worlds → the events that lead from one to the other, in an order that never names what is not there yet.
import { isDeepStrictEqual } from 'node:util';
import type { World, WorldEvent } from '#policy/world.ts';

/** Namespaces and nodes come before the pods in them, and go after them. Nothing for what is the same. */
export function diffWorlds(before: World, after: World): WorldEvent[] {
  const namespaces = changes(before.namespaces, after.namespaces, (name, value) => ({
    kind: 'namespace',
    name,
    value,
  }));
  const nodes = changes(before.nodes, after.nodes, (name, value) => ({ kind: 'node', name, value }));
  const pods = changes(before.pods, after.pods, (key, value) => ({ kind: 'pod', key, value }));
  const policies = changes(before.policies, after.policies, (key, value) => ({ kind: 'policy', key, value }));
  // New policies before new pods: a pod is isolated from its first packet on. Old pods go before old policies.
  return [
    ...namespaces.set,
    ...nodes.set,
    ...policies.set,
    ...pods.gone,
    ...pods.set,
    ...policies.gone,
    ...nodes.gone,
    ...namespaces.gone,
  ];
}

type Changes = { readonly set: readonly WorldEvent[]; readonly gone: readonly WorldEvent[] };

function changes<Key extends string, Value>(
  before: ReadonlyMap<Key, Value>,
  after: ReadonlyMap<Key, Value>,
  event: (key: Key, value: Value | null) => WorldEvent,
): Changes {
  const changed = [...after].filter(([key, value]) => !isDeepStrictEqual(before.get(key), value));
  const gone = [...before.keys()].filter((key) => !after.has(key));
  return { set: changed.map(([key, value]) => event(key, value)), gone: gone.map((key) => event(key, null)) };
}
