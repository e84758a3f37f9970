// What balancers are answered at health check ports, as kube-proxy answers them, and what floods and taken ports get.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { parseAddress } from '#net/address.ts';
import type { BalancerCheck } from '#service/checks.ts';
import { BalancerPages } from './balancer-pages.ts';

const LIMIT_MS = 15_000;
const said: string[] = [];
let well = true;
let pages: BalancerPages;

beforeEach(() => {
  said.length = 0;
  well = true;
  pages = new BalancerPages({ isWell: () => well, tell: (message) => said.push(message) });
});
afterEach(() => pages.close());

function check(port: number, more: Partial<BalancerCheck> & { readonly at?: string } = {}): BalancerCheck {
  const address = parseAddress(more.at ?? '127.0.0.1');
  assert.ok(address);
  return { service: 'shop/web', address, port, localEndpoints: 2, ...more };
}

/** A port that nobody has at this moment. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof bound === 'object' && bound !== null);
  return bound.port;
}

async function soon(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < end, 'it took too long');
    await pause(5);
  }
}

/** Null where nobody listens. */
async function ask(port: number, path = '/', host = '127.0.0.1'): Promise<Response | null> {
  return await fetch(`http://${host}:${port}${path}`).catch(() => null);
}

type Body = { readonly service: object; readonly localEndpoints: number; readonly serviceProxyHealthy: boolean };

async function bodyOf(response: Response | null): Promise<Body> {
  assert.ok(response);
  return (await response.json()) as Body;
}

async function answers(port: number): Promise<Response> {
  let response: Response | null = null;
  await soon(async () => {
    response = await ask(port);
    return response !== null;
  });
  assert.ok(response);
  return response;
}

test('a node with endpoints says 200 and how many, as kube-proxy does; one without them, or that is not well, 503', async () => {
  const port = await freePort();
  pages.follow([check(port)]);
  const response = await answers(port);
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), {
    service: { namespace: 'shop', name: 'web' },
    localEndpoints: 2,
    serviceProxyHealthy: true,
  });
  const { headers } = response;
  assert.deepEqual(
    ['content-type', 'x-content-type-options', 'x-load-balancing-endpoint-weight'].map((name) => headers.get(name)),
    ['application/json', 'nosniff', '2'],
  );
  assert.equal((await ask(port, '/whatever?is=asked'))?.status, 200);
  pages.follow([check(port, { localEndpoints: 0 })]);
  const none = await ask(port);
  assert.deepEqual([none?.status, (await bodyOf(none)).localEndpoints], [503, 0]);
  well = false;
  pages.follow([check(port)]);
  const unwell = await ask(port);
  assert.deepEqual([unwell?.status, (await bodyOf(unwell)).serviceProxyHealthy], [503, false]);
});

test('each address and port is answered for its own Service, IPv6 too, and nobody is where nothing is to be asked', async () => {
  const [a, b] = [await freePort(), await freePort()];
  pages.follow([check(a), check(b, { service: 'bank/db', at: '::1', localEndpoints: 1 })]);
  await answers(a);
  assert.equal(await ask(b), null);
  await soon(async () => (await ask(b, '/', '[::1]')) !== null);
  assert.deepEqual((await bodyOf(await ask(b, '/', '[::1]'))).service, { namespace: 'bank', name: 'db' });
  pages.follow([]);
  await soon(async () => (await ask(a)) === null);
});

test('a port that is taken is said once, tried again, and then answered', { timeout: 60_000 }, async () => {
  const port = await freePort();
  const other = createServer().listen(port, '127.0.0.1');
  await once(other, 'listening');
  pages.follow([check(port)]);
  await soon(() => said.length > 0);
  await pause(2500);
  assert.equal(said.length, 1);
  assert.match(said[0] ?? '', /^no balancer can ask for Service shop\/web at 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  other.close();
  assert.equal((await answers(port)).status, 200);
  assert.match(said[1] ?? '', /can be asked for Service shop\/web again$/);
});

test('one port has 16 connections at most, others are not held up, and a body is not waited for', async () => {
  const [a, b] = [await freePort(), await freePort()];
  pages.follow([check(a), check(b)]);
  await answers(a);
  const held: Socket[] = Array.from({ length: 40 }, () => connect(a, '127.0.0.1').on('error', () => undefined));
  const closed = (): number => held.filter((socket) => socket.closed || socket.readableEnded).length;
  for (const socket of held) socket.resume();
  await soon(() => closed() === 24);
  assert.equal((await answers(b)).status, 200);
  for (const socket of held) socket.destroy();
  await answers(a);
  const poster = connect(a, '127.0.0.1').on('error', () => undefined);
  poster.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx');
  let text = '';
  poster.setEncoding('latin1').on('data', (more) => {
    text += more;
  });
  await once(poster, 'close');
  assert.match(text, /^HTTP\/1.1 200 OK/);
});

test('a namespace leaves others a sixteenth of the ports, and it is said who is not answered', async () => {
  const port = await freePort();
  // 960 addresses of loopback, and one that finds no room.
  const many = Array.from({ length: 961 }, (_, host) => check(port, { at: `127.1.${host >> 8}.${host & 255}` }));
  pages.follow([...many, check(port, { service: 'bank/db' })]);
  assert.deepEqual(said, [
    'balancers are not answered for 1 Services (shop/web among others): a node listens at 1024 health check ports, 960 of one namespace, and at each for one Service',
  ]);
  assert.equal((await answers(port)).status, 200);
  pages.follow([check(port)]);
});
