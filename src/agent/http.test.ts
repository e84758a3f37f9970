// The pages: what is asked for, and what hostile clients get.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { HttpPages } from './http.ts';
import { PLAIN } from './page.ts';

const said: string[] = [];
const tell = (message: string): void => void said.push(message);
const page = (text: string): (() => { status: number; type: string; text: string }) => {
  return () => ({ status: 200, type: PLAIN, text });
};
const pages = new HttpPages({ host: '127.0.0.1', port: 0 }, new Map([['/here', page('hello\n')]]), tell);
after(() => pages.close());

async function port(of: HttpPages = pages): Promise<number> {
  for (;;) {
    if (of.port !== null) return of.port;
    await pause(5);
  }
}

/** How long anything may take on a machine that has other work. */
const LIMIT_MS = 15_000;
/** In which more would come, if more came. */
const QUIET_MS = 200;

/** Resolves once it is so, or the time is over. */
async function soon(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; !(await isSo()) && performance.now() < end; ) await pause(5);
}

/** What comes back for these bytes, until the server has ended the connection, or answered so and says no more. */
async function exchange(bytes: string, expected: RegExp): Promise<string> {
  const socket = connect(await port(), '127.0.0.1');
  let answer = '';
  socket.setEncoding('latin1').on('data', (text) => {
    answer += text;
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  await soon(() => socket.closed || expected.test(answer));
  for (let before: string | null = null; !socket.closed && before !== answer; ) {
    before = answer;
    await pause(QUIET_MS);
  }
  socket.destroy();
  return answer;
}

const HEAD = 'Host: x\r\n';
/** What is sent → how the answer begins, and how many answers come. */
const CASES: readonly (readonly [string, string, RegExp, number])[] = [
  ['a page', `GET /here HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1.1 200 OK\r\n[\s\S]*\r\n\r\nhello\n$/, 1],
  ['a page with a query', `GET /here?verbose HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1.1 200 OK/, 1],
  ['no page', `GET /etc/passwd HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1.1 404 [\s\S]*there is \/here\n$/, 1],
  ['a way up', `GET /../here HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1.1 404 /, 1],
  ['a whole address', `GET http://other/here HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1.1 404 /, 1],
  [
    'another method',
    `POST /here HTTP/1.1\r\n${HEAD}Content-Length: 5\r\n\r\nGET /`,
    /^HTTP\/1.1 405 [\s\S]*allow: GET/i,
    1,
  ],
  [
    'a body, with another request in it',
    `GET /here HTTP/1.1\r\n${HEAD}Content-Length: 40\r\n\r\nGET /here HTTP/1.1\r\n${HEAD}\r\n`,
    /^HTTP\/1.1 413 [\s\S]*connection: close/i,
    1,
  ],
  [
    'a body in pieces',
    `GET /here HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n`,
    /^HTTP\/1.1 413 /,
    1,
  ],
  [
    'a body to come',
    `GET /here HTTP/1.1\r\n${HEAD}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n`,
    /^HTTP\/1.1 413 /,
    1,
  ],
  ['another protocol', `CONNECT a:1 HTTP/1.1\r\n${HEAD}\r\n`, /^$/, 0],
  ['a head without end', `GET /here HTTP/1.1\r\n${HEAD}X: ${'x'.repeat(20_000)}`, /^HTTP\/1.1 431 /, 1],
  ['no HTTP', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', /^HTTP\/1.1 400 /, 1],
];

for (const [what, bytes, expected, answers] of CASES) {
  test(`asked with ${what}`, async () => {
    const answer = await exchange(bytes, expected);
    assert.match(answer, expected);
    assert.equal(answer.split('HTTP/1.1 ').length - 1, answers);
  });
}

test('there are 64 connections at most, and others are served once some end', async () => {
  const at = await port();
  const held = Array.from({ length: 100 }, () => connect(at, '127.0.0.1').on('error', () => undefined));
  const open = (): number => held.filter(({ readyState }) => readyState === 'open').length;
  const closed = (): number => held.filter((socket) => socket.closed).length;
  await soon(() => open() + closed() === held.length && open() <= 64);
  await pause(QUIET_MS);
  assert.deepEqual([open(), closed()], [64, 36]);
  for (const socket of held) socket.destroy();
  const ok = /^HTTP\/1.1 200/;
  let answer = '';
  // The server hears of their end in its own time.
  await soon(async () => {
    answer = await exchange(`GET /here HTTP/1.1\r\n${HEAD}\r\n`, ok);
    return ok.test(answer);
  });
  assert.match(answer, ok);
});

test('a request that does not end is ended', { timeout: 60_000 }, async () => {
  const socket = connect(await port(), '127.0.0.1').on('error', () => undefined);
  socket.write('GET /here HTTP/1.1\r\nX: ');
  socket.resume();
  const startedMs = performance.now();
  await once(socket, 'close');
  assert.ok(performance.now() - startedMs < LIMIT_MS);
});

test('an address that is taken is said once, tried again, and then served', { timeout: 60_000 }, async () => {
  const at = await port();
  said.length = 0;
  const second = new HttpPages({ host: '127.0.0.1', port: at }, new Map([['/second', page('2')]]), tell);
  try {
    await soon(() => said.length > 0);
    await pause(4500);
    assert.deepEqual([said.length, second.port], [1, null]);
    assert.match(said[0] ?? '', /^nobody can ask for http:\/\/127\.0\.0\.1:\d+: .*EADDRINUSE/);
    pages.close();
    assert.equal(await port(second), at);
    await soon(() => said.length > 1);
    assert.match(said[1] ?? '', /can be asked for again$/);
  } finally {
    second.close();
  }
});
