// Objects → the world that policies are judged in. Pure: the same objects give the same world.

import { lowerNetworkPolicy } from '#dialects/kubernetes/lower.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import type { Policy, PolicyKey } from '#policy/model.ts';
import type { SourceObject } from '#policy/object.ts';
import { impliedNamespace, type Namespace, podKey, type World } from '#policy/world.ts';
import { separateAddresses, unnamed } from './addresses.ts';
import { complainOf, takeInventory, type UnknownKind } from './inventory.ts';
import { readNamespace } from './namespace.ts';
import { findNodes } from './nodes.ts';
import { assignAddresses, needsAddress, placePods } from './place.ts';
import { findPods } from './workloads.ts';

export type BuildOptions = {
  /** How many nodes there are at least, where the input declares none. */
  readonly nodeCount: number;
  /** The world before a change; pods keep the node and address they had. */
  readonly previous: World | null;
};

export type Built = {
  readonly world: World;
  readonly unknownKinds: readonly UnknownKind[];
  readonly diagnostics: readonly Diagnostic[];
};

export const DEFAULT_BUILD: BuildOptions = { nodeCount: 2, previous: null };

/** Builds the world. Whatever is wrong becomes a diagnostic; the world is then what a lenient reader makes of it. */
export function buildWorld(input: readonly SourceObject[], options: BuildOptions = DEFAULT_BUILD): Built {
  const { objects, unknownKinds, diagnostics } = takeInventory(input);
  const namespaces = findNamespaces(objects);
  const policies = findPolicies(objects);
  const nodes = findNodes(objects);
  const nodeCount = objects.some(({ kind }) => kind === 'Node') ? 1 : options.nodeCount;
  const found = findPods(objects, Math.max(nodes.nodes.size, nodeCount));
  const own = separateAddresses(objects, nodes.nodes, found.pods);
  const bare: World = { namespaces: namespaces.value, nodes: own.nodes, pods: own.pods, policies: policies.value };
  const world = assignAddresses(placePods(bare, nodeCount, options.previous), options.previous);
  const parts = [namespaces, policies, nodes, found, own].flatMap((part) => part.diagnostics);
  return { world, unknownKinds, diagnostics: [...diagnostics, ...parts, ...homeless(objects, world)] };
}

type Part<T> = { readonly value: T; readonly diagnostics: readonly Diagnostic[] };

/** Declared namespaces, and those that other objects name. Each carries its name as a label, as in a real cluster. */
function findNamespaces(objects: readonly SourceObject[]): Part<ReadonlyMap<string, Namespace>> {
  const value = new Map<string, Namespace>();
  const diagnostics: Diagnostic[] = [];
  for (const object of objects) {
    if (object.kind === 'Namespace') {
      value.set(object.name, readNamespace({ object, diagnostics }));
    } else if (object.namespace !== '' && !value.has(object.namespace)) {
      value.set(object.namespace, impliedNamespace(object.namespace));
    }
  }
  return { value, diagnostics };
}

/** Objects never change, so what became of one is kept: a live edit of one policy does not read a thousand others again. */
const LOWERED = new WeakMap<SourceObject, ReturnType<typeof lowerNetworkPolicy>>();

function lowerOnce(object: SourceObject): ReturnType<typeof lowerNetworkPolicy> {
  const lowered = LOWERED.get(object) ?? lowerNetworkPolicy(object);
  LOWERED.set(object, lowered);
  return lowered;
}

function findPolicies(objects: readonly SourceObject[]): Part<ReadonlyMap<PolicyKey, Policy>> {
  const value = new Map<PolicyKey, Policy>();
  const diagnostics: Diagnostic[] = [];
  for (const object of objects) {
    if (object.kind !== 'NetworkPolicy') continue;
    const lowered = lowerOnce(object);
    diagnostics.push(...lowered.diagnostics);
    if (lowered.value !== null) value.set(lowered.value.key, lowered.value);
  }
  return { value, diagnostics };
}

/** Pods that found no address: their node's blocks are full. */
function homeless(objects: readonly SourceObject[], world: World): Diagnostic[] {
  const lacking = [...world.pods.values()].filter(needsAddress);
  const pods = objects.filter(({ kind }) => lacking.length > 0 && kind === 'Pod');
  const byKey = new Map(pods.map((object) => [podKey(object.namespace, object.name), object]));
  return lacking.map((pod) => {
    const object = byKey.get(pod.key);
    return complainOf(object ?? unnamed({ kind: 'Pod', ...pod }), '', {
      code: 'addresses-exhausted',
      message: `the pod ${pod.key} finds no free address on its node ${pod.node}`,
      hint: 'Give the node a larger podCIDR, or spread the pods over more nodes.',
    });
  });
}
