// What a test of the real cluster does to a node: looks at its agent and its pods' links, and takes their hooks off.
import assert from 'node:assert/strict';
import { connectAgent } from '#sandbox/agent-client.ts';
import { agentSocket } from '../../tools/cluster/cluster.ts';
import { until } from '../../tools/cluster/commands.ts';
import { Machine } from '../../tools/cluster/machine.ts';

const SILENT = { flows: () => undefined, applied: () => undefined, problem: () => undefined, gone: () => undefined };
const NEXT_AGENT_MS = 60_000;

export type Link = { readonly ifname: string; readonly ifindex: number };

/** The number of a node's agent, on the node; '' where none runs. */
export async function agentOf(machine: Machine): Promise<string> {
  return (await machine.run('sh', ['-c', 'pgrep -f "[m]oat.js agent" || true'])).trim();
}

/** Kills a node's agent, and does something meanwhile. Resolves when the next one is there, which its kubelet starts. */
export async function killAgent(name: string, meanwhile: () => Promise<void> = async () => undefined): Promise<void> {
  const machine = Machine.open(name);
  const before = await agentOf(machine);
  assert.notEqual(before, '', `an agent runs on ${name}`);
  await machine.run('kill', ['-9', before]);
  await meanwhile();
  await until('the next agent', NEXT_AGENT_MS, async () => {
    const now = await agentOf(machine);
    return now !== '' && now !== before ? true : null;
  });
}

/** The node's ends of its pods' links. */
export async function linksOf(machine: Machine): Promise<readonly Link[]> {
  const links = JSON.parse(await machine.run('ip', ['-json', 'link'])) as readonly Link[];
  return links.filter(({ ifname }) => ifname.startsWith('moat'));
}

/** Takes the hooks off every pod of a node, as its agent would. */
export async function takeHooksOff(name: string): Promise<void> {
  const machine = Machine.open(name);
  const client = await connectAgent(agentSocket(machine), SILENT);
  assert.ok(client);
  await client.detach((await linksOf(machine)).map(({ ifindex }) => ifindex));
  client.close();
}
