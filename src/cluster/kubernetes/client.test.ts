// Requests over HTTPS: who is asked with what, and every way in which an answer can fail to be one.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { delimited, wireChange, wireObject } from '#test/support/protobuf.ts';
import { ApiClient } from './client.ts';
import type { StreamReader } from './reflector.ts';
import { AnswerTooLarge, ApiError } from './retry.ts';

const folder = mkdtempSync(join(tmpdir(), 'moat-client-'));
const file = (name: string): string => join(folder, name);
let certificate = '';
let key = '';

before(() => {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const args = ['req', '-x509', ...curve, ...subject, '-keyout', file('key'), '-out', file('crt'), '-days', '2'];
  execFileSync('openssl', args, { stdio: 'ignore' });
  [certificate, key] = [readFileSync(file('crt'), 'utf8'), readFileSync(file('key'), 'utf8')];
});

after(() => rmSync(folder, { recursive: true }));

type Serve = (request: IncomingMessage, response: ServerResponse) => void;

/** A server that answers so, and a client of it. */
async function serve(context: TestContext, answer: Serve, ca: () => string = () => certificate): Promise<ApiClient> {
  const server: Server = createServer({ cert: certificate, key }, answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  let asked = 0;
  return new ApiClient(() => ({
    server: new URL(`https://127.0.0.1:${port}/under/`),
    ...{ ca: ca(), token: `token-${++asked}` },
  }));
}

const SIGNAL = new AbortController().signal;

/** Everything that a watch says, or its failure. */
async function watch(
  client: ApiClient,
  silentMs = 5000,
  more: Pick<StreamReader, 'format'> = {},
): Promise<readonly unknown[]> {
  const heard: unknown[] = [];
  const lines = (values: readonly unknown[]): void => void heard.push(...values);
  await client.stream('/w?watch=true', {
    signal: SIGNAL,
    silentMs,
    opened: () => heard.push('opened'),
    lines,
    ...more,
  });
  return heard;
}

test('each request has the token of its time, under the path of the server', async (t) => {
  const asked: string[] = [];
  const client = await serve(t, ({ url, headers }, response) => {
    asked.push(`${url} ${headers.authorization} ${headers.accept}`);
    response.end('{"a":1}');
  });
  assert.deepEqual(await client.get('/api/v1/pods?limit=1', SIGNAL), { a: 1 });
  await client.get('/b', SIGNAL);
  const json = 'application/json';
  assert.deepEqual(asked, [`/under/api/v1/pods?limit=1 Bearer token-1 ${json}`, `/under/b Bearer token-2 ${json}`]);
});

test('a server that cannot prove who it is gets no token', async (t) => {
  let asked = 0;
  const client = await serve(
    t,
    () => asked++,
    () => '',
  );
  await assert.rejects(client.get('/x', SIGNAL), /^Error: \/x: self-signed certificate/);
  assert.equal(asked, 0);
});

test('a refusal has its status, what the server says, and how long it asks to wait', async (t) => {
  const client = await serve(t, (_, response) => {
    response.writeHead(429, { 'retry-after': '7' }).end('{"kind":"Status","message":"slow down"}');
  });
  const error = await client.get('/x?limit=2', SIGNAL).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof ApiError);
  assert.deepEqual(
    [error.status, error.retryAfterMs, error.message],
    [429, 7000, '/x: 429 Too Many Requests: slow down'],
  );
  const proxy = await serve(t, (_, response) => void response.writeHead(502).end('<html>'));
  await assert.rejects(watch(proxy), { status: 502, retryAfterMs: null, message: '/w: 502 Bad Gateway' });
});

test('of an answer that never ends, no more is kept than the largest one has', async (t) => {
  const endless: Serve = (request, response) => {
    const more = (): void => {
      while (!request.destroyed && response.write('x'.repeat(1 << 20)));
    };
    response.on('drain', more);
    more();
  };
  const client = await serve(t, endless);
  await assert.rejects(client.get('/x?limit=200', SIGNAL), AnswerTooLarge);
  await assert.rejects(watch(client), /^Error: \/w: a line has more than \d+ bytes/);
});

test('a watch gives whole lines, however they are cut, and ends in order', async (t) => {
  const client = await serve(t, (_, response) => {
    response.write('{"a":1}\n{"b":"é');
    setTimeout(() => response.end('"}\n{"c":3}\n'), 20);
  });
  assert.deepEqual(await watch(client), ['opened', { a: 1 }, { b: 'é' }, { c: 3 }]);
});

const BROKEN: readonly (readonly [what: string, answer: Serve, message: RegExp])[] = [
  [
    'ends in the middle of a line',
    (_, response) => void response.end('{"a":1}\n{"b"'),
    /^Error: \/w: the answer broke off in the middle of a change/,
  ],
  ['says what is not JSON', (_, response) => void response.end('no\n'), /^SyntaxError: \/w: /],
  [
    'is cut',
    (_, response) => {
      response.write('{"a":1}\n');
      setTimeout(() => response.destroy(), 20);
    },
    /^Error: \/w: aborted/,
  ],
  [
    'says nothing for too long',
    (_, response) => void response.write('{"a":1}\n'),
    /^Error: \/w: nothing was heard for 0.2 s/,
  ],
  ['is not even opened', () => undefined, /^Error: \/w: nothing was heard for 0.2 s/],
];

for (const [what, answer, message] of BROKEN) {
  test(`a watch that ${what} has failed`, async (t) => {
    await assert.rejects(watch(await serve(t, answer), 200), message);
  });
}

const STREAMED = 'application/vnd.kubernetes.protobuf;stream=watch';
const change = (version: string): Buffer => {
  const metadata = Buffer.concat([delimited(1, Buffer.from('a')), delimited(6, Buffer.from(version))]);
  return wireChange('ADDED', wireObject('v1', 'Pod', delimited(1, metadata)));
};
const added = (version: string): unknown => ({
  type: 'ADDED',
  object: { metadata: { name: 'a', resourceVersion: version } },
});

test('protobuf is asked for where it is wanted, and what comes is read as what it is', async (t) => {
  const asked: (string | undefined)[] = [];
  let type = 'application/vnd.kubernetes.protobuf';
  const client = await serve(t, ({ url, headers: { accept } }, response) => {
    asked.push(accept);
    response.setHeader('content-type', url?.includes('watch') ? STREAMED : type);
    if (url?.includes('watch')) response.end(Buffer.concat([change('5'), change('6')]));
    else if (url?.includes('refused'))
      response.writeHead(403).end(wireObject('v1', 'Status', delimited(3, Buffer.from('no'))));
    else response.end(type === 'application/json' ? '{"json":1}' : wireObject('v1', 'PodList', Buffer.alloc(0)));
  });
  assert.deepEqual(await client.get('/x', SIGNAL, 'protobuf'), { items: [] });
  type = 'application/json';
  assert.deepEqual(await client.get('/x', SIGNAL, 'protobuf'), { json: 1 });
  type = 'application/vnd.kubernetes.protobuf';
  await assert.rejects(client.get('/refused', SIGNAL, 'protobuf'), {
    status: 403,
    message: '/refused: 403 Forbidden: no',
  });
  assert.deepEqual(await watch(client, 5000, { format: 'protobuf' }), ['opened', added('5'), added('6')]);
  const object = 'application/vnd.kubernetes.protobuf, application/json';
  assert.deepEqual(asked, [object, object, object, `${STREAMED}, ${object}`]);
});

test('a watch that rests takes what came meanwhile together, and misses nothing', async (t) => {
  const [restMs, count] = [50, 60];
  const client = await serve(t, async (_, response) => {
    response.setHeader('content-type', STREAMED);
    for (let version = 1; version <= count; version++) {
      response.write(change(String(version)));
      await pause(5);
    }
    response.end();
  });
  const times: number[] = [];
  const heard: unknown[] = [];
  const lines = (values: readonly unknown[]): void => {
    heard.push(...values);
    times.push(performance.now());
  };
  const opened = (): void => undefined;
  await client.stream('/w?watch=true', { signal: SIGNAL, silentMs: 5000, format: 'protobuf', restMs, opened, lines });
  assert.deepEqual(
    heard,
    Array.from({ length: count }, (__, index) => added(String(index + 1))),
  );
  const moments = times.filter((at, index) => index === 0 || at - (times[index - 1] ?? 0) > restMs / 2).length;
  const lastsMs = (times.at(-1) ?? 0) - (times[0] ?? 0);
  assert.ok(moments <= lastsMs / restMs + 2, `${moments} moments in ${lastsMs} ms`);
});

test('a watch that breaks off while it rests has failed, after what came before', async (t) => {
  const client = await serve(t, (_, response) => {
    response.setHeader('content-type', STREAMED);
    response.write(change('1'));
    setTimeout(() => response.write(change('2')), 5);
    setTimeout(() => response.destroy(), 10);
  });
  const heard: unknown[] = [];
  const lines = (values: readonly unknown[]): void => void heard.push(...values);
  const opened = (): void => undefined;
  const asked = client.stream('/w', { signal: SIGNAL, silentMs: 5000, format: 'protobuf', restMs: 50, opened, lines });
  await assert.rejects(asked, /^Error: \/w: aborted/);
  assert.deepEqual(heard[0], added('1'));
});
