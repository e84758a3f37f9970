// A sandbox's status as people read it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SandboxStatus } from '#sandbox/api.ts';
import { statusText } from './sandbox-text.ts';

const AGENT = { node: 'one', datapath: 'ebpf', pid: 7, revision: 3, known: 3, policies: 1, drops: {} } as const;

function statusOf(endpoints: number, rules: number): SandboxStatus {
  const agent = {
    ...{
      ...AGENT,
      endpoints,
      audited: 0,
      bypassMs: 0,
      rules,
      problem: null,
      ready: true,
      source: null,
      findings: [],
      hooksRepaired: 0,
      memoryMb: 91,
      lostEvents: 0,
      evictedFlows: 0,
    },
  };
  const node = { name: 'one', netns: 'moat-a-one', addresses: ['172.18.0.2'], agent };
  const pod = { name: 'shop/web', node: 'one', netns: 'moat-a-p0', addresses: ['10.244.0.2'] };
  return { name: 'a', pid: 6, revision: 3, nodes: [node], pods: [pod] };
}

test('the status counts one thing as one, and several as several', async () => {
  const text = await statusText(statusOf(1, 2));
  assert.match(text, /^sandbox a: 1 node, 1 pod\n/);
  assert.match(text, /1 address, 2 rules/);
  assert.match(await statusText(statusOf(2, 1)), /2 addresses, 1 rule /);
});

test('an agent that is away is said to be away', async () => {
  const { nodes, ...rest } = statusOf(1, 1);
  const text = await statusText({ ...rest, nodes: nodes.map((node) => ({ ...node, agent: null })) });
  assert.match(text.replace(/\s+/g, ' '), /agent is away; the kernel goes on enforcing/);
});

test('what found no room for its flows is told with its node', async () => {
  const { nodes, ...rest } = statusOf(1, 1);
  const full = nodes.map(({ agent, ...node }) => ({
    ...node,
    agent: agent && { ...agent, evictedFlows: 1204, drops: { 'conntrack-full': 1 } },
  }));
  const text = await statusText({ ...rest, nodes: full });
  assert.match(text, /one: 1204 flows gave way to newer ones of the same pod, 1 packet dropped for want of room/);
  assert.doesNotMatch(await statusText(statusOf(1, 1)), /room/);
});
