// The agent's source against a real API server on a real etcd: what is listed, what changes, and each way in which they
// fail it. The oracle is what was put into the server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ApiClient } from '#cluster/kubernetes/client.ts';
import { KINDS, readObject } from '#cluster/kubernetes/kinds.ts';
import { REFLECTOR_DEFAULTS, type ReflectorOptions } from '#cluster/kubernetes/reflector.ts';
import { KubernetesSource } from '#cluster/kubernetes/source.ts';
import { fieldsOf, itemsOf } from '#policy/fields.ts';
import { ControlPlane, EVERYTHING } from './support/control-plane.ts';
import { Mirror, Recorded } from './support/mirror.ts';
import { needsApiServer } from './support/needs.ts';

const LIMIT_MS = 60_000;
const POLICIES = '/apis/networking.k8s.io/v1';

let plane: ControlPlane;

before(async () => {
  if (needsApiServer.skip !== false) return;
  plane = await ControlPlane.start(['agent', 'blind']);
  await plane.allow('agent', EVERYTHING);
});

after(async () => {
  await plane?.close();
});

type Followed = { readonly mirror: Mirror; readonly recorded: Recorded; readonly source: KubernetesSource };

function follow(
  context: { after(done: () => void): void },
  user: string,
  options: Partial<ReflectorOptions> = {},
): Followed {
  const [mirror, recorded] = [new Mirror(), new Recorded(plane.connect(user))];
  const to = { kinds: KINDS, node: 'node-a', follower: mirror, tell: mirror.tell, note: () => undefined };
  const source = new KubernetesSource(recorded, to, { ...REFLECTOR_DEFAULTS, ...options });
  context.after(() => source.close());
  return { mirror, recorded, source };
}

async function until(what: string, met: () => boolean): Promise<void> {
  for (let waited = 0; waited < LIMIT_MS; waited += 50) {
    if (met()) return;
    await pause(50);
  }
  throw new Error(`never came: ${what}`);
}

async function makeNamespace(name: string): Promise<void> {
  await plane.do('POST', '/api/v1/namespaces', { metadata: { name } });
}

/** A pod as the scheduler leaves it: on a node, with no address yet. */
async function makePod(namespace: string, name: string, nodeName = 'node-a'): Promise<void> {
  const spec = { nodeName, containers: [{ name: 'c', image: 'none' }] };
  await plane.do('POST', `/api/v1/namespaces/${namespace}/pods`, { metadata: { name }, spec });
}

async function setStatus(namespace: string, name: string, status: unknown): Promise<void> {
  await plane.do('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}/status`, { status });
}

async function deletePod(namespace: string, name: string): Promise<void> {
  await plane.do('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`);
}

async function makePolicy(namespace: string, name: string): Promise<void> {
  const body = { metadata: { name }, spec: { podSelector: {} } };
  await plane.do('POST', `${POLICIES}/namespaces/${namespace}/networkpolicies`, body);
}

async function deletePolicy(namespace: string, name: string): Promise<void> {
  await plane.do('DELETE', `${POLICIES}/namespaces/${namespace}/networkpolicies/${name}`);
}

const SOME = EVERYTHING.filter((resource) => resource !== 'networkpolicies');

test(
  'what is there is listed page by page and applied as one; then changes that count come, and no others',
  needsApiServer,
  async (t) => {
    await makeNamespace('shop');
    await plane.do('POST', '/api/v1/nodes', { metadata: { name: 'node-a' }, spec: { podCIDRs: ['10.9.0.0/24'] } });
    for (let index = 0; index < 7; index++) await makePod('shop', `p${index}`);
    await setStatus('shop', 'p0', {
      phase: 'Running',
      podIPs: [{ ip: '10.9.0.2' }, { ip: 'fd00::2' }],
      podIP: '10.9.0.2',
    });
    await makePolicy('shop', 'closed');

    const { mirror, recorded, source } = follow(t, 'agent', { pageSize: 3 });
    assert.match(source.problem ?? '', /^not listed yet: Namespace, Node, NetworkPolicy, Pod$/);
    await until('the first batch', () => mirror.batches.length > 0);
    assert.equal(source.problem, null);
    assert.deepEqual(mirror.batches[0], { events: [], revision: 1 }, 'everything was noted before');
    const pages = recorded.log.filter((line) => line.startsWith('GET /api/v1/pods?limit=3'));
    assert.equal(pages.length, 3, 'seven pods are three pages of three');
    const policies = recorded.log.findIndex((line) => line.startsWith(`GET ${POLICIES}/networkpolicies`));
    const others = ['pods', 'nodes', 'namespaces'].map((name) =>
      recorded.log.findLastIndex((line) => line.startsWith(`GET /api/v1/${name}?limit=3`)),
    );
    assert.ok(policies > Math.max(...others), 'policies are listed last, so that no pod has to wait for them');
    assert.deepEqual(mirror.about('shop'), [
      'namespace shop',
      'pod shop/p0 [node-a 10.9.0.2 fd00::2]',
      ...[1, 2, 3, 4, 5, 6].map((index) => `pod shop/p${index} [node-a]`),
      'policy NetworkPolicy/shop/closed',
    ]);
    assert.deepEqual(mirror.about('node node-a'), ['node node-a']);

    await setStatus('shop', 'p1', { podIP: '10.9.0.3', podIPs: [{ ip: '10.9.0.3' }], phase: 'Running' });
    await until('the address', () => mirror.about('10.9.0.3').length === 1);
    const batches = mirror.batches.length;
    const heard = (): number => recorded.log.filter((line) => line.startsWith('LINE /api/v1/pods MODIFIED')).length;
    const before = heard();
    await setStatus('shop', 'p1', { message: 'something that nobody is judged by' });
    await until('the change of the message', () => heard() > before);
    await pause(50);
    assert.equal(mirror.batches.length, batches, 'a change of the status alone is none of the world');
    await plane.do('PATCH', '/api/v1/namespaces/shop/pods/p1', { metadata: { labels: { app: 'web' } } });
    await until('the label', () => mirror.about('app=web').length === 1);

    await makeNamespace('later');
    await makePod('later', 'q');
    await until('a pod of a new namespace', () => mirror.about('later').length === 2);
    await deletePolicy('shop', 'closed');
    await deletePod('shop', 'p1');
    await deletePod('later', 'q');
    await until(
      'their end',
      () => mirror.about('closed').length + mirror.about('shop/p1').length + mirror.about('later/').length === 0,
    );
    assert.deepEqual(mirror.said, []);
  },
);

test(
  'a kind that may not be listed is unknown: nothing is applied before it is known, and it is never empty',
  needsApiServer,
  async (t) => {
    await plane.allow('blind', SOME);
    await makeNamespace('blind');
    await makePolicy('blind', 'kept');
    const { mirror, source } = follow(t, 'blind', { watchSeconds: 1 });
    await until('the refusal', () => /NetworkPolicy is not known: .*403 Forbidden/.test(source.problem ?? ''));
    assert.match(source.problem ?? '', /nothing is changed before it is listed/);
    await pause(500);
    assert.equal(mirror.batches.length, 0);

    await plane.allow('blind', EVERYTHING);
    await until('the first batch', () => mirror.batches.length > 0 && source.problem === null);
    assert.deepEqual(mirror.about('kept'), ['policy NetworkPolicy/blind/kept']);

    // The opposite: what it knows stays when the right is taken away again.
    await plane.allow('blind', SOME);
    await until('the refusal', () => /NetworkPolicy is not known/.test(source.problem ?? ''));
    assert.match(source.problem ?? '', /what was known last stays in force/);
    await makePod('blind', 'waits');
    await makePod('blind', 'still-followed', 'node-b');
    await until('another kind', () => mirror.about('still-followed').length === 1);
    assert.deepEqual(mirror.about('kept'), ['policy NetworkPolicy/blind/kept']);
    // Nobody knows what policies it has.
    await until('the complaint', () => /new pods of blind wait for its policies: .*403/.test(source.problem ?? ''));
    assert.deepEqual(mirror.about('waits'), []);

    await deletePolicy('blind', 'kept');
    await plane.allow('blind', EVERYTHING);
    await until('what happened meanwhile', () => source.problem === null && mirror.about('kept').length === 0);
    await until('the pod', () => mirror.about('waits').length === 1);
  },
);

test(
  'a watch that ends in order goes on from the last line, bookmarks too, and lists nothing again',
  needsApiServer,
  async (t) => {
    await makeNamespace('resumed');
    const { mirror, recorded } = follow(t, 'agent', { watchSeconds: 4 });
    await until('the first batch', () => mirror.batches.length > 0);
    const watches = (): readonly string[] => recorded.log.filter((line) => line.startsWith('WATCH /api/v1/pods'));
    await makePod('resumed', 'one');
    await until('the pod', () => mirror.about('resumed/one').length === 1);
    await until('a second watch', () => watches().length === 2);
    const second = recorded.log.indexOf(watches()[1] ?? '');
    const lines = recorded.log.slice(0, second).filter((line) => line.startsWith('LINE /api/v1/pods '));
    const version = lines.at(-1)?.split(' ').at(-1);
    assert.match(watches()[1] ?? '', new RegExp(`resourceVersion=${version}&`));
    await until('a bookmark', () => recorded.log.some((line) => /^LINE \/api\/v1\/pods BOOKMARK \d+$/.test(line)));
    await makePod('resumed', 'two');
    await until('the next pod', () => mirror.about('resumed/two').length === 1);
    const lists = recorded.log.filter((line) => line.startsWith('GET /api/v1/pods?limit=200'));
    assert.equal(lists.length, 1);
    assert.deepEqual(mirror.said, []);
  },
);

test(
  'a version that the server has forgotten is listed again: what went meanwhile is gone',
  needsApiServer,
  async (t) => {
    await makeNamespace('expired');
    await makePod('expired', 'goes');
    await makePod('expired', 'stays');
    // A server that has just started remembers no changes from before, and neither does its store.
    await plane.killApiServer();
    plane.compact();
    await plane.startApiServer();
    const { mirror, recorded, source } = follow(t, 'agent', { watchSeconds: 1 });
    await until('the first batch', () => mirror.batches.length > 0);
    assert.equal(mirror.about('expired/').length, 2);
    // Asks, as after a long sleep, from the first version that there ever was.
    let left = 1;
    recorded.rewrite = (path) => {
      if (left === 0 || !path.startsWith('/api/v1/pods?watch')) return path;
      left--;
      return path.replace(/resourceVersion=\d+/, 'resourceVersion=1');
    };
    await until('the watch from long ago', () => left === 0);
    await deletePod('expired', 'goes');
    await until('its end', () => mirror.about('expired/').length === 1);
    const failed = recorded.log.findIndex((line) => line.startsWith('FAILED 410 WATCH /api/v1/pods'));
    assert.ok(failed > 0, 'the server answers 410 Gone');
    assert.match(recorded.log.slice(failed).find((line) => line.startsWith('GET /api/v1/pods')) ?? '', /limit=200$/);
    assert.equal(source.problem, null);
  },
);

test(
  'a server that is killed leaves all as it is, named; what happened before it is back comes with it',
  needsApiServer,
  async (t) => {
    await makeNamespace('killed');
    await makePod('killed', 'goes');
    await makePolicy('killed', 'stays');
    const { mirror, source } = follow(t, 'agent');
    await until('the first batch', () => mirror.batches.length > 0);
    const known = mirror.about('killed');
    assert.equal(known.length, 3);
    await plane.killApiServer();
    await until('the complaint', () => source.problem !== null);
    for (const kind of ['Namespace', 'Node', 'NetworkPolicy', 'Pod']) {
      await until(`${kind} is named`, () => (source.problem ?? '').includes(`${kind} is not known: `));
    }
    assert.deepEqual(mirror.about('killed'), known);
    await plane.startApiServer();
    await deletePod('killed', 'goes');
    await until('what happened', () => source.problem === null && mirror.about('killed/goes').length === 0);
    assert.deepEqual(mirror.about('killed'), ['namespace killed', 'policy NetworkPolicy/killed/stays']);
    assert.ok(mirror.said.includes('Pod: followed again'), mirror.said.join('\n'));
  },
);

test(
  'a store that was set back is believed: what came after the snapshot is gone, and what went is back',
  needsApiServer,
  async (t) => {
    await makeNamespace('restored');
    await makePolicy('restored', 'before');
    const snapshot = plane.snapshot();
    await deletePolicy('restored', 'before');
    await makePolicy('restored', 'after');
    const { mirror, source } = follow(t, 'agent');
    await until('the first batch', () => mirror.batches.length > 0);
    assert.deepEqual(mirror.about('restored/'), ['policy NetworkPolicy/restored/after']);
    await plane.restore(snapshot);
    await until('the earlier state', () => mirror.about('restored/before').length === 1 && source.problem === null);
    assert.deepEqual(mirror.about('restored/'), ['policy NetworkPolicy/restored/before']);
    // By now the store has grown past the version that was known: only a new list can tell what is not there any more.
    await makePolicy('restored', 'since');
    await until('a change', () => mirror.about('restored/since').length === 1);
  },
);

test(
  'a pod of a real server means the same by protobuf, which the server knows, and by JSON',
  needsApiServer,
  async () => {
    await makeNamespace('wire');
    const ports = [
      { name: 'dns', containerPort: 53, protocol: 'UDP', hostPort: 5353, hostIP: '192.0.2.9' },
      { containerPort: 9090 },
    ];
    const spec = {
      nodeName: 'node-a',
      containers: [{ name: 'c', image: 'none', ports, env: [{ name: 'A', value: 'b' }] }],
      initContainers: [
        { name: 'side', image: 'none', restartPolicy: 'Always', ports: [{ name: 'http', containerPort: 80 }] },
      ],
    };
    const owner = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web-1', uid: 'u-1', controller: true };
    const metadata = {
      ...{ name: 'web', labels: { app: 'web', empty: '' }, annotations: { 'kubernetes.io/config.mirror': 'other' } },
      ownerReferences: [{ ...owner, controller: false, name: 'not-it', uid: 'u-0' }, owner],
    };
    await plane.do('POST', '/api/v1/namespaces/wire/pods', { metadata, spec });
    const host = { nodeName: 'node-a', hostNetwork: true, containers: [{ name: 'c', image: 'none' }] };
    await plane.do('POST', '/api/v1/namespaces/wire/pods', { metadata: { name: 'host' }, spec: host });
    await setStatus('wire', 'web', {
      ...{ phase: 'Running', podIP: '10.9.0.8', podIPs: [{ ip: '10.9.0.8' }, { ip: 'fd00::8' }], hostIP: '192.0.2.1' },
      hostIPs: [{ ip: '192.0.2.1' }],
    });
    const client = new ApiClient(plane.connect('admin'));
    const kind = KINDS.find((each) => each.kind === 'Pod') ?? assert.fail();
    const read = async (format: 'json' | 'protobuf'): Promise<readonly unknown[]> => {
      const list = fieldsOf(await client.get('/api/v1/namespaces/wire/pods', new AbortController().signal, format));
      assert.equal('kind' in list, format === 'json', 'what came is what was asked for');
      return itemsOf(list.items).map((pod) => readObject(kind, pod));
    };
    const pods = await read('protobuf');
    assert.equal(pods.length, 2);
    assert.deepEqual(pods, await read('json'));
  },
);
