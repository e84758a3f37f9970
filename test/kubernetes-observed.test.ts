// What an operator sees of an agent that follows a real API server.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { readLines, writeLine } from '#agent/json-lines.ts';
import type { AgentStatus, CniCall } from '#agent/protocol.ts';
import { fieldsOf, itemsOf } from '#policy/fields.ts';
import {
  freePort,
  moat,
  moatEnded,
  POLICIES,
  type RunningAgent,
  requestOf,
  startAgent,
  stopAgent,
  until,
} from './support/api-agent.ts';
import { apiPods } from './support/api-pods.ts';
import { EVERYTHING } from './support/control-plane.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { udpArrives } from './support/pod-bed.ts';

type Answer = { readonly status: number; readonly text: string };

async function ask(port: number, path: string): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, text: await response.text() };
}

async function askUntil(port: number, path: string, met: (answer: Answer) => boolean): Promise<Answer> {
  let last: Answer = { status: 0, text: '' };
  return await until(path, async () => {
    last = await ask(port, path).catch((error: Error) => ({ status: 0, text: error.message }));
    return met(last) ? last : null;
  }).catch((error: Error) => assert.fail(`${error.message}; last: ${last.status} ${last.text}`));
}

/** What the agent answers to a call of the CNI plugin. */
async function callCni(socket: string, call: CniCall): Promise<unknown> {
  const connection = connect(socket);
  const { promise, resolve } = Promise.withResolvers<unknown>();
  readLines(connection, (value) => resolve(fieldsOf(value).result));
  writeLine(connection, { id: 1, method: 'cni', ...call });
  return await promise.finally(() => connection.destroy());
}

/** The value of each series. */
async function metrics(port: number): Promise<ReadonlyMap<string, number>> {
  const { status, text } = await ask(port, '/metrics');
  assert.equal(status, 200, text);
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
}

test('needs root: what an operator sees of an agent', { skip: needsRoot.skip || needsApiServer.skip }, async (t) => {
  const { instance, folder, bed, plane, agents } = await apiPods(t, 'observed');
  await plane.allow(
    'agent',
    EVERYTHING.filter((resource) => resource !== 'networkpolicies'),
  );
  await plane.allowEvents('agent');
  const port = await freePort();
  const socket = join(folder, 'agent.sock');
  const start = async (): Promise<RunningAgent> => {
    const here = `127.0.0.1:${port}`;
    const watched = ['--health-address', here, '--metrics-address', here, '--log-format', 'json', '--log-denies'];
    const args = ['--node', 'node-a', '--instance', instance, '--kubeconfig', plane.kubeconfig('agent'), ...watched];
    const agent = await startAgent(args, socket);
    agents.push(agent);
    return agent;
  };
  const agent = await start();
  const goes = (from: number, to: number, at: number): boolean =>
    udpArrives(bed, bed.pod(from), bed.pod(to), { family: 4, port: at });

  await t.test('a kind that is forbidden: not ready, named, and healthy', async () => {
    const forbidden = await askUntil(port, '/readyz', ({ text }) => text.includes('403'));
    assert.equal(forbidden.status, 503);
    const kind =
      /^\[-\] watch-NetworkPolicy: NetworkPolicy is not known: .*403 Forbidden.*; nothing is changed before/m;
    assert.match(forbidden.text, kind);
    assert.match(forbidden.text, /^\[-\] in-force: nothing was listed as a whole yet$/m);
    const healthy = await ask(port, '/healthz');
    assert.deepEqual([healthy.status, healthy.text], [200, 'healthz: ok\n'], 'a new process would not help');
    assert.match((await ask(port, '/readyz?verbose')).text, /^\[\+\] watch-Namespace: ok$/m);
  });

  await t.test('status --wait ends in time, with what is missing', async () => {
    const late = await moatEnded(['status', '--socket', socket, '--wait', '--timeout', '500ms']);
    assert.deepEqual([late.code, late.out], [2, '']);
    assert.match(late.said, /not all is in force after 0.5 s: NetworkPolicy is not known: .*403 Forbidden/);
    const nobody = await moatEnded(['status', '--socket', join(folder, 'none.sock')]);
    assert.deepEqual([nobody.code, nobody.out], [2, '']);
    assert.match(nobody.said, /no agent answers at .*none.sock/);
  });

  await t.test('all known and in force: ready, and status --wait ends', async () => {
    const waiting = moatEnded(['status', '--socket', socket, '--wait', '-o', 'json']);
    await plane.allow('agent', EVERYTHING);
    const { code, out, said } = await waiting;
    assert.equal(code, 0, said);
    const status = JSON.parse(out) as AgentStatus;
    assert.deepEqual([status.ready, status.policies, status.source], [true, 2, null]);
    assert.ok(status.known > 0 && status.known === status.revision);
    assert.deepEqual(await ask(port, '/readyz'), { status: 200, text: 'readyz: ok\n' });
    await agent.client.attach(bed.pods.map(requestOf));
    const text = await moatEnded(['status', '--socket', socket]);
    assert.match(text.out, /^ready {5}yes: all that is known is in force$/m);
  });

  await t.test(
    'observe tells flows with names and the rule, those that are asked for, through a new agent too',
    async () => {
      const json = moat(['observe', '--socket', socket, '--pod', 'shop/pod1', '--verdict', 'dropped', '-o', 'json']);
      const text = moat(['observe', '--socket', socket, '--verdict', 'forwarded', '--limit', '1']);
      const other = moat(['observe', '--socket', socket, '-n', 'elsewhere', '-o', 'json']);
      t.after(() => [json, text, other].forEach(({ child }) => void child.kill('SIGKILL')));
      const lines = (): Record<string, never>[] =>
        json
          .out()
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line));
      let at = 2000;
      await until('a dropped flow', () => {
        assert.deepEqual([goes(1, 0, at), goes(0, 1, at)], [false, true]);
        at++;
        return lines().length > 0 && text.child.exitCode !== null ? true : null;
      });
      const [{ flow, moat: own } = {}] = lines() as unknown as readonly [
        { flow: Record<string, unknown>; moat: object },
      ];
      assert.deepEqual(
        [flow?.verdict, flow?.source, flow?.destination, flow?.traffic_direction, flow?.drop_reason_desc],
        [
          ...['DROPPED', { namespace: 'shop', pod_name: 'pod2' }, { namespace: 'shop', pod_name: 'pod1' }],
          ...['INGRESS', 'POLICY_DENIED'],
        ],
      );
      assert.deepEqual(flow?.ingress_denied_by, [{ kind: 'NetworkPolicy', namespace: 'shop', name: 'pod1' }]);
      assert.ok(Math.abs(Date.parse(String(flow?.time)) - Date.now()) < 60_000);
      assert.equal((own as { reason: string }).reason, 'policy');
      assert.equal(text.child.exitCode, 0, text.said());
      const forwarded =
        /^[\d:.]{12} node-a shop\/pod1:\d+ → shop\/pod2:\d+\/UDP forwarded by NetworkPolicy shop\/pod2 spec\S*\n$/;
      assert.match(text.out(), forwarded);

      const before = lines().length;
      await stopAgent(agent);
      const next = await start();
      await next.client.attach(bed.pods.map(requestOf));
      await until('a flow that the next agent tells', () => {
        goes(1, 0, at++);
        return lines().length > before ? true : null;
      });
      const told = /the agent ended; policy stays in force[\s\S]*flows are told again/;
      await until('what it says of that', () => (told.test(json.said()) ? true : null));
      assert.deepEqual([other.out(), lines().every((line) => line.flow !== undefined)], ['', true]);
      json.child.kill('SIGINT');
      await once(json.child, 'exit');
      assert.equal(json.child.exitCode, 130);
    },
  );

  await t.test('metrics are what happened', async () => {
    const before = await metrics(port);
    for (let index = 0; index < 3; index++) assert.equal(goes(1, 0, 4000 + index), false);
    assert.equal(goes(0, 1, 4003), true);
    const after = await metrics(port);
    const grew = (key: string): number => (after.get(key) ?? Number.NaN) - (before.get(key) ?? Number.NaN);
    assert.equal(grew('moat_packets_dropped_total{reason="policy"}'), 3);
    assert.equal(grew('moat_packets_dropped_total{reason="malformed"}'), 0);
    assert.equal(grew('moat_table_entries{table="ct_map"}'), 1);
    const now = (key: string): number | undefined => after.get(key);
    assert.deepEqual(
      [now('moat_ready'), now('moat_policies'), now('moat_endpoints'), now('moat_attached_pods{state="enforced"}')],
      [1, 2, 2, 2],
    );
    assert.deepEqual(
      [now('moat_objects{kind="NetworkPolicy",state="understood"}'), now('moat_watch_connected{kind="NetworkPolicy"}')],
      [2, 1],
    );
    assert.deepEqual(
      [now('moat_table_entries{table="endpoint_map"}'), now('moat_table_entries{table="address_map"}')],
      [2, 2],
    );
    assert.ok((now('moat_table_entries{table="class_map"}') ?? 0) > 0);
    assert.ok((now('moat_table_entries{table="arena"}') ?? 0) > 0);
    assert.equal(now('moat_table_capacity{table="ct_map"}'), 262_144);
    assert.ok((now('moat_apply_duration_seconds_count') ?? 0) >= 1);
    assert.ok((now('process_resident_memory_bytes') ?? 0) > 3e7);
    const unheard = Date.now() / 1000 - (now('moat_watch_last_event_timestamp_seconds{kind="Pod"}') ?? 0);
    assert.ok(unheard >= 0 && unheard < 300, `${unheard}`);
  });

  await t.test('a policy that comes and goes is counted', async () => {
    const spec = { podSelector: {}, policyTypes: ['Egress', 'Ingress'], ingress: [{}], egress: [{}] };
    await plane.do('POST', POLICIES, { metadata: { name: 'more' }, spec });
    await until('three policies', async () => ((await metrics(port)).get('moat_policies') === 3 ? true : null));
    await plane.do('DELETE', `${POLICIES}/more`);
    await until('two policies', async () => ((await metrics(port)).get('moat_policies') === 2 ? true : null));
  });

  await t.test('flows that are denied are lines of the log, with names and the rule', async () => {
    const { said } = agents.at(-1) ?? agent;
    goes(1, 0, 5000);
    const line = await until('the line', () => {
      const found = said()
        .split('\n')
        .find((text) => text.includes('"destinationPort":5000'));
      return found === undefined ? null : JSON.parse(found);
    });
    const { event, level, sourcePod, destinationPod, reason, direction, policy, count, message } = line;
    assert.deepEqual([event, level, sourcePod, destinationPod], ['denied', 'info', 'shop/pod2', 'shop/pod1']);
    assert.deepEqual([reason, direction, policy, count], ['policy', 'ingress', 'NetworkPolicy shop/pod1 spec', 1]);
    assert.match(
      message,
      /^shop\/pod2:\d+ → shop\/pod1:5000\/UDP dropped: policy \(ingress\) by NetworkPolicy shop\/pod1 /,
    );
    for (const text of said().trimEnd().split('\n')) assert.equal(typeof JSON.parse(text).event, 'string');
  });

  await t.test('a CNI call that fails is counted, a line of the log and an Event of its pod', async () => {
    const args = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=pod1;K8S_POD_UID=7';
    const config = JSON.stringify({ cniVersion: '1.0.0', name: 'moat', type: 'moat-cni' });
    const call = { command: 'ADD', containerId: 'c1', netns: '/run/netns/none', ifname: 'eth0', args, config };
    // A node without pods, and without addresses for any.
    const [own, place] = [join(folder, 'other.sock'), await freePort()];
    const here = ['--health-address', 'off', '--metrics-address', `127.0.0.1:${place}`, '--log-format', 'json'];
    const where = ['--node', 'node-b', '--instance', instance, '--cni-folder', join(folder, 'cni')];
    const other = await startAgent([...where, '--kubeconfig', plane.kubeconfig('agent'), ...here], own);
    agents.push(other);
    await until('metrics', async () => await metrics(place).catch(() => null));
    const reply = (await callCni(own, call)) as { exit: number; output: { code: number } };
    assert.deepEqual([reply.exit, reply.output.code], [1, 11]);
    const now = await metrics(place);
    assert.equal(now.get('moat_cni_calls_total{command="ADD",outcome="11"}'), 1);
    assert.equal(now.get('moat_cni_call_duration_seconds_count{command="ADD"}'), 1);
    await callCni(own, { ...call, command: 'VIRUS' });
    assert.equal((await metrics(place)).get('moat_cni_calls_total{command="other",outcome="4"}'), 1);
    const line = /"event":"cni".*"message":"CNI ADD of c1 failed \(11\)/;
    await until('the line', () => (line.test(other.said()) ? true : null));
    const event = await until('the Event', async () => {
      const list = await plane.do('GET', '/apis/events.k8s.io/v1/namespaces/shop/events');
      return itemsOf(fieldsOf(list).items).map(fieldsOf)[0] ?? null;
    });
    const { name, uid } = fieldsOf(event.regarding);
    assert.deepEqual([event.reason, event.reportingInstance, name, uid], ['PodNotAttached', 'node-b', 'pod1', '7']);
    assert.equal((await metrics(place)).get('moat_kubernetes_events_total{outcome="written"}'), 1);
  });

  await t.test('without the API server: not ready, each kind named, healthy; with it again, ready', async () => {
    await plane.killApiServer();
    const alone = await askUntil(port, '/readyz', ({ status }) => status === 503);
    assert.match(alone.text, /is not known: .*; what was known last stays in force$/m);
    assert.equal((await ask(port, '/healthz')).status, 200);
    const away = await metrics(port);
    assert.deepEqual([away.get('moat_ready'), away.get('moat_check_ok{check="datapath"}')], [0, 1]);
    assert.ok((away.get('moat_api_errors_total{code="none"}') ?? 0) > 0);
    await plane.startApiServer();
    await askUntil(port, '/readyz', ({ status }) => status === 200);
    const back = await metrics(port);
    assert.ok((back.get('moat_watch_restarts_total{kind="Pod"}') ?? 0) > 0);
  });
});
