// Pods of a real cluster that ask a server, by kubectl: the server, whom its policy lets in, and what they get.
import assert from 'node:assert/strict';
import { get } from 'node:http';
import { apply as applyAll, kubectl } from '../../tools/cluster/cluster.ts';
import { TOOLS_IMAGE } from '../../tools/cluster/images.ts';
import { addressesOf as machineAddresses } from '../../tools/cluster/places.ts';

/** On the server's node, of the server. */
export const HOST_PORT = 18_080;
export const NODES: readonly (readonly string[])[] = [2, 3].map((number) => Object.values(machineAddresses(number)));
export const COMPUTER: readonly string[] = Object.values(machineAddresses(254));

/** A pod of the namespace shop with a label of its name; `serve`: an httpd, which its kubelet asks every second, and which logs. */
export function pod(name: string, nodeName: string, serve = false, ports: readonly unknown[] = []): unknown {
  const httpd = 'echo hello >/tmp/index.html; exec httpd -f -v -p 8080 -h /tmp';
  const container = {
    ...{ name: 'c', image: TOOLS_IMAGE, command: ['sh', '-c', serve ? httpd : 'exec sleep 1000000'] },
    ...(serve ? { readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }, ports } : {}),
  };
  const spec = { nodeName, terminationGracePeriodSeconds: 0, containers: [container] };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop', labels: { app: name } }, spec };
}

export const SERVER: unknown = pod('server', 'node-1', true, [{ containerPort: 8080, hostPort: HOST_PORT }]);
/** One who asks the server on its node, and one on the other. */
export const CLIENTS: readonly unknown[] = [pod('near', 'node-1'), pod('far', 'node-2')];

/** Lets these in to the server, and nobody else. */
export function policy(...from: readonly string[]): unknown {
  return policyFor(from.map((app) => ({ podSelector: { matchLabels: { app } } })));
}

export function policyFor(peers: readonly unknown[]): unknown {
  const spec = { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'] };
  return {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'server', namespace: 'shop' } },
    spec: peers.length === 0 ? spec : { ...spec, ingress: [{ from: peers }] },
  };
}

export async function apply(...objects: readonly unknown[]): Promise<void> {
  await applyAll(objects);
}

/** Whether the server's page comes to a pod, for each of the server's addresses. */
export async function pages(client: string, addresses: readonly string[], port = 8080): Promise<readonly boolean[]> {
  const asked = addresses.map(async (address) =>
    isPage(await kubectl(['-n', 'shop', 'exec', client, '--', 'sh', '-c', askingFor(address, port)])),
  );
  return await Promise.all(asked);
}

/** A pod's node and the number that its container has there. */
export async function containerOf(name: string): Promise<readonly [node: string, id: string]> {
  const fields = '{.spec.nodeName} {.status.containerStatuses[0].containerID}';
  const [node = '', id = ''] = (await kubectl(['-n', 'shop', 'get', 'pod', name, '-o', `jsonpath=${fields}`])).split(
    ' ',
  );
  return [node, id.replace('containerd://', '')];
}

/** In a pod's sh. */
export function askingFor(address: string, port = 8080): string {
  return `printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 2 ${address} ${port} || true`;
}

export function isPage(answer: string): boolean {
  return answer.trimEnd().endsWith('hello');
}

/** What the near and the far pod get. */
export async function judged(addresses: readonly string[]): Promise<readonly (readonly boolean[])[]> {
  return await Promise.all(['near', 'far'].map((client) => pages(client, addresses)));
}

/** Looks until it is as expected: a change of a policy is in force soon after kubectl has answered, and not before. */
export async function becomes(
  expected: readonly (readonly boolean[])[],
  addresses: readonly string[],
  what: string,
): Promise<void> {
  let found: readonly (readonly boolean[])[] = [];
  for (const end = performance.now() + 15_000; performance.now() < end; ) {
    found = await judged(addresses);
    if (JSON.stringify(found) === JSON.stringify(expected)) return;
  }
  assert.deepEqual(found, expected, what);
}

export async function ready(name: string): Promise<void> {
  await kubectl(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', name, '--timeout=60s']);
}

export async function addressesOf(name: string): Promise<readonly string[]> {
  return (await kubectl(['-n', 'shop', 'get', 'pod', name, '-o', 'jsonpath={.status.podIPs[*].ip}'])).split(' ');
}

/** Whether the page comes to this computer by a port of the server's node, for each of the node's addresses. */
export async function pagesHere(port: number = HOST_PORT): Promise<readonly boolean[]> {
  const asked = (NODES[0] ?? []).map(async (host) => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const request = get({ host, port, path: '/index.html', timeout: 2000, agent: false }, (response) => {
      response.setEncoding('utf8').on('data', (text: string) => resolve(isPage(text)));
    });
    request
      .on('timeout', () => request.destroy())
      .on('close', () => resolve(false))
      .on('error', () => resolve(false));
    return await promise;
  });
  return await Promise.all(asked);
}
