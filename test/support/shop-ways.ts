// The example shop on a real cluster: its pods, and what its policies allow and deny between them, written down from what
// their comments say. Ports are numbers here, and named in the policies.
import { kubectl } from '../../tools/cluster/cluster.ts';
import { Machine } from '../../tools/cluster/machine.ts';

/** From, to, port: apps by `namespace/app`. */
export type Way = readonly [from: string, to: string, port: number];

export const ALLOWED: readonly Way[] = [
  ['frontend/web', 'backend/catalog', 8080],
  ['frontend/web', 'backend/recommendations', 8090],
  ['frontend/mobile-api', 'backend/cart', 8080],
  ['frontend/admin', 'backend/checkout', 8080],
  ['backend/checkout', 'backend/payments', 8443],
  ['backend/checkout', 'backend/shipping', 8443],
  ['backend/checkout', 'backend/email', 2525],
  ['backend/checkout', 'data/postgres', 5432],
  ['backend/cart', 'data/redis', 6379],
  ['backend/catalog', 'data/search', 9200],
  ['data/postgres', 'data/postgres', 5432],
  ['monitoring/prometheus', 'backend/cart', 9102],
  ['monitoring/prometheus', 'data/redis', 9121],
  ['monitoring/grafana', 'monitoring/prometheus', 9090],
];

/** What an edit opens, and takes back: its other half is allowed all the time. */
export const HALF: Way = ['backend/recommendations', 'backend/catalog', 8080];

export const DENIED: readonly Way[] = [
  HALF,
  ['frontend/web', 'backend/catalog', 9102],
  ['frontend/web', 'backend/payments', 8443],
  ['frontend/web', 'data/postgres', 5432],
  ['frontend/admin', 'backend/cart', 8080],
  ['backend/cart', 'data/postgres', 5432],
  ['backend/checkout', 'data/redis', 6379],
  ['backend/payments', 'backend/shipping', 8443],
  ['backend/catalog', 'data/redis', 6379],
  ['data/redis', 'backend/cart', 8080],
  ['monitoring/grafana', 'data/postgres', 9187],
  ['monitoring/prometheus', 'backend/cart', 8080],
];

export type ShopPod = {
  /** `namespace/app`. */
  readonly app: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Of each family. */
  readonly addresses: readonly string[];
  readonly container: string;
};

/** The shop's pods that run, in the order of their names. */
export async function shopPods(): Promise<readonly ShopPod[]> {
  const { items } = JSON.parse(await kubectl(['get', 'pods', '-A', '-l', 'app', '-o', 'json'])) as PodList;
  return items
    .filter(({ metadata, status }) => status.phase === 'Running' && metadata.deletionTimestamp === undefined)
    .map(({ metadata: { namespace, name, labels }, spec, status }) => ({
      ...{ app: `${namespace}/${labels.app}`, namespace, name, node: spec.nodeName },
      addresses: (status.podIPs ?? []).map(({ ip }) => ip),
      container: (status.containerStatuses?.[0]?.containerID ?? '').replace('containerd://', ''),
    }));
}

type PodList = {
  readonly items: readonly {
    readonly metadata: {
      readonly namespace: string;
      readonly name: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly deletionTimestamp?: string;
    };
    readonly spec: { readonly nodeName: string };
    readonly status: {
      readonly phase: string;
      readonly podIPs?: readonly { readonly ip: string }[];
      readonly containerStatuses?: readonly { readonly containerID?: string }[];
    };
  }[];
};

let asked = 0;

/** Has a pod's program do something (tools/cluster/shop.c): by the runtime of its node, which needs no API server. */
export async function tell(pod: ShopPod, words: readonly string[]): Promise<string> {
  const id = `shop-${process.pid}-${asked++}`;
  const exec = ['-n', 'k8s.io', 'task', 'exec', '--exec-id', id, pod.container, '/shop', ...words];
  return await Machine.open(pod.node).run('ctr', exec);
}
