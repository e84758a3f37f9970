// Audit on real packets, by an agent that follows a real API server: what passes, how it is told, and that nothing of it
// outlives the audit.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AgentStatus, FlowEvent } from '#agent/protocol.ts';
import { TCP } from '#net/protocol.ts';
import { fieldsOf, itemsOf } from '#policy/fields.ts';
import { connectAgent } from '#sandbox/agent-client.ts';
import {
  type Ended,
  freePort,
  moat,
  moatEnded,
  type RunningAgent,
  requestOf,
  SILENT,
  startAgent,
  stopAgent,
  until,
} from './support/api-agent.ts';
import { apiPods } from './support/api-pods.ts';
import { Conversation, MOMENT_MS } from './support/conversation.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { udpArrives } from './support/pod-bed.ts';

const SHOP = '/api/v1/namespaces/shop';

test('needs root: audit, by an API server', { skip: needsRoot.skip || needsApiServer.skip }, async (t) => {
  const talks: Conversation[] = [];
  t.after(() => {
    for (const talk of talks) talk.close();
  });
  const { instance, folder, bed, plane, agents } = await apiPods(t, 'audit');
  await plane.allowEvents('agent');
  const port = await freePort();
  const socket = join(folder, 'agent.sock');
  const start = async (...more: readonly string[]): Promise<RunningAgent> => {
    const watched = ['--health-address', 'off', '--metrics-address', `127.0.0.1:${port}`];
    const log = ['--log-format', 'json', '--log-denies'];
    const args = ['--node', 'node-a', '--instance', instance, '--kubeconfig', plane.kubeconfig('agent')];
    const agent = await startAgent([...args, ...watched, ...log, ...more], socket);
    agents.push(agent);
    await agent.client.attach(bed.pods.map(requestOf));
    return agent;
  };
  const audit = async (mode: string | null): Promise<unknown> =>
    await plane.do('PATCH', SHOP, { metadata: { annotations: { 'moat.network/mode': mode } } });
  const untilAudited = async ({ client }: RunningAgent, count: number): Promise<AgentStatus> =>
    await until(`${count} audited addresses`, async () => {
      const status = await client.status();
      return status.audited === count ? status : null;
    });
  /** pod1 lets nobody in; pod2 lets pod1 in. */
  const talk = (from: 0 | 1, at: number): Conversation => {
    const [client, server] = [bed.pod(from), bed.pod(1 - from)];
    const place = { address: server.v4, port: at };
    const netns = (name: string): string => `/run/netns/${bed.prefix}-${name}`;
    const ends = { client: netns(client.name), server: netns(server.name), to: place, at: place };
    const made = new Conversation({ protocol: TCP, ...ends });
    talks.push(made);
    return made;
  };
  const denied = (at: number): boolean => !udpArrives(bed, bed.pod(1), bed.pod(0), { family: 4, port: at });
  const told = (event: FlowEvent): readonly unknown[] => {
    const { kind, reason, leg, sourcePod, destinationPod, ingress } = event;
    return [kind, reason, leg, sourcePod, destinationPod, ingress?.places.map(({ object }) => object)];
  };
  const first = await start();
  let allowed: Conversation | null = null;
  let audited: Conversation | null = null;

  await t.test('a namespace without the annotation, or with another value, is enforced', async () => {
    await first.client.subscribe();
    await audit('Audit');
    assert.equal((await first.client.status()).audited, 0);
    assert.ok(denied(6001));
    assert.ok(!talk(1, 6002).exchange(1, MOMENT_MS));
  });

  await t.test('an audited namespace: what its policy denies passes, and is told with the rule', async () => {
    const events: FlowEvent[] = [];
    const listener = await connectAgent(socket, { ...SILENT, flows: (some) => events.push(...some) });
    await listener?.subscribe();
    await audit('audit');
    await untilAudited(first, 2);
    audited = talk(1, 6003);
    assert.ok(audited.exchange(3));
    allowed = talk(0, 6004);
    assert.ok(allowed.exchange(3));
    const event = await until(
      'the audit',
      () => events.find(({ destinationPort }) => destinationPort === 6003) ?? null,
    );
    const rule = ['NetworkPolicy shop/pod1'];
    assert.deepEqual(told(event), ['audit', 'policy', 'ingress', 'shop/pod2', 'shop/pod1', rule]);
    const opened = await until('the other', () => events.find((each) => each.destinationPort === 6004) ?? null);
    assert.equal(opened.kind, 'new', 'what policy allows is not told as audited');
    listener?.close();
  });

  await t.test('it is counted, in the log, in `moat status` and in `moat observe`', async () => {
    const page = async (): Promise<string> => await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const count = Number(/^moat_packets_audited_total\{reason="policy"\} (\d+)$/m.exec(await page())?.[1]);
    assert.ok(count >= 5, `${count} packets`);
    assert.match(await page(), /^moat_endpoints_audited 2$/m);
    const line = await until('the log', () => {
      const text = first
        .said()
        .split('\n')
        .find((each) => each.includes('"destinationPort":6003'));
      return text === undefined ? null : JSON.parse(text);
    });
    assert.deepEqual([line.event, line.policy], ['audited', 'NetworkPolicy shop/pod1 spec']);
    assert.match(line.message, /would be dropped: policy \(ingress\) by NetworkPolicy shop\/pod1/);
    const observed = moat(['observe', '--socket', socket, '--verdict', 'audit', '--limit', '1', '-o', 'json']);
    await until('observe', () => {
      assert.ok(audited?.exchange(1));
      return observed.out() === '' ? null : true;
    });
    assert.equal(JSON.parse(observed.out()).flow.verdict, 'AUDIT');
    const status = moat(['status', '--socket', socket]);
    await until('status', () => (status.out().includes('audited') ? true : null));
    assert.match(status.out(), /^audited {3}what policy denies passes, for 2 of 2 addresses/m);
  });

  await t.test('a killed agent leaves it as it is, the next one finds it so', async () => {
    await stopAgent(first);
    assert.ok(audited?.exchange(2));
    const next = await start();
    await untilAudited(next, 2);
    assert.ok(audited?.exchange(2));
  });

  await t.test(
    'when the audit ends, the connection that it let through is cut, and the allowed one goes on',
    async () => {
      const agent = agents.at(-1) ?? first;
      await audit(null);
      await untilAudited(agent, 0);
      assert.ok(!audited?.exchange(1, MOMENT_MS), 'it outlived the audit');
      assert.ok(allowed?.exchange(2));
      assert.ok(denied(6005));
      await audit('audit');
      await untilAudited(agent, 2);
      assert.ok(!audited?.exchange(1, MOMENT_MS), 'what was cut stays cut');
      assert.ok(talk(1, 6006).exchange(2));
      await stopAgent(agent);
    },
  );

  await t.test('--mode enforce honours no annotation, also for what passed before', async () => {
    const before = talk(1, 6007);
    assert.ok(before.exchange(1), 'the kernel alone goes on auditing');
    const agent = await start('--mode', 'enforce');
    await untilAudited(agent, 0);
    assert.ok(!before.exchange(1, MOMENT_MS));
    assert.ok(denied(6008));
    assert.ok(allowed?.exchange(1));
    await stopAgent(agent);
  });

  await t.test('--mode audit lets pass what any policy denies', async () => {
    await audit(null);
    const agent = await start('--mode', 'audit');
    await untilAudited(agent, 2);
    assert.ok(talk(1, 6009).exchange(2));
    assert.ok(!denied(6010));
    await stopAgent(agent);
  });

  await t.test('moat bypass: for a time, whatever becomes of the agent, and nothing outlives it', async () => {
    const agent = await start();
    const bypass = async (...args: readonly string[]): Promise<Ended> =>
      await moatEnded(['bypass', '--socket', socket, ...args]);
    assert.ok(denied(6011));
    assert.match((await bypass()).said, /say for how long: --for 10m; or end it: --off/);
    assert.match((await bypass('--for', '2d')).said, /Write a time up to a day/);
    const begun = await bypass('--for', '10m');
    assert.deepEqual([begun.code, begun.said], [0, '']);
    assert.match(begun.out, /^What policy denies this node's pods passes for 10 min; moat bypass --off ends it/);
    const through = talk(1, 6012);
    assert.ok(through.exchange(2));
    const status = await moatEnded(['status', '--socket', socket]);
    assert.match(
      status.out,
      /^BYPASS {4}on for (10 min|9 min \d+ s) more: what policy denies this node's pods passes\nnode/,
    );
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const left = Number(/^moat_bypass_seconds_left (\d+)$/m.exec(page)?.[1]);
    assert.ok(left > 500 && left <= 600, `${left}`);
    assert.match(agent.said(), /"event":"bypass","message":"the bypass of policy for 10 min: .*; asked for by \w+"/);
    await stopAgent(agent);
    assert.ok(through.exchange(1), 'the kernel alone');
    const next = await start();
    await until('it is said', () =>
      /the bypass of policy is found on, for (10 min|9 min \d+ s) more/.test(next.said()) ? true : null,
    );
    assert.ok(through.exchange(1), 'the next agent has not ended it');
    const events = async (reason: string): Promise<number> => {
      const { items } = fieldsOf(await plane.do('GET', '/apis/events.k8s.io/v1/namespaces/default/events'));
      const found = itemsOf(items).filter((item) => fieldsOf(item).reason === reason);
      for (const each of found) assert.deepEqual(fieldsOf(fieldsOf(each).regarding).name, 'node-a');
      return found.length;
    };
    await until('two Events', async () => ((await events('PolicyBypassed')) === 2 ? true : null));
    assert.equal((await bypass('--off', '-o', 'json')).out, '{\n  "leftMs": 0\n}\n');
    assert.ok(!through.exchange(1, MOMENT_MS), 'it outlived the bypass');
    assert.ok(denied(6013));
    await until('its end', async () => ((await events('PolicyBypassEnded')) === 1 ? true : null));
    await bypass('--for', '300ms');
    await until('its end, by itself', () => (/the bypass of policy is over/.test(next.said()) ? true : null));
    assert.ok(denied(6014));
    await stopAgent(next);
    const nobody = await bypass('--for', '1m');
    assert.deepEqual([nobody.code, nobody.out], [2, '']);
    assert.match(nobody.said, /no agent answers at .*; what it put in the kernel goes on/);
  });
});
