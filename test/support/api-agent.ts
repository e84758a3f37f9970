// `moat agent` as a process that follows a control plane, and the pods and policies that a test gives it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { AttachRequest } from '#agent/protocol.ts';
import { formatAddress } from '#net/address.ts';
import { podKey } from '#policy/world.ts';
import { type AgentClient, type AgentListener, connectAgent } from '#sandbox/agent-client.ts';
import { type ControlPlane, EVERYTHING } from './control-plane.ts';
import type { BedPod, PodBed } from './pod-bed.ts';

const LIMIT_MS = 60_000;
const ROOT = join(import.meta.dirname, '../..');
export const POLICIES = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies';
export const PODS = '/api/v1/namespaces/shop/pods';
export const SILENT: AgentListener = {
  ...{ flows: () => undefined, applied: () => undefined, problem: () => undefined, gone: () => undefined },
};

export type RunningAgent = {
  readonly child: ChildProcess;
  readonly client: AgentClient;
  /** What it has written to its standard error so far. */
  readonly said: () => string;
};

/** Looks until there is something. */
export async function until<T>(what: string, look: () => Promise<T | null> | T | null): Promise<T> {
  for (let waited = 0; waited < LIMIT_MS; waited += 50) {
    const found = await look();
    if (found !== null) return found;
    await pause(50);
  }
  throw new Error(`never came: ${what}`);
}

/** `./moat` with arguments, and what it has written so far. */
export type Moat = { readonly child: ChildProcess; readonly out: () => string; readonly said: () => string };

export function moat(args: readonly string[]): Moat {
  const child = spawn('./moat', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', said: '' };
  child.stdout.setEncoding('utf8').on('data', (piece) => {
    text.out += piece;
  });
  child.stderr.setEncoding('utf8').on('data', (piece) => {
    text.said += piece;
  });
  return { child, out: () => text.out, said: () => text.said };
}

export type Ended = { readonly code: number | null; readonly out: string; readonly said: string };

/** `./moat` with arguments, once it has ended. */
export async function moatEnded(args: readonly string[]): Promise<Ended> {
  const { child, out, said } = moat(args);
  await once(child, 'close');
  return { code: child.exitCode, out: out(), said: said() };
}

export async function startAgent(args: readonly string[], socket: string): Promise<RunningAgent> {
  const { child, said } = moat(['agent', ...args, '--socket', socket]);
  const client = await until('the socket', async () => {
    assert.equal(child.exitCode, null, said());
    return await connectAgent(socket, SILENT);
  });
  return { child, client, said };
}

export async function stopAgent({ client, child }: RunningAgent): Promise<void> {
  client.close();
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = once(child, 'exit');
  child.kill('SIGKILL');
  await over;
}

/** A port of the loopback that nobody uses now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

export function requestOf({ name, link }: BedPod): AttachRequest {
  const mac = [...link.mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  const addresses = link.addresses.filter((address) => address.family === 4).map(formatAddress);
  return { pod: podKey('shop', name), interfaceIndex: link.interfaceIndex, mac, addresses };
}

/** The pods of a bed, and a policy for each: pod1 lets nobody in, pod2 lets pod1 in. */
export async function fillPlane(plane: ControlPlane, bed: PodBed): Promise<void> {
  await plane.allow('agent', EVERYTHING);
  await plane.do('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } });
  await plane.do('POST', '/api/v1/nodes', { metadata: { name: 'node-a' }, spec: { podCIDRs: ['10.9.0.0/24'] } });
  for (const { name, v4 } of bed.pods) {
    const spec = { nodeName: 'node-a', containers: [{ name: 'c', image: 'none' }] };
    await plane.do('POST', PODS, { metadata: { name, labels: { app: name } }, spec });
    const ip = formatAddress(v4);
    await plane.do('PATCH', `${PODS}/${name}/status`, { status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] } });
    const ingress = name === 'pod1' ? [] : [{ from: [{ podSelector: { matchLabels: { app: 'pod1' } } }] }];
    const policy = { podSelector: { matchLabels: { app: name } }, policyTypes: ['Ingress'], ingress };
    await plane.do('POST', POLICIES, { metadata: { name }, spec: policy });
  }
}
