// Which workload a pod belongs to, by controller references: a pod of a ReplicaSet of a Deployment is the Deployment's.
import { nameStanding } from '#cluster/manifests/stand-in.ts';
import { fieldsOf, itemsOf } from '#policy/fields.ts';
import type { SourceObject } from '#policy/object.ts';
import type { Workload } from '#policy/world.ts';

/** `Kind/namespace/name` → object, of every workload in the input. */
export type Owners = ReadonlyMap<string, SourceObject>;

export function ownerKey({ kind, namespace, name }: Workload): string {
  return `${kind}/${namespace}/${name}`;
}

/** The workload that an object is, or belongs to: climbs as far as the input goes, then names the last owner. */
export function topWorkload(object: SourceObject, owners: Owners): Workload {
  let current = object;
  // A ring of owners can not be climbed for ever: no real chain is longer than CronJob, Job, Pod.
  for (let step = 0; step < 8; step++) {
    const owner = controllerOf(current);
    if (owner === null) break;
    const found = owners.get(ownerKey(owner)) ?? deploymentOf(owner, current, owners);
    if (found === undefined) return current === object ? owner : workloadOf(current);
    current = found;
  }
  return workloadOf(current);
}

function workloadOf({ kind, namespace, name }: SourceObject): Workload {
  return { kind, namespace, name };
}

const KIND = /^[A-Za-z][A-Za-z0-9]{0,62}$/;

/** The owner that controls an object: the one so marked, else the first named. Null where there is none. */
function controllerOf(object: SourceObject): Workload | null {
  const references = itemsOf(fieldsOf(fieldsOf(object.content).metadata).ownerReferences).map(fieldsOf);
  const { kind, name } = references.find((reference) => reference.controller === true) ?? references[0] ?? {};
  // No API object has such an owner; the name would be shown to people, so the pod then stands for itself.
  if (typeof name !== 'string' || nameStanding('name', name) === 'unsafe') return null;
  return { kind: typeof kind === 'string' && KIND.test(kind) ? kind : 'Pod', namespace: object.namespace, name };
}

/** A ReplicaSet that is not in the input carries the Deployment's name and the hash that its pods carry as a label. */
function deploymentOf(owner: Workload, pod: SourceObject, owners: Owners): SourceObject | undefined {
  const labels = fieldsOf(fieldsOf(fieldsOf(pod.content).metadata).labels);
  const hash = labels['pod-template-hash'];
  if (owner.kind !== 'ReplicaSet' || typeof hash !== 'string' || !owner.name.endsWith(`-${hash}`)) return undefined;
  const name = owner.name.slice(0, -hash.length - 1);
  return owners.get(ownerKey({ kind: 'Deployment', namespace: owner.namespace, name }));
}
