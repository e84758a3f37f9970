// The cluster's DNS: CoreDNS, at the address that kubelets tell their pods, for the cluster's own names. Nothing is asked outside.
import { COREDNS_IMAGE } from './images.ts';
import { DNS_ADDRESS } from './places.ts';

const NAME = 'coredns';
/** By what the e2e suite and others look for it. */
const LABELS = { 'k8s-app': 'kube-dns' };
const READY_PORT = 8181;
const COREFILE = `.:53 {
  errors
  ready :${READY_PORT}
  loadbalance
  kubernetes cluster.local in-addr.arpa ip6.arpa
}
`;

/** One pod of it: for a cluster of a day at most. */
export function dnsObjects(): readonly unknown[] {
  const metadata = { name: NAME, namespace: 'kube-system', labels: LABELS };
  const rights = [
    { apiGroups: [''], resources: ['services', 'namespaces'], verbs: ['list', 'watch'] },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
  ];
  const rbac = 'rbac.authorization.k8s.io';
  const account = { kind: 'ServiceAccount', name: NAME, namespace: 'kube-system' };
  const port = { port: 53, targetPort: 53 };
  const container = {
    ...{ name: NAME, image: COREDNS_IMAGE, args: ['-conf', '/etc/coredns/Corefile'] },
    readinessProbe: { httpGet: { path: '/ready', port: READY_PORT }, periodSeconds: 1 },
    volumeMounts: [{ name: 'config', mountPath: '/etc/coredns' }],
    securityContext: {
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE'] },
    },
  };
  const spec = {
    // What it asks is the API server.
    ...{ serviceAccountName: NAME, dnsPolicy: 'Default', priorityClassName: 'system-cluster-critical' },
    ...{ containers: [container], volumes: [{ name: 'config', configMap: { name: NAME } }] },
  };
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    { apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name: NAME }, rules: rights },
    {
      ...{ apiVersion: `${rbac}/v1`, kind: 'ClusterRoleBinding', metadata: { name: NAME } },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: NAME },
      subjects: [account],
    },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { Corefile: COREFILE } },
    {
      ...{ apiVersion: 'apps/v1', kind: 'Deployment', metadata },
      spec: { selector: { matchLabels: LABELS }, template: { metadata: { labels: LABELS }, spec } },
    },
    {
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { ...metadata, name: 'kube-dns' } },
      spec: {
        ...{ selector: LABELS, clusterIP: DNS_ADDRESS, ipFamilyPolicy: 'PreferDualStack' },
        ports: [
          { name: 'dns', protocol: 'UDP', ...port },
          { name: 'dns-tcp', protocol: 'TCP', ...port },
        ],
      },
    },
  ];
}

/** As `kubectl rollout status` names it. */
export const DNS_DEPLOYMENT: string = `deployment/${NAME}`;
