// A sandbox's status as people read it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SandboxStatus } from '#sandbox/api.ts';
import { statusText } from './sandbox-text.ts';

const AGENT = { node: 'one', datapath: 'ebpf', pid: 7, revision: 3, policies: 1, drops: {}, lostEvents: 0 } as const;

function statusOf(endpoints: number, rules: number): SandboxStatus {
  const agent = { ...AGENT, endpoints, rules, problem: null, hooksRepaired: 0, memoryMb: 91 };
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
