// Worlds from objects: pods of workloads, owners, namespaces, nodes, addresses, and what is wrong with an input.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress } from '#net/address.ts';
import { formatCidr } from '#net/cidr.ts';
import type { Mode, Pod, World } from '#policy/world.ts';
import { buildOf, worldOf } from '#test/support/worlds.ts';

const TEMPLATE = 'template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c}]}}';

function object(kind: string, name: string, rest: string): string {
  const versions: Record<string, string> = {
    Job: 'batch/v1',
    CronJob: 'batch/v1',
    Pod: 'v1',
    Node: 'v1',
    Namespace: 'v1',
  };
  return `---\napiVersion: ${versions[kind] ?? 'apps/v1'}\nkind: ${kind}\nmetadata: {name: ${name}}\n${rest}\n`;
}

function podNames(world: World): string[] {
  return [...world.pods.keys()].sort();
}

function workloads(world: World): string[] {
  return [...world.pods.values()].map(({ key, workload: w }) => `${key} of ${w.namespace}/${w.name}[${w.kind}]`).sort();
}

/** Kind, rest of the object, the pods it stands for. */
const REPLICAS: readonly (readonly [string, string, readonly string[]])[] = [
  ['Deployment', `spec: {${TEMPLATE}}`, ['x-0']],
  ['Deployment', `spec: {replicas: null, ${TEMPLATE}}`, ['x-0']],
  ['Deployment', `spec: {replicas: 0, ${TEMPLATE}}`, []],
  ['Deployment', `spec: {replicas: 2, ${TEMPLATE}}`, ['x-0', 'x-1']],
  ['Deployment', `spec: {replicas: 500, ${TEMPLATE}}`, ['x-0', 'x-1']],
  ['ReplicaSet', `spec: {replicas: 2, ${TEMPLATE}}`, ['x-0', 'x-1']],
  ['StatefulSet', `spec: {replicas: 3, ${TEMPLATE}}`, ['x-0', 'x-1', 'x-2']],
  ['DaemonSet', `spec: {${TEMPLATE}}`, ['x-0', 'x-1']],
  ['Job', `spec: {${TEMPLATE}}`, ['x-0']],
  ['Job', `spec: {parallelism: 2, ${TEMPLATE}}`, ['x-0', 'x-1']],
  ['Job', `spec: {suspend: true, ${TEMPLATE}}`, []],
  ['CronJob', `spec: {jobTemplate: {spec: {${TEMPLATE}}}}`, ['x-0']],
];

for (const [kind, rest, names] of REPLICAS) {
  test(`world: a ${kind} with ${rest.slice(0, 40)} stands for ${names.length} pods`, () => {
    const world = worldOf(object(kind, 'x', rest));
    assert.deepEqual(
      podNames(world),
      names.map((name) => `default/${name}`),
    );
    for (const pod of world.pods.values()) {
      assert.equal(pod.labels.app, 'x');
      assert.deepEqual(pod.workload, { kind, namespace: 'default', name: 'x' });
    }
  });
}

test('world: a ReplicationController makes pods', () => {
  const world = worldOf(`apiVersion: v1\nkind: ReplicationController\nmetadata: {name: x}\nspec: {${TEMPLATE}}\n`);
  assert.deepEqual(podNames(world), ['default/x-0']);
});

test('world: a finished Job has finished pods', () => {
  const status = 'status: {conditions: [{type: Complete, status: "True"}]}';
  const [pod] = worldOf(object('Job', 'x', `spec: {${TEMPLATE}}\n${status}`)).pods.values();
  assert.equal(pod?.finished, true);
  assert.deepEqual(pod?.addresses, []);
});

test('world: pods of a StatefulSet carry their ordinal, pods of a Job its name', () => {
  const [set] = worldOf(object('StatefulSet', 'x', `spec: {${TEMPLATE}}`)).pods.values();
  assert.equal(set?.labels['statefulset.kubernetes.io/pod-name'], 'x-0');
  const [job] = worldOf(object('Job', 'x', `spec: {${TEMPLATE}}`)).pods.values();
  assert.equal(job?.labels['job-name'], 'x');
});

test('world: a made pod takes no name that a Pod object has', () => {
  const world = worldOf(object('Pod', 'x-0', '') + object('Deployment', 'x', `spec: {${TEMPLATE}}`));
  assert.deepEqual(podNames(world), ['default/x-0', 'default/x-1']);
});

const owned = (kind: string, name: string, owner: string, labels = '{app: x}'): string =>
  object(kind, name, `spec: {${TEMPLATE}}`).replace(
    '}\n',
    `, labels: ${labels}, ownerReferences: [{kind: ${owner.split('/')[0]}, name: ${owner.split('/')[1]}, controller: true}]}\n`,
  );

test('world: real pods of a workload stand instead of made ones', () => {
  const world = worldOf(
    owned('Pod', 'p', 'StatefulSet/x') + object('StatefulSet', 'x', `spec: {replicas: 3, ${TEMPLATE}}`),
  );
  assert.deepEqual(workloads(world), ['default/p of default/x[StatefulSet]']);
});

test("world: a pod of a ReplicaSet of a Deployment is the Deployment's, and nothing is doubled", () => {
  const input =
    owned('Pod', 'p', 'ReplicaSet/x-1') +
    owned('ReplicaSet', 'x-1', 'Deployment/x') +
    object('Deployment', 'x', `spec: {${TEMPLATE}}`);
  assert.deepEqual(workloads(worldOf(input)), ['default/p of default/x[Deployment]']);
});

test('world: a ReplicaSet of a Deployment of the input makes no pods of its own', () => {
  const input = owned('ReplicaSet', 'x-1', 'Deployment/x') + object('Deployment', 'x', `spec: {${TEMPLATE}}`);
  assert.deepEqual(workloads(worldOf(input)), ['default/x-0 of default/x[Deployment]']);
});

test('world: an absent ReplicaSet is named by its hash, where the Deployment is there', () => {
  const pod = owned('Pod', 'p', 'ReplicaSet/x-5d4f8c7b9', '{pod-template-hash: 5d4f8c7b9}');
  assert.deepEqual(workloads(worldOf(pod)), ['default/p of default/x-5d4f8c7b9[ReplicaSet]']);
  const both = pod + object('Deployment', 'x', `spec: {${TEMPLATE}}`);
  assert.deepEqual(workloads(worldOf(both)), ['default/p of default/x[Deployment]']);
});

test('world: owners in a ring come to an end', () => {
  const ring = owned('ReplicaSet', 'a', 'ReplicaSet/b') + owned('ReplicaSet', 'b', 'ReplicaSet/a');
  assert.ok(worldOf(ring).pods.size <= 2);
});

test('world: namespaces that objects name exist, with their name as a label', () => {
  const world = worldOf('apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n');
  assert.deepEqual(world.namespaces.get('b')?.labels, { 'kubernetes.io/metadata.name': 'b' });
});

test("world: a namespace cannot take another one's name as its label", () => {
  const world = worldOf(
    object('Namespace', 'a', '').replace('{name: a}', '{name: a, labels: {kubernetes.io/metadata.name: b}}'),
  );
  assert.equal(world.namespaces.get('a')?.labels['kubernetes.io/metadata.name'], 'a');
});

test('world: pods are spread so that half of the pairs or more cross nodes', () => {
  for (const nodeCount of [2, 3, 5]) {
    const pods = Array.from({ length: 9 }, (_, index) => object('Pod', `p${index}`, '')).join('');
    const all = [...worldOf(pods, { nodeCount }).pods.values()];
    const pairs = all.flatMap((a) => all.filter((b) => a.key < b.key).map((b) => a.node !== b.node));
    assert.ok(pairs.filter(Boolean).length * 2 >= pairs.length, `${nodeCount} nodes`);
  }
});

test('world: nodeName is honoured, and makes a node with the address of status.hostIP', () => {
  const world = worldOf(object('Pod', 'p', 'spec: {nodeName: big}\nstatus: {hostIP: 192.168.7.7, podIP: 10.9.9.9}'));
  assert.equal(world.pods.get('default/p' as Pod['key'])?.node, 'big');
  assert.deepEqual(world.nodes.get('big')?.addresses.map(formatAddress), ['192.168.7.7']);
});

test('world: declared nodes are all the nodes there are', () => {
  const world = worldOf(object('Node', 'only', 'spec: {podCIDR: 10.50.0.0/24}') + object('Pod', 'p', ''));
  assert.deepEqual([...world.nodes.keys()], ['only']);
  assert.deepEqual(world.pods.get('default/p' as Pod['key'])?.addresses.map(formatAddress), ['10.50.0.2']);
});

test('world: pods get addresses of every family of their node, and never one that is given', () => {
  const node = object(
    'Node',
    'n',
    'spec: {podCIDRs: [10.50.0.0/29, "fd00:5::/64"]}\nstatus: {addresses: [{type: InternalIP, address: 10.50.0.3}]}',
  );
  const world = worldOf(
    node + object('Pod', 'a', 'status: {podIP: 10.50.0.2}') + object('Pod', 'b', '') + object('Pod', 'c', ''),
  );
  const addresses = [...world.pods.values()].map(({ addresses: own }) => own.map(formatAddress).join(' '));
  assert.deepEqual(addresses.sort(), ['10.50.0.2', '10.50.0.4 fd00:5::2', '10.50.0.5 fd00:5::3']);
});

test('world: blocks of invented nodes hold no address of the input', () => {
  const world = worldOf(object('Pod', 'a', 'status: {podIP: 10.244.0.7}') + object('Pod', 'b', ''));
  const blocks = [...world.nodes.values()].flatMap(({ podCidrs }) => podCidrs.map(formatCidr));
  assert.deepEqual(blocks, ['10.244.1.0/24', '10.244.2.0/24']);
});

test("world: a hostNetwork pod has its node's addresses", () => {
  const world = worldOf(object('Pod', 'a', 'spec: {hostNetwork: true, nodeName: n}\nstatus: {hostIP: 192.168.3.3}'));
  assert.deepEqual(world.pods.get('default/a' as Pod['key'])?.addresses.map(formatAddress), ['192.168.3.3']);
});

test("world: a pod whose address is its host's is on the host's network", () => {
  const world = worldOf(object('Pod', 'a', 'spec: {nodeName: n}\nstatus: {hostIP: 192.168.3.3, podIP: 192.168.3.3}'));
  assert.equal(world.pods.get('default/a' as Pod['key'])?.hostNetwork, true);
});

test('world: an address that a status gives in two spellings is one', () => {
  const world = worldOf(object('Pod', 'a', 'status: {podIP: "fd00::1", podIPs: [{ip: "FD00::0:1"}, {ip: 10.0.0.1}]}'));
  assert.deepEqual(world.pods.get('default/a' as Pod['key'])?.addresses.map(formatAddress), ['fd00::1', '10.0.0.1']);
});

test('world: pods keep their node and address when others come and go', () => {
  const pod = (name: string): string => object('Pod', name, '');
  const before = worldOf(pod('m') + pod('n') + pod('o'));
  const after = worldOf(pod('a') + pod('m') + pod('o') + pod('z'), { previous: before });
  for (const name of ['m', 'o']) {
    const key = `default/${name}` as Pod['key'];
    assert.deepEqual(after.pods.get(key), before.pods.get(key));
  }
  const addresses = [...after.pods.values()].flatMap(({ addresses: own }) => own.map(formatAddress));
  assert.equal(new Set(addresses).size, 4);
  assert.deepEqual(after.nodes, before.nodes);
});

test('world: an address that the input now gives to another pod is given up', () => {
  const before = worldOf(object('Pod', 'm', ''));
  const [address] = before.pods.get('default/m' as Pod['key'])?.addresses ?? [];
  assert.ok(address);
  const after = worldOf(object('Pod', 'm', '') + object('Pod', 'a', `status: {podIP: ${formatAddress(address)}}`), {
    previous: before,
  });
  const own = after.pods.get('default/m' as Pod['key'])?.addresses.map(formatAddress) ?? [];
  assert.equal(own.length, 1);
  assert.notEqual(own[0], formatAddress(address));
});

function annotated(kind: 'Namespace' | 'NetworkPolicy', annotation: string): string {
  const version = kind === 'Namespace' ? 'v1' : 'networking.k8s.io/v1';
  const spec = kind === 'Namespace' ? '' : 'spec: {podSelector: {}}\n';
  return `apiVersion: ${version}\nkind: ${kind}\nmetadata:\n  name: a\n  annotations:\n    ${annotation}\n${spec}`;
}

test('world: an annotation that asks for what is done anyway, or is not ours, is no finding', () => {
  const annotations = [
    'moat.network/mode: enforce',
    'moat.network/deny: drop',
    'moat.network/open-connections: recheck',
  ];
  const found = [...annotations, 'example.com/mode: audit'].map((each) => buildOf(annotated('NetworkPolicy', each)));
  assert.deepEqual(
    found.flatMap(({ diagnostics }) => diagnostics),
    [],
  );
});

test('world: a namespace is audited where its annotation says just that', () => {
  const modeOf = (annotation: string): Mode | undefined =>
    buildOf(annotated('Namespace', annotation)).world.namespaces.get('a')?.mode;
  assert.equal(modeOf('moat.network/mode: audit'), 'audit');
  assert.deepEqual(buildOf(annotated('Namespace', 'moat.network/mode: audit')).diagnostics, []);
  const others = ['mode: enforce', 'mode: Audit', 'mode: " audit"', 'mode: [audit]', 'mode: true', 'Mode: audit'];
  for (const other of others) assert.equal(modeOf(`moat.network/${other}`), undefined, other);
  assert.equal(
    buildOf(annotated('NetworkPolicy', 'moat.network/mode: audit')).world.namespaces.get('default')?.mode,
    undefined,
  );
});

/** Name, input, code of the only error or warning, and what its message must say. */
const FINDINGS: readonly (readonly [string, string, string, RegExp])[] = [
  [
    'the same object twice',
    object('Pod', 'a', '') + object('Pod', 'a', ''),
    'object-duplicate',
    /world\.yaml:7.*world\.yaml:2/,
  ],
  [
    'one object in two versions',
    object('Deployment', 'a', '') + object('Deployment', 'a', '').replace('apps/v1', 'apps/v1beta1'),
    'object-duplicate',
    /Deployment default\/a/,
  ],
  [
    'two running pods with one address',
    object('Pod', 'a', 'status: {podIP: 10.0.0.1}') + object('Pod', 'b', 'status: {podIP: 10.0.0.1}'),
    'address-shared',
    /10\.0\.0\.1.*default\/a.*world\.yaml:2/,
  ],
  [
    'a pod with the address of a node',
    object('Node', 'n', 'status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}') +
      object('Pod', 'b', 'status: {podIP: 10.0.0.1}'),
    'address-shared',
    /10\.0\.0\.1.*the node n \(world\.yaml:2\)/,
  ],
  [
    'two nodes with one address',
    object('Node', 'n', 'status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}') +
      object('Node', 'm', 'status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}'),
    'address-shared',
    /the node n/,
  ],
  [
    'a kind that is not read',
    object('Widget', 'a', '') + object('Widget', 'b', ''),
    'kind-not-understood',
    /Widget.*2 objects/,
  ],
  [
    'a real kind of the group',
    object('Ingress', 'a', '').replace('apps/v1', 'networking.k8s.io/v1'),
    'kind-not-understood',
    /Ingress/,
  ],
  [
    'a misspelt NetworkPolicy',
    object('NetworkPolicys', 'a', '').replace('apps/v1', 'networking.k8s.io/v1'),
    'kind-unknown',
    /NetworkPolicys/,
  ],
  [
    'a NetworkPolicy of a version that is gone',
    object('NetworkPolicy', 'a', '').replace('apps/v1', 'extensions/v1beta1'),
    'kind-unknown',
    /extensions\/v1beta1/,
  ],
  [
    'a NetworkPolicy of the core group',
    object('NetworkPolicy', 'a', '').replace('apps/v1', 'v1'),
    'kind-unknown',
    /v1/,
  ],
  [
    'a NetworkPolicy of a misspelt group',
    object('NetworkPolicy', 'a', '').replace('apps/v1', 'networking.k8s.oi/v1'),
    'kind-unknown',
    /oi/,
  ],
  [
    "another system's NetworkPolicy",
    object('NetworkPolicy', 'a', '').replace('apps/v1', 'projectcalico.org/v3'),
    'kind-not-understood',
    /calico/,
  ],
  [
    'a policy that asks for an audit',
    annotated('NetworkPolicy', 'moat.network/mode: audit'),
    'annotation-unheard',
    /moat\.network\/mode: "audit" is not yet honoured: the policy is enforced$/,
  ],
  [
    'a policy that asks to keep connections',
    annotated('NetworkPolicy', 'moat.network/open-connections: keep'),
    'annotation-unheard',
    /the policy is enforced, on open connections too/,
  ],
  [
    'a namespace that asks for a mode that there is not',
    annotated('Namespace', 'moat.network/mode: Audit'),
    'annotation-unheard',
    /"Audit" is not yet honoured: the namespace's policies are enforced/,
  ],
  [
    'a namespace that asks for rejects',
    annotated('Namespace', 'moat.network/deny: reject'),
    'annotation-unheard',
    /what is denied is dropped/,
  ],
  [
    'an annotation of ours that is misspelt',
    annotated('NetworkPolicy', 'moat.network/mdoe: audit'),
    'annotation-unheard',
    /moat\.network\/mdoe: "audit" is not yet honoured/,
  ],
  [
    'an annotation of ours that is no text',
    annotated('NetworkPolicy', 'moat.network/mode: [audit]'),
    'annotation-unheard',
    /\["audit"\]/,
  ],
  ['a name with a slash', object('Pod', 'a/b', ''), 'object-name-unsafe', /"a\/b"/],
  [
    'a misspelt namespace',
    object('Pod', 'a', '').replace('{name: a}', '{name: a, namepsace: b}'),
    'metadata-field',
    /"namepsace"/,
  ],
  ['a name in capitals', object('Pod', 'Web', ''), 'object-name', /"Web"/],
  [
    'a namespace that is a path',
    object('Pod', 'a', '').replace('{name: a}', '{name: a, namespace: ../b}'),
    'object-name-unsafe',
    /"\.\.\/b"/,
  ],
  ['a bad pod address', object('Pod', 'a', 'status: {podIP: 10.0.0.999}'), 'object-field', /10\.0\.0\.999/],
  [
    'labels that are no mapping',
    object('Pod', 'a', '').replace('{name: a}', '{name: a, labels: [x]}'),
    'object-field',
    /a list/,
  ],
  [
    'a label that is a number',
    object('Pod', 'a', '').replace('{name: a}', '{name: a, labels: {x: 1}}'),
    'object-field',
    /number 1/,
  ],
  [
    'a number of replicas below zero',
    object('Deployment', 'a', `spec: {replicas: -1, ${TEMPLATE}}`),
    'object-field',
    /number -1/,
  ],
  ['containers that are no list', object('Pod', 'a', 'spec: {containers: {ports: []}}'), 'object-field', /a mapping/],
  [
    'a containerPort that is a list',
    object('Pod', 'a', 'spec: {containers: [{ports: [{containerPort: []}]}]}'),
    'object-field',
    /a list/,
  ],
  ['hostNetwork that is text', object('Pod', 'a', 'spec: {hostNetwork: "true"}'), 'object-field', /the text/],
  ['a template that is text', object('Deployment', 'a', 'spec: {template: x}'), 'object-field', /the text/],
  ['a port without number', object('Pod', 'a', 'spec: {containers: [{ports: [{name: http}]}]}'), 'pod-port', /http/],
  [
    'a bad node address',
    object('Node', 'a', 'status: {addresses: [{type: InternalIP, address: x}]}'),
    'object-field',
    /"x"/,
  ],
  ['a bad block of a node', object('Node', 'a', 'spec: {podCIDR: 10.0.0.0}'), 'object-field', /10\.0\.0\.0/],
  [
    'a node that is full',
    object('Node', 'a', 'spec: {podCIDR: 10.0.0.0/30}') + object('Pod', 'a', '') + object('Pod', 'b', ''),
    'addresses-exhausted',
    /default\/b/,
  ],
];

for (const [name, input, code, message] of FINDINGS) {
  test(`world: ${name} is named`, () => {
    const { diagnostics } = buildOf(input);
    assert.deepEqual(
      diagnostics.map((one) => one.code),
      [code],
    );
    assert.match(diagnostics[0]?.message ?? '', message);
    assert.equal(diagnostics[0]?.file, 'world.yaml');
  });
}

const NO_CLASH: readonly (readonly [string, string])[] = [
  ['hostNetwork pods', 'spec: {hostNetwork: true}\nstatus: {podIP: 10.0.0.1}'],
  ['a finished pod', 'status: {podIP: 10.0.0.1, phase: Failed}'],
];

for (const [name, rest] of NO_CLASH) {
  test(`world: ${name} may have another pod's address`, () => {
    const { diagnostics } = buildOf(object('Pod', 'a', 'status: {podIP: 10.0.0.1}') + object('Pod', 'b', rest));
    assert.deepEqual(diagnostics, []);
  });
}

test('world: of two pods with one address, the first keeps it and the second is no endpoint with it', () => {
  const { world } = buildOf(
    object('Pod', 'a', 'status: {podIP: 10.0.0.1}') + object('Pod', 'b', 'status: {podIP: 10.0.0.1}'),
  );
  const holders = [...world.pods.values()].filter(({ addresses }) =>
    addresses.some((own) => formatAddress(own) === '10.0.0.1'),
  );
  assert.deepEqual(
    holders.map(({ name }) => name),
    ['a'],
  );
});
