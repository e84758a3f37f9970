// Pods as a real API server has them: what a workload's template, kubelets and controllers write, 7 to 8 KB each with the
// managed fields that the server adds. Pure.

/** A pod of the load: the `index`th of its node, in its `life`th time. */
export type ApiPod = {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly address: string;
  readonly app: string;
};

export const NODES = 50;
export const NAMESPACES = 50;
/** The node that is measured, and the namespace that its pods are in. */
export const LOCAL_NODE = 'node-0';
export const LOCAL_NAMESPACE = 'shop';

/** `index` is the pod's place in its cluster; every 50th is of the node that is measured. */
export function apiPod(index: number, life: number): ApiPod {
  const [node, place] = [index % NODES, Math.floor(index / NODES)];
  const app = node === 0 && place < 2 ? `door-${place}` : `app-${place % 20}`;
  const namespace = node === 0 ? LOCAL_NAMESPACE : `team-${place % NAMESPACES}`;
  return {
    ...{ namespace, name: `${app}-7d4b9c6f5-${index}-${life}`, node: `node-${node}`, app },
    // Two lives of a pod have addresses of their own: one may begin before the other's end is known.
    address: `10.100.${node}.${1 + ((place + life * 127) % 250)}`,
  };
}

/** As a ReplicaSet's controller makes it. */
export function podObject({ namespace, name, app }: ApiPod): object {
  const env = Array.from({ length: 12 }, (_, at) => ({ name: `SETTING_${at}`, value: `https://${app}.example/${at}` }));
  const probe = { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 10, timeoutSeconds: 2 };
  const container = (own: string): object => ({
    ...{ name: own, image: `registry.example/${app}/${own}:v1.4.2`, env, args: ['--listen=:8080', '--log=json'] },
    ...{ ports: [{ name: 'http', containerPort: 8080 }], livenessProbe: probe, readinessProbe: probe },
    resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
    volumeMounts: [
      { name: 'config', mountPath: '/etc/app' },
      { name: 'token', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true },
    ],
    securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] }, runAsNonRoot: true },
  });
  return {
    metadata: {
      ...{ namespace, name },
      labels: {
        ...{ app, 'app.kubernetes.io/name': app, 'app.kubernetes.io/part-of': namespace, tier: 'backend' },
        ...{ 'pod-template-hash': '7d4b9c6f5', version: 'v1.4.2' },
      },
      annotations: { 'checksum/config': 'a'.repeat(64), 'example.com/owner': `${namespace}@example.com` },
      ownerReferences: [
        {
          ...{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `${app}-7d4b9c6f5`, controller: true },
          uid: '5e1f9b0a-3c1d-4a57-9d43-0c7a1b2c3d01',
        },
      ],
    },
    spec: {
      serviceAccountName: 'default',
      containers: [container('main'), container('sidecar')],
      volumes: [
        { name: 'config', configMap: { name: app } },
        { name: 'token', projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } },
      ],
      tolerations: [{ key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute' }],
    },
  };
}

/** What a kubelet writes of it. */
export function podStatus({ app, address }: ApiPod, phase: 'Pending' | 'Running' | 'Succeeded'): object {
  const running = phase === 'Running';
  const now = '2026-01-01T00:00:00Z';
  const types = ['PodReadyToStartContainers', 'Initialized', 'Ready', 'ContainersReady', 'PodScheduled'];
  const state =
    phase === 'Running'
      ? { running: { startedAt: now } }
      : phase === 'Pending'
        ? { waiting: { reason: 'ContainerCreating' } }
        : { terminated: { exitCode: 0, reason: 'Completed', startedAt: now, finishedAt: now } };
  const containers = ['main', 'sidecar'].map((name) => ({
    ...{ name, image: `registry.example/${app}/${name}:v1.4.2`, ready: running, restartCount: 0, state },
    ...{ imageID: running ? `registry.example/${app}/${name}@sha256:${'0123456789abcdef'.repeat(4)}` : '' },
    ...(running ? { containerID: `containerd://${'0123456789abcdef'.repeat(4)}` } : {}),
  }));
  return {
    status: {
      ...{ phase, startTime: now, hostIP: '192.0.2.7', hostIPs: [{ ip: '192.0.2.7' }], containerStatuses: containers },
      conditions: types.map((type) => ({
        ...{ type, status: running ? 'True' : 'False', lastTransitionTime: now, lastProbeTime: null },
      })),
      ...(phase === 'Pending' ? {} : { podIP: address, podIPs: [{ ip: address }] }),
    },
  };
}

/** Four policies of each namespace: closed by default, and three doors. */
export function policiesOf(namespace: string): readonly object[] {
  const app = (label: string): object => ({ podSelector: { matchLabels: { app: label } } });
  const make = (name: string, spec: object): object => ({ metadata: { namespace, name }, spec });
  return [
    make('deny-all', { podSelector: {}, policyTypes: ['Ingress'] }),
    make('front', {
      podSelector: { matchLabels: { app: 'app-1' } },
      ingress: [{ from: [app('app-2'), app('app-3')], ports: [{ port: 8080 }] }],
    }),
    make('metrics', {
      podSelector: {},
      ingress: [{ from: [{ namespaceSelector: { matchLabels: { role: 'monitoring' } } }], ports: [{ port: 9090 }] }],
    }),
    make('out', {
      podSelector: { matchLabels: { tier: 'backend' } },
      policyTypes: ['Egress'],
      egress: [{ to: [{ podSelector: {} }, { ipBlock: { cidr: '192.0.2.0/24' } }] }],
    }),
  ];
}
