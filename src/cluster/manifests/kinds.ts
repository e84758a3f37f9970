// Which kinds Moat reads, and which it knows to be somebody else's.

/** Kinds without a namespace among those that Moat reads, as `group/Kind`. */
const CLUSTER_SCOPED: ReadonlySet<string> = new Set(['/Namespace', '/Node']);

/** Kinds that the world is built from, as `group/Kind`. */
const WORLD_KINDS: ReadonlySet<string> = new Set([
  '/Namespace',
  '/Node',
  '/Pod',
  '/ReplicationController',
  '/Service',
  '/ServiceAccount',
  'apps/Deployment',
  'apps/StatefulSet',
  'apps/DaemonSet',
  'apps/ReplicaSet',
  'batch/Job',
  'batch/CronJob',
  'discovery.k8s.io/EndpointSlice',
  'networking.k8s.io/NetworkPolicy',
  // The workloads' old home, which old manifests still name.
  'extensions/Deployment',
  'extensions/DaemonSet',
  'extensions/ReplicaSet',
]);

/** Real kinds of the API groups of which Moat reads some, so that a misspelt kind can be told from a foreign one. */
const FOREIGN_KINDS: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['networking.k8s.io', new Set(['Ingress', 'IngressClass', 'IPAddress', 'ServiceCIDR', 'ClusterCIDR'])],
]);

/** Groups whose own kind NetworkPolicy is another one. */
const OTHER_NETWORK_POLICIES: ReadonlySet<string> = new Set([
  'projectcalico.org',
  'crd.projectcalico.org',
  'crd.antrea.io',
]);

export type KindStanding = 'read' | 'foreign' | 'misspelt';

/** `networking.k8s.io/v1` → `networking.k8s.io`; `v1` → ''. */
export function apiGroup(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

/** Whether Moat reads a kind, leaves it to others, or takes it for a misspelling. */
export function kindStanding(apiVersion: string, kind: string): KindStanding {
  const group = apiGroup(apiVersion);
  // No cluster serves NetworkPolicy under another version or group: such an object would protect nothing, silently.
  const isOwn = kind === 'NetworkPolicy' && !OTHER_NETWORK_POLICIES.has(group);
  if (isOwn && apiVersion !== 'networking.k8s.io/v1') return 'misspelt';
  if (WORLD_KINDS.has(`${group}/${kind}`)) return 'read';
  const foreign = FOREIGN_KINDS.get(group);
  return foreign === undefined || foreign.has(kind) ? 'foreign' : 'misspelt';
}

export function isClusterScoped(apiVersion: string, kind: string): boolean {
  return CLUSTER_SCOPED.has(`${apiGroup(apiVersion)}/${kind}`);
}
