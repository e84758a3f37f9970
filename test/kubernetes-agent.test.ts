// `moat agent` on a real API server: its policies judge real packets, and go on doing so when it is gone.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AgentStatus } from '#agent/protocol.ts';
import type { AgentClient } from '#sandbox/agent-client.ts';
import { POLICIES, requestOf, startAgent, until } from './support/api-agent.ts';
import { apiPods } from './support/api-pods.ts';
import { needsApiServer, needsRoot } from './support/needs.ts';
import { udpArrives } from './support/pod-bed.ts';

async function statusWhere(
  client: AgentClient,
  what: string,
  met: (status: AgentStatus) => boolean,
): Promise<AgentStatus> {
  return await until(what, async () => {
    const status = await client.status();
    return met(status) ? status : null;
  });
}

test('needs root: policies of an API server judge packets, and go on when it is gone, through a new agent too', {
  skip: needsRoot.skip || needsApiServer.skip,
}, async (t) => {
  const { instance, folder, bed, plane, agents } = await apiPods(t, 'kubernetes');
  const goes = (from: number, port: number): boolean =>
    udpArrives(bed, bed.pod(from), bed.pod(1 - from), { family: 4, port });
  assert.deepEqual([goes(0, 79), goes(1, 79)], [true, true], 'without an agent everything goes');

  const args = ['--node', 'node-a', '--instance', instance, '--kubeconfig', plane.kubeconfig('agent')];
  const first = await startAgent(args, join(folder, 'first.sock'));
  agents.push(first);
  await first.client.attach(bed.pods.map(requestOf));
  const status = await statusWhere(first.client, 'readiness', ({ ready }) => ready);
  assert.deepEqual([status.policies, status.source, status.problem], [2, null, null]);
  assert.deepEqual([goes(0, 80), goes(1, 80)], [true, false]);

  const opened = { spec: { ingress: [{ from: [{ podSelector: { matchLabels: { app: 'pod2' } } }] }] } };
  await plane.do('PATCH', `${POLICIES}/pod1`, opened);
  await statusWhere(first.client, 'a change', ({ revision }) => revision > status.revision);
  assert.deepEqual([goes(0, 81), goes(1, 81)], [true, true], 'a change is in force');
  const { revision } = await first.client.status();
  await plane.do('PATCH', `${POLICIES}/pod1`, { spec: { ingress: null } });
  await statusWhere(first.client, 'the change back', (now) => now.revision > revision);

  await plane.killApiServer();
  const alone = await statusWhere(first.client, 'the complaint', ({ ready }) => !ready);
  assert.match(alone.source ?? '', /is not known: .*; what was known last stays in force/);
  assert.deepEqual([alone.policies, alone.endpoints], [2, 2]);
  assert.deepEqual([goes(0, 82), goes(1, 82)], [true, false], 'without the server');

  first.child.kill('SIGKILL');
  const second = await startAgent(args, join(folder, 'second.sock'));
  agents.push(second);
  const blind = await statusWhere(
    second.client,
    'the complaint',
    ({ source }) => source?.includes('ECONNREFUSED') ?? false,
  );
  assert.deepEqual([blind.ready, blind.revision, blind.policies], [false, 0, 0]);
  assert.match(blind.source ?? '', /Pod is not known: .*; nothing is changed before it is listed/);
  assert.deepEqual([goes(0, 83), goes(1, 83)], [true, false], 'an agent that knows nothing changes nothing');

  await plane.startApiServer();
  await second.client.attach(bed.pods.map(requestOf));
  const back = await statusWhere(second.client, 'readiness', ({ ready }) => ready);
  assert.equal(back.policies, 2);
  assert.deepEqual([goes(0, 84), goes(1, 84)], [true, false]);
  await plane.do('DELETE', `${POLICIES}/pod1`);
  await statusWhere(second.client, 'the end of a policy', ({ policies }) => policies === 1);
  assert.deepEqual([goes(0, 85), goes(1, 85)], [true, true], 'without its policy the pod is open');
  assert.match(second.said(), /Pod: followed again/);
});
