// Pods from objects: Pod objects as they are, and representatives for workloads whose pods are not in the input.
import type { Diagnostic } from '#policy/diagnostic.ts';
import { type Fields, fieldsOf, itemsOf } from '#policy/fields.ts';
import type { SourceObject } from '#policy/object.ts';
import { type Pod, type PodKey, podKey, type Workload } from '#policy/world.ts';
import { countAt, flagAt, type LocatedFields, mappingAt, type Notes, rootOf, textAt } from './notes.ts';
import { type Owners, ownerKey, topWorkload } from './owners.ts';
import { type PodShape, readPodShape, readPodStatus } from './pod.ts';

/**
 * Replicas of one template are alike for policy, so two stand for any number: enough to show what they may say to
 * each other. A StatefulSet's pods carry their ordinal as a label that policies can select, so more of them are made.
 */
const MOST_REPLICAS = 2;
const MOST_STATEFUL_REPLICAS = 10;

const TEMPLATE_PATHS: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ['Deployment', ['spec', 'template']],
  ['StatefulSet', ['spec', 'template']],
  ['DaemonSet', ['spec', 'template']],
  ['ReplicaSet', ['spec', 'template']],
  ['ReplicationController', ['spec', 'template']],
  ['Job', ['spec', 'template']],
  ['CronJob', ['spec', 'jobTemplate', 'spec', 'template']],
]);

export type FoundPods = { readonly pods: ReadonlyMap<PodKey, Pod>; readonly diagnostics: readonly Diagnostic[] };

/**
 * Every pod of the input: Pod objects, and pods made for workloads that have none there. `nodeCount` is how many a
 * DaemonSet gets. A workload that belongs to another one of the input makes no pods of its own.
 */
export function findPods(objects: readonly SourceObject[], nodeCount: number): FoundPods {
  const workloads = objects.filter((object) => TEMPLATE_PATHS.has(object.kind));
  const owners: Owners = new Map(workloads.map((object) => [ownerKey(object), object]));
  const pods = new Map<PodKey, Pod>();
  const diagnostics: Diagnostic[] = [];
  const populated = new Set<string>();
  for (const object of objects) {
    if (object.kind !== 'Pod') continue;
    const pod = readPod({ object, diagnostics }, topWorkload(object, owners));
    pods.set(pod.key, pod);
    populated.add(ownerKey(pod.workload));
  }
  for (const object of workloads) {
    const isTop = ownerKey(topWorkload(object, owners)) === ownerKey(object);
    const makes = !owners.has(ownerKey(topWorkload(object, owners))) || isTop;
    if (!makes || populated.has(ownerKey(object))) continue;
    for (const pod of madePods({ object, diagnostics }, pods, nodeCount)) pods.set(pod.key, pod);
  }
  return { pods, diagnostics };
}

/** A Pod object as it is: one that has no address or node yet has none here. */
export function readPod(notes: Notes, workload: Workload): Pod {
  const { namespace, name } = notes.object;
  const shape = readPodShape(notes, rootOf(notes));
  const { addresses, finished, sharesHost } = readPodStatus(notes);
  const hostNetwork = shape.hostNetwork || sharesHost;
  const pod = podOf({ ...shape, hostNetwork }, { namespace, name, workload, addresses, finished });
  const uid = readUid(notes, mappingAt(notes, rootOf(notes), 'metadata'));
  return uid === '' ? pod : { ...pod, uid };
}

/** Says of an object that it stands for a pod of a kubelet's own files, and by which uid kubelet and runtime know that. */
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

/**
 * The uid by which a container runtime knows the pod. A static pod's is what its kubelet made of its file; the object that
 * stands for it in the API has one of its own, and this annotation, which the API lets nobody change.
 */
function readUid(notes: Notes, metadata: LocatedFields): string {
  const mirrored = fieldsOf(metadata.value.annotations)[MIRROR_ANNOTATION];
  return typeof mirrored === 'string' && mirrored !== '' ? mirrored : textAt(notes, metadata, 'uid');
}

type Identity = Pick<Pod, 'namespace' | 'name' | 'workload' | 'addresses' | 'finished'>;

function podOf(shape: PodShape, { namespace, name, workload, addresses, finished }: Identity): Pod {
  const { labels, ports, namelessPorts, hostNetwork, nodeName } = shape;
  const key = podKey(namespace, name);
  const bare = { key, namespace, name, labels, node: nodeName, addresses, ports, hostNetwork, finished, workload };
  return namelessPorts.length === 0 ? bare : { ...bare, namelessPorts };
}

/** Pods with fresh names for a workload: `cart-0`, `cart-1`. */
function madePods(notes: Notes, taken: ReadonlyMap<PodKey, Pod>, nodeCount: number): Pod[] {
  const { kind, namespace, name } = notes.object;
  const root = rootOf(notes);
  const path = TEMPLATE_PATHS.get(kind) ?? [];
  const template = path.reduce((parent, key) => mappingAt(notes, parent, key), root);
  const shape = readPodShape(notes, template);
  const count = replicaCount(notes, mappingAt({ ...notes, diagnostics: [] }, root, 'spec'), nodeCount);
  const finished = kind === 'Job' && isJobDone(fieldsOf(root.value.status));
  const pods: Pod[] = [];
  for (let index = 0; pods.length < count; index++) {
    const podName = `${name}-${index}`;
    if (taken.has(podKey(namespace, podName))) continue;
    const labels = { ...shape.labels, ...controllerLabels(kind, name, index) };
    const workload = { kind, namespace, name };
    pods.push(podOf({ ...shape, labels }, { namespace, name: podName, workload, addresses: [], finished }));
  }
  return pods;
}

function replicaCount(notes: Notes, spec: LocatedFields, nodeCount: number): number {
  if (flagAt(notes, spec, 'suspend')) return 0;
  switch (notes.object.kind) {
    case 'DaemonSet':
      return nodeCount;
    case 'CronJob':
      return 1;
    case 'Job':
      return Math.min(MOST_REPLICAS, countAt(notes, spec, 'parallelism') ?? 1);
    case 'StatefulSet':
      return Math.min(MOST_STATEFUL_REPLICAS, countAt(notes, spec, 'replicas') ?? 1);
    default:
      return Math.min(MOST_REPLICAS, countAt(notes, spec, 'replicas') ?? 1);
  }
}

function isJobDone(status: Fields): boolean {
  return itemsOf(status.conditions)
    .map(fieldsOf)
    .some(({ type, status: holds }) => (type === 'Complete' || type === 'Failed') && holds === 'True');
}

/** Labels that the controller itself puts on its pods, where they can be known before it runs. */
function controllerLabels(kind: string, name: string, index: number): Record<string, string> {
  if (kind === 'StatefulSet') {
    return { 'statefulset.kubernetes.io/pod-name': `${name}-${index}`, 'apps.kubernetes.io/pod-index': `${index}` };
  }
  return kind === 'Job' ? { 'job-name': name, 'batch.kubernetes.io/job-name': name } : {};
}
