// What a cluster has of what Moat needs, by its API alone: nothing of it is changed.
import { ApiClient } from '#cluster/kubernetes/client.ts';
import { inCluster } from '#cluster/kubernetes/connection.ts';
import { KINDS } from '#cluster/kubernetes/kinds.ts';
import { fromKubeconfig } from '#cluster/kubernetes/kubeconfig.ts';
import { listPages } from '#cluster/kubernetes/pages.ts';
import { ApiError } from '#cluster/kubernetes/retry.ts';
import { findLack } from '#datapath/ebpf/kernel-check.ts';
import { type Fields, fieldsOf, itemsOf } from '#policy/fields.ts';
import { type Finding, findingOf, messageOf, someOf } from './install-finding.ts';

const LIMIT_MS = 20_000;
const PAGE = 200;
const finding = findingOf('cluster');

/** Kinds of policy, by group and resource. One dialect is enforced; the others are named where they are used. */
const POLICY_KINDS: readonly (readonly [group: string, resource: string, enforced: boolean])[] = [
  ['networking.k8s.io', 'networkpolicies', true],
  ['policy.networking.k8s.io', 'adminnetworkpolicies', false],
  ['policy.networking.k8s.io', 'baselineadminnetworkpolicies', false],
  ['policy.networking.k8s.io', 'clusternetworkpolicies', false],
  ['cilium.io', 'ciliumnetworkpolicies', false],
  ['cilium.io', 'ciliumclusterwidenetworkpolicies', false],
  ['crd.projectcalico.org', 'networkpolicies', false],
  ['crd.projectcalico.org', 'globalnetworkpolicies', false],
  ['crd.antrea.io', 'networkpolicies', false],
  ['crd.antrea.io', 'clusternetworkpolicies', false],
];
/** DaemonSets of other CNIs, as their own manifests call them. */
const OTHER_CNIS =
  /^(calico-node|canal|cilium|kube-flannel-ds|kindnet|weave-net|antrea-agent|aws-node|azure-cni|kube-router|ovnkube-node|rke2-.*|kube-ovn-cni)$/;
/** What installing takes, and what an agent's own account takes. */
const INSTALLERS: readonly Right[] = [
  ['apps', 'daemonsets', 'create'],
  ['', 'serviceaccounts', 'create'],
  ['rbac.authorization.k8s.io', 'clusterroles', 'create'],
  ['rbac.authorization.k8s.io', 'clusterrolebindings', 'create'],
];
const AGENTS: readonly Right[] = [
  ...KINDS.flatMap(({ path }) => ['list', 'watch'].map((verb) => [...groupAndResource(path), verb] as const)),
  ...['create', 'get', 'patch'].map((verb) => ['events.k8s.io', 'events', verb] as const),
];

type Right = readonly [group: string, resource: string, verb: string];

/** `kubeconfig` null: as a pod of the cluster, whose account is taken for an agent's. Throws where the API server does not answer. */
export async function checkCluster(kubeconfig: string | null): Promise<readonly Finding[]> {
  const client = new ApiClient(kubeconfig === null ? inCluster() : await fromKubeconfig(kubeconfig));
  const api = new Api(client);
  const { gitVersion } = fieldsOf(await api.get('/version'));
  return [
    versionFinding(String(gitVersion)),
    await api.orUnknown('rights', () => checkRights(api, kubeconfig === null ? AGENTS : INSTALLERS)),
    ...(await api.orUnknownAll('nodes', async () => nodeFindings(await api.list('/api/v1/nodes')))),
    ...(await api.orUnknownAll('DaemonSets', async () => daemonFindings(await api.list('/apis/apps/v1/daemonsets')))),
    await api.orUnknown('kube-proxy', () => proxyFinding(api)),
    ...(await api.orUnknownAll('policies', () => policyFindings(api))),
  ];
}

/** Requests that end, and failures that are findings. */
class Api {
  readonly #client: ApiClient;

  constructor(client: ApiClient) {
    this.#client = client;
  }

  async get(path: string): Promise<unknown> {
    return await this.#client.get(path, AbortSignal.timeout(LIMIT_MS));
  }

  async post(path: string, body: object): Promise<unknown> {
    return await this.#client.send('POST', path, body, AbortSignal.timeout(LIMIT_MS));
  }

  async list(path: string): Promise<readonly Fields[]> {
    const items: Fields[] = [];
    await listPages({
      pageSize: PAGE,
      ask: (query) => this.get(`${path}?${query}`),
      take: (item) => void items.push(fieldsOf(item)),
    });
    return items;
  }

  async orUnknown(subject: string, look: () => Promise<Finding>): Promise<Finding> {
    return await look().catch((error) => finding(subject, 'unknown', messageOf(error)));
  }

  async orUnknownAll(subject: string, look: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
    return await look().catch((error) => [finding(subject, 'unknown', messageOf(error))]);
  }
}

function versionFinding(version: string): Finding {
  const [, minor = '0'] = /^v1\.(\d+)/.exec(version) ?? [];
  if (Number(minor) >= 29) return finding('Kubernetes', 'ok', version);
  return finding('Kubernetes', 'warning', version, 'nobody has tried it on a version before 1.29');
}

async function checkRights(api: Api, rights: readonly Right[]): Promise<Finding> {
  const missing: string[] = [];
  for (const [group, resource, verb] of rights) {
    const spec = { resourceAttributes: { group, resource, verb } };
    const body = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec };
    const answer = fieldsOf(await api.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', body));
    if (fieldsOf(answer.status).allowed !== true) missing.push(`${verb} ${resource}`);
  }
  if (missing.length === 0) {
    const allowed = [...Map.groupBy(rights, ([, , verb]) => verb)].map(([verb, some]) => {
      return `${verb} ${someOf(
        some.map(([, resource]) => resource),
        8,
      )}`;
    });
    return finding('rights', 'ok', allowed.join('; '));
  }
  const meaning =
    rights === AGENTS
      ? 'agents would follow nothing: bind the ClusterRole of the chart'
      : 'somebody else must install it';
  return finding('rights', 'lacking', `without: ${missing.join(', ')}`, meaning);
}

function nodeFindings(nodes: readonly Fields[]): readonly Finding[] {
  const linux = nodes.filter((node) => infoOf(node).operatingSystem !== 'windows');
  const namesWhere = (wanted: (node: Fields) => boolean): readonly string[] => linux.filter(wanted).map(nameOf);
  const old = namesWhere(
    (node) => findLack({ release: String(infoOf(node).kernelVersion), user: 0, btf: true }) !== null,
  );
  const strange = namesWhere((node) => !['amd64', 'arm64'].includes(String(infoOf(node).architecture)));
  const blockless = namesWhere((node) => itemsOf(fieldsOf(node.spec).podCIDRs).length === 0);
  const runtimes = [...new Set(linux.map((node) => String(infoOf(node).containerRuntimeVersion)))].sort();
  const others = nodes.length - linux.length;
  const judged = (subject: string, bad: readonly string[], good: string, meaning: string): Finding =>
    bad.length === 0 ? finding(subject, 'ok', good) : finding(subject, 'lacking', someOf(bad), meaning);
  const kernels = [...new Set(linux.map((node) => String(infoOf(node).kernelVersion)))].sort();
  const foreign =
    others === 0 ? [] : [finding('nodes', 'warning', `${others} with Windows`, 'Moat does not run there')];
  if (linux.length === 0)
    return [finding('nodes', 'lacking', 'none with Linux', 'agents run nowhere until one joins'), ...foreign];
  return [
    finding('nodes', 'ok', `${linux.length} with Linux: ${someOf(runtimes)}`),
    ...foreign,
    judged('kernels', old, someOf(kernels), 'these nodes need Linux 6.1 or newer: agents refuse to start there'),
    judged('architectures', strange, 'amd64 or arm64', 'there is no image for these nodes'),
    judged(
      'podCIDR',
      blockless,
      'every node has one',
      'these nodes get no pods: kube-controller-manager needs --allocate-node-cidrs and --cluster-cidr',
    ),
  ];
}

function daemonFindings(daemons: readonly Fields[]): readonly Finding[] {
  const cnis = daemons.map(nameOf).filter((name) => OTHER_CNIS.test(name));
  const own = daemons.filter((each) => fieldsOf(fieldsOf(each.metadata).labels)['app.kubernetes.io/name'] === 'moat');
  const meaning =
    "pods that it attached keep its network, and are judged with the chart's value adoptRunningPods alone; new ones are Moat's once its configuration comes first";
  return [
    cnis.length === 0
      ? finding('other CNIs', 'ok', 'none that is known by its name')
      : finding('other CNIs', 'warning', someOf(cnis), meaning),
    ...(own.length === 0
      ? []
      : [
          finding(
            'Moat',
            'ok',
            `installed: ${own.map((each) => `${String(fieldsOf(each.metadata).namespace)}/${nameOf(each)}`).join(', ')}`,
          ),
        ]),
  ];
}

/** kubeadm keeps its configuration in a ConfigMap; others have it in a process of their own. */
async function proxyFinding(api: Api): Promise<Finding> {
  try {
    const map = fieldsOf(await api.get('/api/v1/namespaces/kube-system/configmaps/kube-proxy'));
    const text = String(fieldsOf(map.data)['config.conf'] ?? '');
    const mode = /^mode:\s*"?(\w*)"?\s*$/m.exec(text)?.[1] || 'iptables';
    return finding('kube-proxy', 'ok', `mode ${mode}`, 'Services are its work, as before');
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    const meaning =
      "pods reach Services only where agents serve them (the chart's value services: moat), or something else translates them, and agents need the chart's value kubernetes.host; k3s and others have a kube-proxy without this ConfigMap";
    return finding('kube-proxy', 'warning', 'no ConfigMap kube-system/kube-proxy', meaning);
  }
}

async function policyFindings(api: Api): Promise<readonly Finding[]> {
  const { groups } = fieldsOf(await api.get('/apis'));
  const served = new Map(
    itemsOf(groups)
      .map(fieldsOf)
      .map((each) => [String(each.name), String(fieldsOf(each.preferredVersion).groupVersion)]),
  );
  const findings: Finding[] = [];
  for (const [group, resource, enforced] of POLICY_KINDS) {
    const version = served.get(group);
    if (version === undefined) continue;
    const subject = `${resource}.${group}`;
    const items = await api.list(`/apis/${version}/${resource}`).catch((error: unknown) => error);
    if (items instanceof ApiError && items.status === 404) continue;
    if (!Array.isArray(items)) findings.push(finding(subject, 'unknown', messageOf(items)));
    else if (enforced) findings.push(finding(subject, 'ok', String(items.length), 'enforced from the first agent on'));
    else if (items.length === 0) findings.push(finding(subject, 'ok', 'none'));
    else
      findings.push(
        finding(
          subject,
          'warning',
          String(items.length),
          'Moat does not enforce this kind yet: whoever does must stay',
        ),
      );
  }
  return findings;
}

/** Of `/apis/GROUP/VERSION/RESOURCE`, or `/api/v1/RESOURCE`. */
function groupAndResource(path: string): readonly [group: string, resource: string] {
  const [, root, group = '', , resource = ''] = path.split('/');
  return root === 'apis' ? [group, resource] : ['', path.split('/').at(-1) ?? ''];
}

function nameOf(object: Fields): string {
  return String(fieldsOf(object.metadata).name);
}

function infoOf(node: Fields): Fields {
  return fieldsOf(fieldsOf(node.status).nodeInfo);
}
