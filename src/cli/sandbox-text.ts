// A sandbox's answers as text for people.
import type { AgentStatus } from '#agent/protocol.ts';
import type { Change, SandboxStatus } from '#sandbox/api.ts';
import type { Downed } from '#sandbox/client.ts';
import { outputWidth } from './output.ts';
import { tableText } from './table.ts';

/** What changed, one a line, and how long it took. */
export function changeText({ changes, totalMs }: Change): string {
  if (changes.length === 0) return 'nothing changed';
  return [...changes, `in force on every node after ${totalMs.toFixed(1)} ms`].join('\n');
}

/** Nodes with their agents, then pods. */
export async function statusText({ name, nodes, pods }: SandboxStatus): Promise<string> {
  const nodeRows = nodes.map(({ name: node, agent, addresses }) => [
    node,
    addresses.join(' '),
    agent === null
      ? 'agent is away; the kernel goes on enforcing'
      : `${counted(agent.endpoints, 'address', 'es')}, ${counted(agent.rules, 'rule', 's')}`,
    agent === null ? '' : `${Math.round(agent.memoryMb)} MB`,
    agent?.problem ?? '',
  ]);
  const podRows = pods.map((pod) => [pod.name, pod.node, pod.addresses.join(' '), pod.netns]);
  const width = outputWidth();
  return [
    `sandbox ${name}: ${counted(nodes.length, 'node', 's')}, ${counted(pods.length, 'pod', 's')}`,
    '',
    await tableText(['node', 'addresses', 'agent', 'memory', 'problem'], nodeRows, width),
    ...nodes.flatMap(({ name: node, agent }) => (agent === null ? [] : roomText(node, agent))),
    '',
    await tableText(['pod', 'node', 'addresses', 'network namespace'], podRows, width),
  ].join('\n');
}

/** What full tables of flows did to the pods that filled them; nothing, as a rule. */
function roomText(node: string, { evictedFlows, drops }: AgentStatus): readonly string[] {
  const refused = drops['conntrack-full'] ?? 0;
  if (evictedFlows === 0 && refused === 0) return [];
  const evicted = `${counted(evictedFlows, 'flow', 's')} gave way to newer ones of the same pod`;
  return [`${node}: ${evicted}, ${counted(refused, 'packet', 's')} dropped for want of room (conntrack-full)`];
}

function counted(count: number, one: string, plural: string): string {
  return `${count} ${one}${count === 1 ? '' : plural}`;
}

/** What `down` found. */
export function downText(name: string, found: Downed): string {
  switch (found.kind) {
    case 'down':
      return `sandbox ${name} is down`;
    case 'absent':
      return `there is no sandbox ${name}`;
    case 'leftovers':
      return `removed what sandbox ${name} left: ${found.namespaces.length} namespaces, ${found.processes.length} agents`;
  }
}
