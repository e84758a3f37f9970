// Kubernetes Events on a real API server: what is told of policies and kinds, by whom, how often, and what is lost.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Log } from '#agent/log.ts';
import { Meters } from '#agent/metrics/meters.ts';
import { Observer } from '#agent/observer.ts';
import { ApiClient } from '#cluster/kubernetes/client.ts';
import type { EventNote } from '#cluster/kubernetes/event-note.ts';
import { EventWriter } from '#cluster/kubernetes/event-writer.ts';
import { KINDS } from '#cluster/kubernetes/kinds.ts';
import { REFLECTOR_DEFAULTS } from '#cluster/kubernetes/reflector.ts';
import { KubernetesSource } from '#cluster/kubernetes/source.ts';
import type { EventTimes } from '#cluster/kubernetes/source-events.ts';
import { until } from './support/api-agent.ts';
import { ControlPlane, EVERYTHING } from './support/control-plane.ts';
import { Mirror } from './support/mirror.ts';
import { needsApiServer } from './support/needs.ts';

type WrittenEvent = {
  readonly metadata: { readonly name: string; readonly creationTimestamp: string };
  readonly reason: string;
  readonly note: string;
  readonly type: string;
  readonly action: string;
  readonly reportingInstance: string;
  readonly regarding: {
    readonly kind: string;
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
  };
  readonly series?: { readonly count: number };
};

const TIMES: EventTimes = { turnMs: 300, unknownMs: 100, againMs: 3_600_000 };
const NODES = ['node-a', 'node-b', 'node-c', 'node-d', 'node-e'];
const POLICIES = '/apis/networking.k8s.io/v1/namespaces';
/** Its rules stand in a direction that policyTypes leaves out. */
const INERT = { podSelector: {}, policyTypes: ['Ingress'], egress: [{}] };

let plane: ControlPlane;

before(async () => {
  if (needsApiServer.skip !== false) return;
  plane = await ControlPlane.start(['agent', 'silent']);
  await plane.allow('agent', EVERYTHING);
  await plane.allow('silent', EVERYTHING);
  await plane.allowEvents('agent');
  for (const name of NODES) await plane.do('POST', '/api/v1/nodes', { metadata: { name } });
});

after(async () => {
  await plane?.close();
});

async function eventsIn(namespace: string): Promise<readonly WrittenEvent[]> {
  const { items } = (await plane.do('GET', `/apis/events.k8s.io/v1/namespaces/${namespace}/events`)) as {
    items: readonly WrittenEvent[];
  };
  return items;
}

type Written = { readonly writer: EventWriter; readonly mirror: Mirror; readonly told: string[] };

/** An agent's source and writer, as one node has them. */
function follow(context: { after(done: () => void): void }, node: string, user = 'agent', times = TIMES): Written {
  const client = new ApiClient(plane.connect(user));
  const told: string[] = [];
  const writer = new EventWriter(client, { node, repeatMs: 500, tell: (message) => void told.push(message) });
  const mirror = new Mirror();
  const note = (each: EventNote): void => writer.note(each);
  const source = new KubernetesSource(
    client,
    { kinds: KINDS, node, follower: mirror, tell: mirror.tell, note },
    REFLECTOR_DEFAULTS,
    times,
  );
  context.after(() => {
    source.close();
    writer.close();
  });
  return { writer, mirror, told };
}

function sum(all: readonly Written[], outcome: 'written' | 'repeated' | 'left_to_others' | 'over' | 'failed'): number {
  return all.reduce((total, { writer }) => total + (writer.outcomes.get(outcome) ?? 0), 0);
}

test(
  'of five agents, one writes that a policy is not what it seems; and nobody, once it is mended',
  needsApiServer,
  async (t) => {
    await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'mixed' } });
    const agents = NODES.map((node) => follow(t, node));
    await until('all follow', () => (agents.every(({ mirror }) => mirror.batches.length > 0) ? true : null));
    const made = (await plane.do('POST', `${POLICIES}/mixed/networkpolicies`, {
      metadata: { name: 'inert' },
      spec: INERT,
    })) as {
      metadata: { uid: string };
    };
    await plane.do('POST', `${POLICIES}/mixed/networkpolicies`, {
      metadata: { name: 'good' },
      spec: { podSelector: {} },
    });
    await until('those who come after the first', () => (sum(agents, 'left_to_others') === 2 ? true : null));
    const events = await eventsIn('mixed');
    assert.equal(events.length, 1);
    const [event] = events;
    assert.ok(event);
    const { reason, type, action, regarding, note, reportingInstance, series } = event;
    assert.deepEqual([reason, type, action, series], ['PolicyWarning', 'Warning', 'ReadPolicy', undefined]);
    assert.deepEqual(
      [regarding.kind, regarding.namespace, regarding.name, regarding.uid],
      ['NetworkPolicy', 'mixed', 'inert', made.metadata.uid],
    );
    assert.match(note, /^warning: networkpolicy\/mixed\/inert spec\.egress/);
    assert.ok(NODES.includes(reportingInstance));
    assert.deepEqual([sum(agents, 'written'), sum(agents, 'failed')], [1, 0]);

    // Mended before the others' turns have come: they have nothing to say, whoever wrote first.
    await plane.do('POST', `${POLICIES}/mixed/networkpolicies`, { metadata: { name: 'brief' }, spec: INERT });
    await until('the first', () => (sum(agents, 'written') === 2 ? true : null));
    await plane.do('DELETE', `${POLICIES}/mixed/networkpolicies/brief`);
    await until('the others', () => (sum(agents, 'over') + sum(agents, 'left_to_others') === 4 ? true : null));
    assert.equal((await eventsIn('mixed')).length, 2);
  },
);

test(
  'a policy that is too large is one that is not understood, and the note is no longer than the API takes',
  needsApiServer,
  async (t) => {
    await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'large' } });
    const agents = NODES.map((node) => follow(t, node));
    const rules = Array.from({ length: 5001 }, () => ({}));
    const body = { metadata: { name: 'huge' }, spec: { podSelector: {}, ingress: rules } };
    await plane.do('POST', `${POLICIES}/large/networkpolicies`, body);
    await until('the first', () => (sum(agents, 'written') >= 1 ? true : null));
    const event = (await eventsIn('large'))[0];
    assert.equal(event?.reason, 'PolicyPartlyUnderstood');
    assert.match(event?.note ?? '', /^error: networkpolicy\/large\/huge spec/);
    assert.ok(Buffer.byteLength(event?.note ?? '') <= 1024);
  },
);

test('what goes on is the same Event again, in a series, by whoever wrote it', needsApiServer, async (t) => {
  await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'again' } });
  const often = { ...TIMES, againMs: 700 };
  const agents = NODES.map((node) => follow(t, node, 'agent', often));
  await plane.do('POST', `${POLICIES}/again/networkpolicies`, { metadata: { name: 'inert' }, spec: INERT });
  const event = await until('a series', async () => {
    const all = await eventsIn('again');
    return all.length === 1 && (all[0]?.series?.count ?? 0) >= 3 ? (all[0] ?? null) : null;
  });
  assert.equal(event.reason, 'PolicyWarning');
  assert.equal(agents.filter(({ writer }) => (writer.outcomes.get('repeated') ?? 0) > 0).length >= 1, true);
});

test('a kind that stays unknown is one Event of the cluster', needsApiServer, async (t) => {
  const agents = NODES.map((node) => follow(t, node));
  await until('all follow', () => (agents.every(({ mirror }) => mirror.batches.length > 0) ? true : null));
  await plane.allow(
    'agent',
    EVERYTHING.filter((resource) => resource !== 'networkpolicies'),
  );
  await plane.killApiServer();
  await plane.startApiServer();
  const event = await until('the Event', async () => {
    return (await eventsIn('default')).find(({ note }) => note.startsWith('NetworkPolicy')) ?? null;
  });
  // Forbidden, or what came before: the server's end.
  assert.match(event.note, /^NetworkPolicy is not known: \S.*; what was known last stays in force$/);
  assert.deepEqual([event.regarding.kind, event.regarding.name], ['Node', event.reportingInstance]);
  await until('the others', () => (sum(agents, 'left_to_others') >= 4 ? true : null));
  assert.equal((await eventsIn('default')).filter(({ note }) => note.startsWith('NetworkPolicy')).length, 1);
  await plane.allow('agent', EVERYTHING);
});

test('who may not write Events says so once, counts them, and follows all the same', needsApiServer, async (t) => {
  await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'mute' } });
  const agents = NODES.map((node) => follow(t, node, 'silent'));
  await plane.do('POST', `${POLICIES}/mute/networkpolicies`, { metadata: { name: 'inert' }, spec: INERT });
  await plane.do('POST', `${POLICIES}/mute/networkpolicies`, { metadata: { name: 'inert2' }, spec: INERT });
  await until('failures', () => (sum(agents, 'failed') >= 2 ? true : null));
  assert.deepEqual([sum(agents, 'written'), (await eventsIn('mute')).length], [0, 0]);
  for (const { told, mirror } of agents) {
    assert.ok(told.length <= 3, told.join('\n'));
    await until('both policies', () => (mirror.about('mute/').length >= 2 ? true : null));
  }
  assert.match(agents.flatMap(({ told }) => told)[0] ?? '', /an Event can't be written: .*403 Forbidden/);
});

test(
  'a pod that can not be attached is one Event in a series, and a flood of them is cut',
  needsApiServer,
  async (t) => {
    await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'pods' } });
    const client = new ApiClient(plane.connect('agent'));
    const writer = new EventWriter(client, { node: 'node-a', repeatMs: 500, tell: (message) => assert.fail(message) });
    t.after(() => writer.close());
    const log = new Log({ format: 'text', level: 'error' });
    const observer = new Observer({ log, meters: new Meters(), note: (each) => writer.note(each), logDenies: false });
    const fail = (name: string): void => {
      const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=pods;K8S_POD_NAME=${name};K8S_POD_UID=u-1`;
      const call = { command: 'ADD', containerId: 'c', netns: '/n', ifname: 'eth0', args, config: '{}' };
      observer.cniCalled(
        call,
        { exit: 1, output: { code: 11, msg: 'no address is left', details: '256 in use' } },
        0.1,
      );
    };
    for (let index = 0; index < 50; index++) fail('web-0');
    await until('one', () => (writer.outcomes.get('written') === 1 ? true : null));
    for (let index = 0; index < 50; index++) fail('web-0');
    await until('a series', () => (writer.outcomes.get('repeated') === 1 ? true : null));
    const [event, ...others] = await eventsIn('pods');
    assert.deepEqual(
      [event?.reason, event?.note, others.length],
      ['PodNotAttached', 'no address is left: 256 in use', 0],
    );
    assert.deepEqual([event?.regarding.kind, event?.regarding.name, event?.regarding.uid], ['Pod', 'web-0', 'u-1']);
    assert.equal(event?.series?.count, 100);

    const floodMs = performance.now();
    for (let index = 0; index < 1000; index++) fail(`flood-${index}`);
    await pause(500);
    const written = writer.outcomes.get('written') ?? 0;
    // 20 at once and one a second, and the one before.
    assert.ok(written <= 22 + (performance.now() - floodMs) / 1000, `${written}`);
    assert.ok((writer.outcomes.get('dropped') ?? 0) > 700);
  },
);
