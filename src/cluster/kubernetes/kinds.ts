// The kinds of objects that an agent follows, and what each object becomes. A new kind is one more entry.
import { hash } from 'node:crypto';
import { lowerNetworkPolicy } from '#dialects/kubernetes/lower.ts';
import type { Diagnostic } from '#policy/diagnostic.ts';
import { fieldsOf, isFields } from '#policy/fields.ts';
import { policyKey } from '#policy/model.ts';
import type { SourceObject } from '#policy/object.ts';
import { serviceName } from '#policy/service.ts';
import { type ClusterEvent, podKey } from '#policy/world.ts';
import { takeInventory } from '../world/inventory.ts';
import { readNamespace } from '../world/namespace.ts';
import { readNode } from '../world/nodes.ts';
import type { Notes } from '../world/notes.ts';
import { topWorkload } from '../world/owners.ts';
import { readService, readSlice } from '../world/services.ts';
import { readPod } from '../world/workloads.ts';

/** How objects come. protobuf: of each only what shapes.ts names, where the server has it so. */
export type Format = 'json' | 'protobuf';

export type ObjectKind = {
  readonly apiVersion: string;
  readonly kind: string;
  /** Objects that come and change all the time are worth a shape. */
  readonly format: Format;
  /** For how long a watch rests after it was read: what comes meanwhile is taken together. */
  readonly restMs: number;
  /** Where the API lists the objects of all namespaces. */
  readonly path: string;
  /** Where the API lists those that can select the pods of a namespace; null for kinds that select none. */
  readonly selecting: ((namespace: string) => string) | null;
  /** What the object is to the world; null where it is nothing. */
  readonly read: (notes: Notes) => ClusterEvent | null;
  /** The end of an object. */
  readonly gone: (namespace: string, name: string) => ClusterEvent;
};

/**
 * A pod is made, bound, and told of by its kubelet within some milliseconds. On a busy cluster a change waits half as long as this, on
 * average, and on a quiet one not at all.
 */
const POD_REST_MS = 20;

const NO_OWNERS = new Map<string, SourceObject>();

export const KINDS: readonly ObjectKind[] = [
  {
    ...{ apiVersion: 'v1', kind: 'Namespace', format: 'json', restMs: 0, path: '/api/v1/namespaces', selecting: null },
    read: (notes) => ({ kind: 'namespace', name: notes.object.name, value: readNamespace(notes) }),
    gone: (_, name) => ({ kind: 'namespace', name, value: null }),
  },
  {
    ...{ apiVersion: 'v1', kind: 'Node', format: 'json', restMs: 0, path: '/api/v1/nodes', selecting: null },
    read: (notes) => ({ kind: 'node', name: notes.object.name, value: readNode(notes) }),
    gone: (_, name) => ({ kind: 'node', name, value: null }),
  },
  {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', format: 'json', restMs: 0 },
    path: '/apis/networking.k8s.io/v1/networkpolicies',
    selecting: (namespace) => `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`,
    read: ({ object, diagnostics }) => {
      const lowered = lowerNetworkPolicy(object);
      diagnostics.push(...lowered.diagnostics);
      return lowered.value && { kind: 'policy', key: lowered.value.key, value: lowered.value };
    },
    gone: (namespace, name) => ({ kind: 'policy', key: policyKey('NetworkPolicy', namespace, name), value: null }),
  },
  {
    ...{
      apiVersion: 'v1',
      kind: 'Pod',
      format: 'protobuf',
      restMs: POD_REST_MS,
      path: '/api/v1/pods',
      selecting: null,
    },
    read: (notes) => {
      const value = readPod(notes, topWorkload(notes.object, NO_OWNERS));
      return { kind: 'pod', key: value.key, value };
    },
    gone: (namespace, name) => ({ kind: 'pod', key: podKey(namespace, name), value: null }),
  },
];

/** What is followed besides where Moat serves Services. */
export const SERVICE_KINDS: readonly ObjectKind[] = [
  {
    ...{ apiVersion: 'v1', kind: 'Service', format: 'json', restMs: 0, path: '/api/v1/services', selecting: null },
    read: (notes) => ({ kind: 'service', key: serviceName(notes.object), value: readService(notes) }),
    gone: (namespace, name) => ({ kind: 'service', key: serviceName({ namespace, name }), value: null }),
  },
  {
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', format: 'json', restMs: 0, selecting: null },
    path: '/apis/discovery.k8s.io/v1/endpointslices',
    read: (notes) => ({ kind: 'endpointslice', key: serviceName(notes.object), value: readSlice(notes) }),
    gone: (namespace, name) => ({ kind: 'endpointslice', key: serviceName({ namespace, name }), value: null }),
  },
];

/** What is kept of an object: little, and nothing of the object itself. */
export type Reading = {
  /** `namespace/name`; `/name` where the kind has no namespaces. */
  readonly id: string;
  /** Null where Moat can make nothing of the object. */
  readonly event: ClusterEvent | null;
  /** Equal for objects that are the same to the world: most changes of a pod or node are of its status. */
  readonly digest: string;
  /** What is wrong with the object, one line each. */
  readonly findings: readonly string[];
  /** '' where the object has none, or where nothing is wrong with it. */
  readonly uid: string;
};

/** An object as the API gives it, cut down to what counts. Null where it is not even an object with a name. */
export function readObject(kind: ObjectKind, raw: unknown): Reading | null {
  const { name, namespace = '', uid } = fieldsOf(fieldsOf(raw).metadata);
  if (!isFields(raw) || typeof name !== 'string' || name === '' || typeof namespace !== 'string') return null;
  // Items of a list carry neither version nor kind.
  const { apiVersion, kind: kindName } = kind;
  const object: SourceObject = { apiVersion, kind: kindName, namespace, name, content: raw, origin: null };
  const { objects, diagnostics } = takeInventory([object]);
  const noted = [...diagnostics];
  const [known] = objects;
  const event = known === undefined ? null : kind.read({ object: known, diagnostics: noted });
  const digest = hash('sha256', JSON.stringify(event), 'base64');
  const findings = noted.map(findingText);
  const isKept = findings.length > 0 && typeof uid === 'string';
  return { id: `${namespace}/${name}`, event, digest, findings, uid: isKept ? uid : '' };
}

/** The end of the object with this id. */
export function goneEvent(kind: ObjectKind, id: string): ClusterEvent {
  const cut = id.indexOf('/');
  return kind.gone(id.slice(0, cut), id.slice(cut + 1));
}

/** `networkpolicy/shop/db spec.ingress[0]: found …`: the place is the object and the field. */
function findingText({ severity, object, path, message, hint }: Diagnostic): string {
  const [kind = '', name = ''] = object.split(' ');
  const place = `${kind.toLowerCase()}/${name}`;
  return `${severity}: ${path === '' ? place : `${place} ${path}`}: ${message}. ${hint}`;
}
